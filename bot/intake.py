"""The way in, the same for every door: store the event, acknowledge, then handle it.

Invariant: nothing is acknowledged before its inbox row is committed, and nothing is handled twice at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from records.database import Database
from records.inbox import Inbox, InboxEvent

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
        self._running: set[asyncio.Task[None]] = set()

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
        """Handle an event in the background."""
        task = asyncio.create_task(self.handle(event))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def handle(self, event: InboxEvent) -> None:
        """Handle an event now and record how it ended; a failure leaves it due for another try."""
        with structlog.contextvars.bound_contextvars(request_id=event.id, door=self.source):
            try:
                await self._handler(event)
            except Exception:
                self.observe(self.source, "failed")
                logger.exception("event_failed", kind=event.kind, attempts=event.attempts)
                return
            self.observe(self.source, "handled")
            await self._database.write(lambda tx: self._inbox.finish(tx, event.id))

    async def resume(self) -> int:
        """Take up events whose handler died or failed; returns how many."""
        events = await self._database.write(lambda tx: self._inbox.claim_abandoned(tx, self.source))
        for event in events:
            self.start(event)
        return len(events)

    async def drain(self) -> None:
        """Wait until everything started has ended."""
        while self._running:
            await asyncio.gather(*self._running, return_exceptions=True)


def _unobserved(door: str, outcome: str) -> None:
    """Nobody counts."""
