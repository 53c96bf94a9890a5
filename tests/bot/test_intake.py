"""The way in: what is stored is handled once, in turn, and marked; a burst waits without losing its lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select
from structlog.testing import capture_logs

from bot import intake as module
from bot.intake import HANDLERS, Intake
from records.database import Database
from records.encryption import Cipher
from records.inbox import LEASE, Inbox, InboxEvent, inbox
from records.schema import metadata


class Handler:
    """Handles events when the test lets it."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.let_go = asyncio.Event()
        self.problem: Exception | None = None

    async def __call__(self, event: InboxEvent) -> None:
        self.begun.append(event.id)
        await self.let_go.wait()
        if self.problem is not None:
            raise self.problem


class Door:
    """An intake over a real database whose clock the test moves."""

    def __init__(self, folder: Path) -> None:
        self.passed = timedelta()
        self.database = Database(f"sqlite:///{folder / 'intake.db'}", clock_shift=lambda: self.passed)
        metadata.create_all(self.database.engine)
        self.inbox = Inbox(Cipher(bytes(32)), "sqlite")
        self.handler = Handler()
        self.intake = self.another(self.handler)

    def another(self, handler: Callable[[InboxEvent], Awaitable[None]]) -> Intake:
        return Intake("slack", self.database, self.inbox, handler)

    async def store(self, count: int) -> list[InboxEvent]:
        found = await asyncio.gather(
            *(self.intake.store(unique_key=f"k{n}", kind="event", body=b"x", headers={}) for n in range(count))
        )
        return [event for event in found if event is not None]

    async def states(self) -> dict[str, int]:
        counted = select(inbox.c.state.label("state"), func.count().label("rows")).group_by(inbox.c.state)
        rows = await self.database.read(lambda tx: tx.execute(counted).all())
        return {str(row.state): int(row.rows) for row in rows}


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """Nothing stored yet."""
    opened = Door(tmp_path)
    yield opened
    opened.handler.let_go.set()
    await opened.intake.drain()
    await asyncio.to_thread(opened.database.close)


async def begun(handler: Handler, count: int) -> None:
    """Until so many events are being handled."""
    async with asyncio.timeout(20):
        while len(handler.begun) < count:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_an_event_handled_is_marked_when_handle_returns(door: Door) -> None:
    (event,) = await door.store(1)
    door.handler.let_go.set()
    await door.intake.handle(event)
    assert await door.states() == {"done": 1}


async def test_a_burst_is_handled_a_few_at_a_time_in_the_order_it_came_and_all_of_it_is_marked(door: Door) -> None:
    events = await door.store(HANDLERS * 4)
    for event in events:
        door.intake.start(event)
    await begun(door.handler, HANDLERS)
    assert len(door.handler.begun) == HANDLERS
    door.handler.let_go.set()
    await door.intake.drain()
    assert door.handler.begun == [event.id for event in events]
    assert await door.states() == {"done": len(events)}


async def test_handlers_that_wait_for_something_slow_do_not_hold_up_the_others_for_ever(door: Door) -> None:
    events = await door.store(HANDLERS + 3)
    for event in events:
        door.intake.start(event)
    await begun(door.handler, HANDLERS + 3)


async def test_a_failure_leaves_the_event_due_and_does_not_stop_the_next(door: Door) -> None:
    door.handler.let_go.set()
    door.handler.problem = RuntimeError("no")
    for event in await door.store(HANDLERS + 1):
        door.intake.start(event)
    await door.intake.drain()
    assert await door.states() == {"received": HANDLERS + 1}
    door.handler.problem = None
    door.passed = LEASE
    assert await door.intake.resume() == HANDLERS + 1
    await door.intake.drain()
    assert await door.states() == {"done": HANDLERS + 1}


async def test_what_this_process_still_holds_is_not_taken_up_a_second_time(door: Door) -> None:
    for event in await door.store(HANDLERS + 2):
        door.intake.start(event)
    other = Handler()
    door.passed = LEASE * 2
    assert await door.intake.resume() == 0, "renewed before anything is claimed"
    assert await door.another(other).resume() == 0
    assert other.begun == []


async def test_events_of_a_process_that_died_are_taken_up_by_another(door: Door) -> None:
    await door.store(3)
    door.passed = LEASE
    handler = Handler()
    handler.let_go.set()
    other = door.another(handler)
    assert await other.resume() == 3
    await other.drain()
    assert await door.states() == {"done": 3}


async def test_more_than_memory_should_hold_stays_in_the_inbox(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    monkeypatch.setattr(module, "ONE_MORE_EVERY_S", 3600)
    events = await door.store(HANDLERS + 5)
    with capture_logs() as logs:
        for event in events:
            door.intake.start(event)
        door.passed = LEASE
        assert await door.intake.resume() == 0, "no room: claimed in vain, they would soon count as tried too often"
    assert [entry["event"] for entry in logs] == ["events_put_off"], "said once, not for each"
    door.handler.let_go.set()
    await door.intake.drain()
    assert await door.states() == {"done": HANDLERS + 2, "received": 3}
    assert await door.intake.resume() == 2, "as many as there is room for"
    assert await door.intake.resume() == 1


async def test_a_mark_that_cannot_be_written_leaves_the_event_due(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    (event,) = await door.store(1)
    door.handler.let_go.set()

    def refuse(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(door.inbox, "finish_all", refuse)
    await door.intake.handle(event)
    assert await door.states() == {"received": 1}
