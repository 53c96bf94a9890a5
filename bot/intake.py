"""The way in, the same for every door: store the event, acknowledge, then handle it.

Invariant: nothing is acknowledged before its inbox row is committed, and nothing is handled twice at once.

Taking in goes before working off. What is stored waits here for its turn, so that a burst is acknowledged at the speed
of the database and not at that of the work it brings. Waiting is safe: the leases of what this process holds are
renewed, and when it dies another one takes the events up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from records.database import Database
from records.inbox import LEASE, Inbox, InboxEvent

HANDLERS = 8
"""Events of a door that are handled at once as soon as they come; they share the processor with acknowledgements."""
ONE_MORE_EVERY_S = 0.02
"""Seconds after which one more is started nevertheless: those under way may be waiting, for a model perhaps."""
MOST_WAITING = 5_000
"""Events kept in memory for their turn. Those beyond stay in the inbox and are due when their lease ends."""
MOST_RESUMED = 100
"""Events taken up from the inbox at a time."""
MARK_EVERY_S = 0.005
"""Seconds that a handled event waits for others, to be marked as done in one write with them."""
RENEW_EVERY_S = LEASE.total_seconds() / 4
"""Seconds between renewals of the leases of what this process holds."""
RENEWED_TOGETHER = 200
"""Leases renewed in one write."""

Handler = Callable[[InboxEvent], Awaitable[None]]

logger = structlog.get_logger(__name__)


class Intake:
    """Stores events of one door and hands them to that door's handler.

    event = await intake.store(unique_key=..., kind="command", body=body, headers={})
    if event is not None:
        intake.start(event)      # after the platform has its 200
    """

    def __init__(self, source: str, database: Database, inbox: Inbox, handler: Handler) -> None:
        self.source = source
        self._database = database
        self._inbox = inbox
        self._handler = handler
        self.observe: Callable[[str, str], None] = _unobserved
        """Told (door, outcome) for each event: `stored`, `repeated`, `handled`, `failed`."""
        self._waiting: deque[InboxEvent] = deque()
        self._running: dict[asyncio.Task[None], str] = {}
        self._busy = 0
        self._putting_off = False
        self._one_more: asyncio.TimerHandle | None = None
        self._handled: list[str] = []
        self._marking: asyncio.Task[None] | None = None
        self._renewed_at = 0.0

    async def store(self, *, unique_key: str, kind: str, body: bytes, headers: dict[str, str]) -> InboxEvent | None:
        """Keep the event durably; None when it is a repetition of one we hold."""
        event = await self._database.write(
            lambda tx: self._inbox.store(
                tx, source=self.source, unique_key=unique_key, kind=kind, body=body, headers=headers
            )
        )
        self.observe(self.source, "repeated" if event is None else "stored")
        return event

    def start(self, event: InboxEvent) -> None:
        """Handle an event in the background, when its turn comes."""
        if len(self._waiting) >= MOST_WAITING:
            if not self._putting_off:
                logger.warning("events_put_off", waiting=len(self._waiting))
            self._putting_off = True
            return
        self._waiting.append(event)
        self._start_waiting()

    async def handle(self, event: InboxEvent) -> None:
        """Handle an event now and record how it ended; a failure leaves it due for another try."""
        if await self._try(event):
            await self._mark_handled(event.id)

    async def resume(self) -> int:
        """Take up events whose handler died or failed; returns how many. What this process holds keeps its lease."""
        # Claiming counts as a try: what there is no room for must not be claimed until it counts as tried too often.
        room = min(MOST_WAITING - len(self._waiting), MOST_RESUMED)
        await self._renew_leases()
        events = await self._database.write(lambda tx: self._inbox.claim_abandoned(tx, self.source, limit=room))
        for event in events:
            self.start(event)
        return len(events)

    async def drain(self) -> None:
        """Wait until everything started has ended and is marked so."""
        while self._running:
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _renew_leases(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._renewed_at < RENEW_EVERY_S:
            return
        self._renewed_at = now
        held = [*self._running.values(), *(event.id for event in self._waiting)]
        for start in range(0, len(held), RENEWED_TOGETHER):
            # In pieces, between which what waits to be stored gets its turn.
            piece = held[start : start + RENEWED_TOGETHER]
            await self._database.write(partial(self._inbox.renew, event_ids=piece))

    def _start_waiting(self) -> None:
        while self._waiting and self._busy < HANDLERS:
            self._start_one()
        if self._waiting and self._one_more is None:
            self._one_more = asyncio.get_running_loop().call_later(ONE_MORE_EVERY_S, self._start_one_more)

    def _start_one_more(self) -> None:
        self._one_more = None
        if self._waiting:
            self._start_one()
        self._start_waiting()

    def _start_one(self) -> None:
        event = self._waiting.popleft()
        if len(self._waiting) < MOST_WAITING / 2:
            self._putting_off = False
        self._busy += 1
        task = asyncio.create_task(self._take_turn(event))
        self._running[task] = event.id
        task.add_done_callback(self._running.pop)

    async def _take_turn(self, event: InboxEvent) -> None:
        try:
            succeeded = await self._try(event)
        finally:
            self._busy -= 1
            self._start_waiting()
        if succeeded:
            await self._mark_handled(event.id)

    async def _try(self, event: InboxEvent) -> bool:
        with structlog.contextvars.bound_contextvars(request_id=event.id, door=self.source):
            try:
                await self._handler(event)
            except Exception:
                self.observe(self.source, "failed")
                logger.exception("event_failed", kind=event.kind, attempts=event.attempts)
                return False
        self.observe(self.source, "handled")
        return True

    async def _mark_handled(self, event_id: str) -> None:
        """Mark an event as done, in one write with others that end about now; returns after that write.

        A process that dies in between has handled the event and not said so, just as if it had died at the handler's
        last line: the event is handled again when its lease ends, which every handler has to bear in any case.
        """
        self._handled.append(event_id)
        if self._marking is None:
            self._marking = asyncio.create_task(self._mark_together())
        await asyncio.shield(self._marking)

    async def _mark_together(self) -> None:
        await asyncio.sleep(MARK_EVERY_S)
        self._marking = None
        event_ids, self._handled = self._handled, []
        try:
            await self._database.write(lambda tx: self._inbox.finish_all(tx, event_ids))
        except Exception:
            logger.exception("events_not_marked", events=len(event_ids))


def _unobserved(door: str, outcome: str) -> None:
    """Nobody counts."""
