"""The way to the database, on both of them: what `write` promises, and what happens when something goes wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError

from records.database import GROUP_COMMIT, Database, DatabaseUnavailable, Transaction, Work
from tests.postgres import postgres_url

ROOT = Path(__file__).resolve().parents[2]
tables = MetaData()
things = Table("things", tables, Column("name", String(50), primary_key=True), Column("count", Integer, nullable=False))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with an empty table."""
    if request.param == "sqlite":
        address = f"sqlite:///{tmp_path / 'test.db'}"
        database = Database(address)
        tables.create_all(database.engine)
        database.close()
        yield address
        return
    with postgres_url(tmp_path_factory) as address:
        database = Database(address)
        tables.create_all(database.engine)
        database.close()
        yield address


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """Open for the test."""
    opened = Database(url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    """For what only SQLite has: the one writer."""
    opened = Database(f"sqlite:///{tmp_path / 'writer.db'}")
    tables.create_all(opened.engine)
    yield opened
    opened.close()


class Gate:
    """A function of the database that holds the writer until it is let go, so that others gather behind it."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, tx: Transaction) -> None:
        self.entered.set()
        assert self.let_go.wait(20)


def add(tx: Transaction, name: str) -> str:
    tx.execute(insert(things), {"name": name, "count": 0})
    return name


def adding(name: str) -> Work[str]:
    return lambda tx: add(tx, name)


def names(database: Database) -> set[str]:
    """What another connection sees, with nothing of ours in between."""
    other = Database(database.engine.url.render_as_string(hide_password=False))
    try:
        return set(other.query(lambda tx: tx.execute(select(things.c.name)).scalars().all()))
    finally:
        other.close()


def commits(database: Database) -> list[str]:
    """Every COMMIT that reaches SQLite from now on."""
    seen: list[str] = []

    @event.listens_for(database.engine, "connect")
    def watch(connection: object, record: object) -> None:
        connection.set_trace_callback(lambda sql: seen.append(sql) if sql == "COMMIT" else None)  # type: ignore[attr-defined]

    database.engine.dispose()
    return seen


async def all_wait(database: Database, count: int) -> None:
    """Let the tasks just made hand in what they have; the writer is held meanwhile."""
    await asyncio.sleep(0)
    assert database._writer is not None
    assert database._writer._waiting.qsize() == count


async def test_what_write_returned_for_is_seen_by_another_connection(database: Database) -> None:
    for name in ("one", "two"):
        assert await database.write(adding(name)) == name
        assert name in names(database)


async def test_a_function_that_raises_leaves_nothing_and_its_error_arrives(database: Database) -> None:
    def fail(tx: Transaction) -> None:
        add(tx, "half done")
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await database.write(fail)
    assert names(database) == set()
    await database.write(adding("afterwards"))
    assert names(database) == {"afterwards"}


async def test_a_function_that_raises_does_not_hurt_those_beside_it(database: Database) -> None:
    def fail(tx: Transaction) -> None:
        add(tx, "half done")
        raise LookupError

    wanted = {f"n{number}" for number in range(20)}
    works: list[Work[str | None]] = [adding(name) for name in sorted(wanted)]
    works[10:10] = [fail, fail]
    found = await asyncio.gather(*(database.write(work) for work in works), return_exceptions=True)
    assert sum(isinstance(value, LookupError) for value in found) == 2
    assert names(database) == wanted


async def test_an_error_of_the_database_is_sqlalchemys_and_shows_no_parameters(database: Database) -> None:
    await database.write(adding("what somebody wrote"))
    with pytest.raises(IntegrityError) as caught:
        await database.write(adding("what somebody wrote"))
    assert "[parameters:" not in str(caught.value)


async def test_a_prepared_statement_fails_with_the_same_kind_of_error(database: Database) -> None:
    with pytest.raises(DBAPIError):
        await database.write(lambda tx: tx.execute_prepared("INSERT INTO nowhere VALUES (1)", [()]))
    assert await database.write(adding("afterwards")) == "afterwards"


async def test_functions_that_wait_together_share_one_commit(sqlite: Database) -> None:
    seen = commits(sqlite)
    gate = Gate()
    held = asyncio.create_task(sqlite.write(gate))
    await asyncio.to_thread(gate.entered.wait, 20)
    waiting = [asyncio.create_task(sqlite.write(adding(f"n{n}"))) for n in range(GROUP_COMMIT + 1)]
    await all_wait(sqlite, len(waiting))
    assert seen == []
    gate.let_go.set()
    await asyncio.gather(held, *waiting)
    assert len(seen) == 3, "the gate, one full group, and the one beyond it"
    assert len(names(sqlite)) == GROUP_COMMIT + 1


async def test_a_group_that_cannot_commit_fails_as_a_whole_and_the_next_one_works(sqlite: Database) -> None:
    def spoil(tx: Transaction) -> None:
        tx._connection.exec_driver_sql("ROLLBACK")  # what SQLite does of itself when the disk is full

    gate = Gate()
    held = asyncio.create_task(sqlite.write(gate))
    await asyncio.to_thread(gate.entered.wait, 20)
    beside = asyncio.create_task(sqlite.write(adding("beside")))
    spoiling = asyncio.create_task(sqlite.write(spoil))
    await all_wait(sqlite, 2)
    gate.let_go.set()
    found = await asyncio.gather(held, beside, spoiling, return_exceptions=True)
    assert found[0] is None
    assert isinstance(found[1], DBAPIError)
    assert isinstance(found[2], DBAPIError)
    assert names(sqlite) == set()
    await sqlite.write(adding("afterwards"))
    assert names(sqlite) == {"afterwards"}


async def test_an_exception_that_no_future_carries_stops_nobody(sqlite: Database) -> None:
    gate = Gate()
    held = asyncio.create_task(sqlite.write(gate))
    await asyncio.to_thread(gate.entered.wait, 20)
    stopping = asyncio.create_task(sqlite.write(lambda tx: next(iter(()))))
    beside = asyncio.create_task(sqlite.write(adding("beside")))
    await all_wait(sqlite, 2)
    gate.let_go.set()
    await held
    with pytest.raises(RuntimeError):
        await stopping
    assert await beside == "beside"


async def test_a_write_cancelled_while_it_waits_is_not_carried_out(sqlite: Database) -> None:
    gate = Gate()
    held = asyncio.create_task(sqlite.write(gate))
    await asyncio.to_thread(gate.entered.wait, 20)
    cancelled = asyncio.create_task(sqlite.write(adding("cancelled")))
    kept = asyncio.create_task(sqlite.write(adding("kept")))
    await all_wait(sqlite, 2)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    gate.let_go.set()
    await asyncio.gather(held, kept)
    assert names(sqlite) == {"kept"}


async def test_a_write_cancelled_when_its_turn_has_come_is_carried_out_whole(sqlite: Database) -> None:
    gate = Gate()

    def slowly(tx: Transaction) -> None:
        add(tx, "begun")
        gate(tx)
        add(tx, "finished")

    begun = asyncio.create_task(sqlite.write(slowly))
    await asyncio.to_thread(gate.entered.wait, 20)
    begun.cancel()
    with pytest.raises(asyncio.CancelledError):
        await begun
    gate.let_go.set()
    await sqlite.write(lambda tx: None)
    assert names(sqlite) == {"begun", "finished"}


async def test_close_finishes_what_was_handed_in(url: str) -> None:
    database = Database(url)
    works = [asyncio.create_task(database.write(adding(f"n{n}"))) for n in range(50)]
    await asyncio.sleep(0)
    await asyncio.to_thread(database.close)
    await asyncio.gather(*works)
    assert len(names(database)) == 50


async def test_a_loop_that_is_gone_does_not_stop_the_writer(sqlite: Database) -> None:
    gate = Gate()

    def hand_in_and_leave() -> None:
        async def leave() -> None:
            task = asyncio.create_task(sqlite.write(gate))
            await asyncio.to_thread(gate.entered.wait, 20)
            task.cancel()

        asyncio.run(leave())

    await asyncio.to_thread(hand_in_and_leave)
    gate.let_go.set()
    assert await sqlite.write(adding("afterwards")) == "afterwards"


def test_transact_and_query_work_without_an_event_loop(database: Database) -> None:
    assert database.transact(adding("one")) == "one"
    assert database.query(lambda tx: tx.execute(select(func.count()).select_from(things)).scalar_one()) == 1
    with pytest.raises(IntegrityError):
        database.transact(adding("one"))


async def test_a_read_sees_one_state_from_beginning_to_end(database: Database) -> None:
    await database.write(adding("before"))
    if database.dialect == "postgresql":
        pytest.skip("PostgreSQL's READ COMMITTED shows each statement its own state")
    looked, written = threading.Event(), threading.Event()

    def look_twice(tx: Transaction) -> tuple[int, int]:
        count = select(func.count()).select_from(things)
        first = tx.execute(count).scalar_one()
        looked.set()
        assert written.wait(20)
        return first, tx.execute(count).scalar_one()

    reading = asyncio.create_task(database.read(look_twice))
    await asyncio.to_thread(looked.wait, 20)
    await database.write(adding("meanwhile"))
    written.set()
    assert await reading == (1, 1)


async def test_the_clock_is_the_databases_and_stands_still_within_a_transaction(url: str) -> None:
    shift = timedelta()
    database = Database(url, clock_shift=lambda: shift)

    def twice(tx: Transaction) -> tuple[datetime, datetime]:
        return tx.now, tx.now

    try:
        first, second = await database.write(twice)
        assert first == second
        assert abs(first - datetime.now(UTC)) < timedelta(seconds=5)
        shift = timedelta(days=2)
        later, _ = await database.read(twice)
        assert timedelta(days=2) <= later - first < timedelta(days=2, seconds=5)
    finally:
        database.close()


async def test_functions_that_deadlock_on_postgresql_both_end_well(tmp_path_factory: pytest.TempPathFactory) -> None:
    with postgres_url(tmp_path_factory) as url:
        database = Database(url)
        tables.create_all(database.engine)
        await database.write(adding("a"))
        await database.write(adding("b"))
        both_hold_one = threading.Barrier(2)
        tries: list[str] = []

        def count_up(first: str, then: str) -> None:
            def work(tx: Transaction) -> None:
                tries.append(first)
                tx.execute(update(things).where(things.c.name == first).values(count=things.c.count + 1))
                if tries.count(first) == 1:
                    both_hold_one.wait(20)
                tx.execute(update(things).where(things.c.name == then).values(count=things.c.count + 1))

            database.transact(work)

        await asyncio.gather(asyncio.to_thread(count_up, "a", "b"), asyncio.to_thread(count_up, "b", "a"))
        counts = database.query(lambda tx: tx.execute(select(things.c.count)).scalars().all())
        database.close()
        assert list(counts) == [2, 2]
        assert len(tries) == 3, "one of the two was run again"


async def test_a_deadlock_that_never_ends_is_reported(tmp_path_factory: pytest.TempPathFactory) -> None:
    with postgres_url(tmp_path_factory) as url:
        database = Database(url)
        tries = 0

        def always(tx: Transaction) -> None:
            nonlocal tries
            tries += 1
            tx.execute(text("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40P01'; END $$"))

        with pytest.raises(DBAPIError):
            await database.write(always)
        database.close()
        assert tries == 3


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("nonsense", "not a database URL"),
        ("mysql+pymysql://root:secret@localhost/x", "not supported"),
        ("postgresql://user:secret@127.0.0.1:1/none", "does not answer"),
        ("sqlite:////nowhere/at/all/x.db", "does not answer"),
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(address: str, says: str) -> None:
    with pytest.raises(DatabaseUnavailable, match=says) as caught:
        Database(address).check()
    assert "secret" not in str(caught.value)


def test_what_write_returned_for_survives_kill_9(url: str) -> None:
    """A child says each name once `write` returned, and is killed in the middle of it: none of them may be missing."""
    program = (
        "import asyncio, sys\n"
        "from records.database import Database\n"
        "from tests.records.test_database import adding\n"
        "async def main():\n"
        "    database = Database(sys.argv[1])\n"
        "    async def one(n):\n"
        "        print(await database.write(adding(f'n{n}')), flush=True)\n"
        "    for start in range(0, 10**6, 10):\n"
        "        await asyncio.gather(*(one(n) for n in range(start, start + 10)))\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    said = [child.stdout.readline().strip() for _ in range(200)]
    child.send_signal(signal.SIGKILL)
    said += [line.strip() for line in child.stdout if line.endswith("\n")]
    child.wait()
    other = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with other.connect() as connection:
        held = set(connection.execute(select(things.c.name)).scalars())
    other.dispose()
    assert len(said) >= 200
    assert set(said) <= held
