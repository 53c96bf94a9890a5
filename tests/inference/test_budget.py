"""Daily token budgets: what is spent is written, and who has spent theirs is told so until midnight UTC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from inference import usage
from inference.budget import READ_AGAIN, RESERVED, TokenBudget
from inference.excess import Excess
from inference.purpose import Purpose
from inference.usage import Ledger, Total, Usage
from records import migrate
from records.database import Database
from tests.postgres import postgres_url

ANA = Purpose(tenant="T1", account="ana")
BEN = Purpose(tenant="T1", account="ben")
HOUSE = Purpose(tenant="T1")
DAY = date(2026, 3, 2)
LATER = timedelta(hours=1)
"""Nothing is written by itself within a test."""


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, 21, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'usage.db'}")
    await asyncio.to_thread(migrate.upgrade, database)
    yield database
    await asyncio.to_thread(database.close)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def used(tokens: int) -> Usage:
    return Usage(prompt_tokens=tokens - 10, cached_tokens=5, completion_tokens=10, estimated=False)


async def row(database: Database, account: str = "ana", day: date = DAY) -> Total:
    return await database.read(lambda tx: usage.read(tx, Ledger("T1", account, day)))


async def ask(budget: TokenBudget, purpose: Purpose, tokens: int) -> None:
    async with budget.reserved(purpose):
        budget.spent(purpose, used(tokens))


async def test_what_is_spent_is_written_together_soon(database: Database, clock: Clock) -> None:
    budget = TokenBudget(database, tokens_a_day=0, clock=clock, write_after=timedelta(milliseconds=1))
    for _ in range(3):
        budget.spent(ANA, used(100))
    budget.spent(HOUSE, Usage(7, None, 3, estimated=True))
    async with asyncio.timeout(5):
        while not (await row(database)).calls:
            pass
    assert await row(database) == Total(3, 270, 15, 30)
    assert await row(database, account="") == Total(1, 7, 0, 3)
    budget.spent(ANA, used(100))
    await budget.close()
    assert (await row(database)).calls == 4


async def test_closing_writes_what_was_spent_a_moment_ago(database: Database, clock: Clock) -> None:
    budget = TokenBudget(database, tokens_a_day=0, clock=clock, write_after=LATER)
    budget.spent(ANA, used(100))
    async with asyncio.timeout(5):
        await budget.close()
    assert (await row(database)).tokens == 100


async def test_a_write_that_fails_is_made_good_by_the_next(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = TokenBudget(database, tokens_a_day=0, clock=clock, write_after=timedelta(milliseconds=1))
    write, failed = database.write, asyncio.Event()

    async def away(work: Any) -> Any:
        failed.set()
        raise OperationalError("statement", {}, Exception("the database is away"))

    monkeypatch.setattr(database, "write", away)
    budget.spent(ANA, used(100))
    async with asyncio.timeout(5):
        await failed.wait()
    budget.spent(ANA, used(100))
    monkeypatch.setattr(database, "write", write)
    await budget.close()
    assert await row(database) == Total(2, 180, 10, 20)


async def test_who_has_used_their_tokens_is_told_how_many_and_when_there_are_more(
    database: Database, clock: Clock
) -> None:
    budget = TokenBudget(database, tokens_a_day=1_000, clock=clock, write_after=LATER)
    await ask(budget, ANA, 1_200)
    with pytest.raises(Excess) as raised:
        await ask(budget, ANA, 1)
    assert raised.value.limit == "tokens"
    assert str(raised.value) == (
        "You have used 1,200 tokens of the language model today, and 1,000 a day are yours; it is back for you in "
        "2 h 30 min, at midnight UTC."
    )
    await ask(budget, BEN, 100)
    clock.now += timedelta(hours=2, minutes=30)
    await ask(budget, ANA, 100)
    await budget.close()
    assert ((await row(database)).tokens, (await row(database, day=date(2026, 3, 3))).tokens) == (1_200, 100)


async def test_a_budget_is_remembered_over_a_restart(database: Database, clock: Clock) -> None:
    first = TokenBudget(database, tokens_a_day=1_000, clock=clock, write_after=LATER)
    await ask(first, ANA, 1_000)
    await first.close()
    second = TokenBudget(database, tokens_a_day=1_000, clock=clock, write_after=LATER)
    with pytest.raises(Excess):
        await ask(second, ANA, 1)
    await second.close()


async def test_what_another_process_spent_counts_once_the_row_is_read_again(database: Database, clock: Clock) -> None:
    here = TokenBudget(database, tokens_a_day=1_000, clock=clock, write_after=LATER)
    there = TokenBudget(database, tokens_a_day=1_000, clock=clock, write_after=LATER)
    await ask(here, ANA, 400)
    await ask(there, ANA, 700)
    await there.close()
    await ask(here, ANA, 100)
    clock.now += READ_AGAIN
    with pytest.raises(Excess, match=r"1,200 tokens"):
        await ask(here, ANA, 1)
    await here.close()


async def test_nothing_is_counted_twice_when_it_is_written_and_read_again(database: Database, clock: Clock) -> None:
    budget = TokenBudget(database, tokens_a_day=1_000, clock=clock, write_after=timedelta(milliseconds=1))
    await ask(budget, ANA, 300)
    async with asyncio.timeout(5):
        while not (await row(database)).calls:
            pass
    await ask(budget, ANA, 300)
    clock.now += READ_AGAIN
    await ask(budget, ANA, 500)
    with pytest.raises(Excess, match="1,100 tokens"):
        await ask(budget, ANA, 1)
    await budget.close()


async def test_calls_under_way_at_once_overspend_by_no_more_than_one_call_each(
    database: Database, clock: Clock
) -> None:
    budget = TokenBudget(database, tokens_a_day=3 * RESERVED, clock=clock, write_after=LATER)
    async with AsyncExitStack() as under_way:
        for _ in range(3):
            await under_way.enter_async_context(budget.reserved(ANA))
        with pytest.raises(Excess, match="set aside for what you have just asked"):
            await ask(budget, ANA, 1)
        await ask(budget, BEN, 1)
    await ask(budget, ANA, 1)
    await budget.close()


async def test_a_call_that_fails_gives_back_what_was_set_aside(database: Database, clock: Clock) -> None:
    budget = TokenBudget(database, tokens_a_day=1, clock=clock, write_after=LATER)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with budget.reserved(ANA):
                raise ZeroDivisionError
    await budget.close()


async def test_the_houses_own_work_is_counted_and_never_limited(database: Database, clock: Clock) -> None:
    budget = TokenBudget(database, tokens_a_day=100, clock=clock, write_after=LATER)
    for _ in range(3):
        await ask(budget, HOUSE, 1_000)
    await budget.close()
    assert (await row(database, account="")).tokens == 3_000


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_two_processes_add_to_one_row_and_old_days_are_forgotten(
    kind: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def check(url: str) -> None:
        doors = [Database(url), Database(url)]
        await asyncio.to_thread(migrate.upgrade, doors[0])
        spent = {Ledger("T1", account, DAY): Total(1, 90, 5, 10) for account in ("ana", "ben", "eve")}
        await asyncio.gather(*(door.write(lambda tx: usage.add(tx, spent)) for door in doors * 10))
        assert await row(doors[1]) == Total(20, 1_800, 100, 200)
        assert await doors[0].write(lambda tx: usage.forget_before(tx, DAY)) == 0
        assert await doors[0].write(lambda tx: usage.forget_before(tx, DAY + timedelta(days=1))) == 3
        for door in doors:
            await asyncio.to_thread(door.close)

    if kind == "sqlite":
        await check(f"sqlite:///{tmp_path / 'shared.db'}")
    else:
        with postgres_url(tmp_path_factory) as url:
            await check(url)
