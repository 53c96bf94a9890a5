"""What the composition root alone decides: how long things are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from bot.app import Core, Work
from bot.settings import load_settings
from bot.up import NO_REDIS, migrate
from handlers import answers_under_way, notices
from handlers.open_questions import open_questions
from handlers.turn import Place
from inference import usage
from inference.usage import Ledger, Total, model_usage
from records.database import Transaction
from tests.scenarios.house import write_people

PLACE = Place(surface="slack", tenant="T1", conversation="C1", thread="1.1", direct=False, internal=True)


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Core]:
    settings = load_settings({"REDIS_URL": NO_REDIS}, data=tmp_path)
    write_people(tmp_path / "people.yaml")
    await asyncio.to_thread(migrate, settings)
    core = Core(settings)
    yield core
    await core.close()


async def test_what_models_and_conversations_leave_behind_is_forgotten_in_its_time(core: Core) -> None:
    def leave(tx: Transaction) -> None:
        usage.add(tx, {Ledger("T1", "ana", tx.now.date()): Total(1, 90, 0, 10)})
        notices.claim(tx, PLACE)
        core.questions.ask(tx, PLACE, "ana", skill="close ticket", words="close it")
        answers_under_way.begin(tx, "r1", PLACE, "ana")

    def left(tx: Transaction) -> dict[str, int]:
        tables = (
            model_usage,
            notices.engine_notices,
            answers_under_way.answers_under_way,
            open_questions,
        )
        return {table.name: tx.execute(select(func.count()).select_from(table)).scalar_one() for table in tables}

    async def after(passed: timedelta) -> set[str]:
        core.clock_shift += passed
        await core.database.write(Work(core).forget)
        return {name for name, rows in (await core.database.read(left)).items() if rows}

    await core.database.write(leave)
    assert await after(timedelta()) == {"model_usage", "engine_notices", "answers_under_way", "open_questions"}
    assert await after(timedelta(hours=2)) == {"model_usage", "engine_notices"}
    assert await after(timedelta(days=31)) == {"model_usage"}
    assert await after(timedelta(days=300)) == {"model_usage"}
    assert await after(timedelta(days=70)) == set()
