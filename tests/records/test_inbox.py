"""The inbox, on both databases: one row a key, leases, giving up, and bodies nobody else can read."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from records.database import Database
from records.encryption import Cipher, KeyUnusable
from records.inbox import LEASE, MAX_ATTEMPTS, Inbox, InboxEvent, inbox
from records.schema import metadata
from tests.postgres import postgres_url

ROOT = Path(__file__).resolve().parents[2]
KEY = bytes(range(32))


class Box:
    """An inbox in a database whose clock the test moves."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.passed = timedelta()
        self.database = Database(url, clock_shift=lambda: self.passed)
        metadata.create_all(self.database.engine)
        self.inbox = Inbox(Cipher(KEY), self.database.dialect)

    async def store(self, key: str = "k1", *, source: str = "slack", body: bytes = b"hello") -> InboxEvent | None:
        return await self.database.write(
            lambda tx: self.inbox.store(tx, source=source, unique_key=key, kind="event", body=body, headers={"a": "ü"})
        )

    async def claim(self, source: str = "slack", *, limit: int = 20) -> list[InboxEvent]:
        return await self.database.write(lambda tx: self.inbox.claim_abandoned(tx, source, limit=limit))

    async def column(self, name: str, key: str = "k1") -> object:
        wanted = select(inbox.c[name]).where(inbox.c.unique_key == key)
        return await self.database.read(lambda tx: tx.execute(wanted).scalar_one())


@pytest.fixture(params=["sqlite", "postgresql"])
def box(request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """An empty inbox."""
    if request.param == "sqlite":
        opened = Box(f"sqlite:///{tmp_path / 'inbox.db'}")
        yield opened
        opened.database.close()
        return
    with postgres_url(tmp_path_factory) as url:
        opened = Box(url)
        yield opened
        opened.database.close()


async def test_an_event_comes_back_as_it_was_stored(box: Box) -> None:
    stored = await box.store(body=b"\x00what was said")
    assert stored is not None
    box.passed = LEASE
    (claimed,) = await box.claim()
    assert claimed == replace(stored, attempts=2)
    assert (claimed.body, claimed.headers, claimed.source, claimed.kind) == (
        b"\x00what was said",
        {"a": "ü"},
        "slack",
        "event",
    )


async def test_of_fifty_stores_of_one_key_exactly_one_gets_the_event(box: Box) -> None:
    found = await asyncio.gather(*(box.store("same") for _ in range(50)), *(box.store(f"o{n}") for n in range(5)))
    assert sum(event is not None for event in found[:50]) == 1
    assert all(event is not None for event in found[50:])
    held = await box.database.read(lambda tx: tx.execute(select(inbox.c.unique_key)).scalars().all())
    assert sorted(held) == ["o0", "o1", "o2", "o3", "o4", "same"]


async def test_a_repetition_is_ignored_also_when_the_first_one_is_finished(box: Box) -> None:
    first = await box.store()
    assert first is not None
    await box.database.write(lambda tx: box.inbox.finish(tx, first.id))
    assert await box.store() is None
    assert await box.database.read(lambda tx: box.inbox.held(tx, "k1"))
    assert not await box.database.read(lambda tx: box.inbox.held(tx, "k2"))


async def test_nobody_gets_an_event_before_its_lease_ends_and_one_does_afterwards(box: Box) -> None:
    await box.store()
    box.passed = LEASE - timedelta(seconds=2)
    assert await box.claim() == []
    box.passed = LEASE
    assert [event.attempts for event in await box.claim()] == [2]
    assert await box.claim() == [], "it is leased again"


async def test_claims_at_the_same_time_share_the_events_out(box: Box) -> None:
    for number in range(40):
        await box.store(f"k{number}")
    box.passed = LEASE
    claims = await asyncio.gather(*(box.claim(limit=10) for _ in range(8)))
    ids = [event.id for claimed in claims for event in claimed]
    ids += [event.id for event in await box.claim(limit=40)]
    assert len(ids) == len(set(ids)) == 40


async def test_a_door_claims_its_own_events_oldest_first(box: Box) -> None:
    await box.store("t1", source="teams")
    for key in ("first", "second", "third"):
        await box.store(key, body=key.encode())
        box.passed += timedelta(seconds=1)
    box.passed += LEASE
    claimed = await box.claim(limit=2)
    assert {event.body for event in claimed} == {b"first", b"second"}


async def test_an_event_that_keeps_failing_is_set_aside(box: Box) -> None:
    await box.store()
    for attempt in range(2, MAX_ATTEMPTS + 1):
        box.passed += LEASE
        assert [event.attempts for event in await box.claim()] == [attempt]
    box.passed += LEASE
    assert await box.claim() == []
    assert await box.column("state") == "failed"
    assert await box.column("finished_at") is not None


async def test_finished_events_are_never_due(box: Box) -> None:
    events = [await box.store(f"k{number}") for number in range(5)]
    ids = [event.id for event in events if event is not None]
    await box.database.write(lambda tx: box.inbox.finish_all(tx, ids[:4]))
    await box.database.write(lambda tx: box.inbox.finish(tx, ids[4], state="failed"))
    box.passed = LEASE
    assert await box.claim() == []
    assert [await box.column("state", f"k{n}") for n in range(5)] == ["done", "done", "done", "done", "failed"]
    assert await box.column("finished_at", "k0") is not None


async def test_what_was_given_up_stays_so_when_its_handler_ends_after_all(box: Box) -> None:
    event = await box.store()
    assert event is not None
    await box.database.write(lambda tx: box.inbox.finish(tx, event.id, state="failed"))
    await box.database.write(lambda tx: box.inbox.finish_all(tx, [event.id]))
    await box.database.write(lambda tx: box.inbox.finish(tx, event.id))
    assert await box.column("state") == "failed"


async def test_a_renewed_lease_keeps_others_away_and_a_released_event_is_due_at_once(box: Box) -> None:
    event = await box.store()
    assert event is not None
    box.passed = LEASE - timedelta(seconds=2)
    await box.database.write(lambda tx: box.inbox.renew(tx, [event.id]))
    await box.database.write(lambda tx: box.inbox.renew(tx, []))
    box.passed = LEASE + timedelta(seconds=10)
    assert await box.claim() == []
    await box.database.write(lambda tx: box.inbox.release(tx, event.id))
    assert [claimed.id for claimed in await box.claim()] == [event.id]


async def test_a_body_opens_only_in_its_own_row_and_with_the_key(box: Box) -> None:
    secret = b"the words of a person"
    first = await box.store("k1", body=secret)
    await box.store("k2", body=b"other words")
    assert first is not None
    sealed = await box.column("body", "k1")
    assert isinstance(sealed, bytes)
    assert secret not in sealed
    with pytest.raises(KeyUnusable):
        Cipher(bytes(32)).open(sealed, context=f"inbox|{first.id}")
    await box.database.write(lambda tx: tx.execute(update(inbox).where(inbox.c.unique_key == "k2").values(body=sealed)))
    box.passed = LEASE
    with pytest.raises(KeyUnusable):
        await box.claim()


async def test_forgetting_takes_old_finished_events_only(box: Box) -> None:
    old = await box.store("old")
    await box.store("old but open")
    box.passed = timedelta(days=8)
    recent = await box.store("recent")
    assert old is not None
    assert recent is not None
    await box.database.write(lambda tx: box.inbox.finish_all(tx, [old.id, recent.id]))
    assert await box.database.write(lambda tx: box.inbox.forget_before(tx, tx.now - timedelta(days=7))) == 1
    held = await box.database.read(lambda tx: tx.execute(select(inbox.c.unique_key)).scalars().all())
    assert sorted(held) == ["old but open", "recent"]


async def test_an_event_stored_by_a_process_killed_before_its_200_is_ignored_as_repetition_and_handled(
    box: Box,
) -> None:
    """The platform never got its 200 and sends again; the event is neither lost nor taken twice."""
    program = (
        "import asyncio, os, signal, sys\n"
        "from tests.records.test_inbox import Box\n"
        "async def main():\n"
        "    await Box(sys.argv[1]).store('sent twice')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program, box.url], env=environment)
    assert child.returncode == -signal.SIGKILL
    assert await box.store("sent twice") is None
    box.passed = LEASE
    assert [event.attempts for event in await box.claim()] == [2]
    assert await box.claim() == []
