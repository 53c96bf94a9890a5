"""Things that die: the web process, the worker, Redis, the language model. Nothing is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
import redis.asyncio
from sqlalchemy import select

from actions.executions import executions
from policies import audit
from records.inbox import inbox
from tests.doubles.model_server import Fault, ModelServer
from tests.scenarios.conftest import short_folder
from tests.scenarios.house import AMIR, ROSA, House, Seat, buttons, shown, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

LEASE = timedelta(seconds=60)
"""Longer than any claim lasts."""


async def open_executions(house: House) -> list[str]:
    rows = await house.web.core.database.read(
        lambda tx: tx.execute(select(executions.c.id).where(executions.c.state.in_(["ready", "executing"]))).all()
    )
    return [row.id for row in rows]


async def asked(house: House, platform: str) -> tuple[str, Seat, Seat]:
    """A ticket that Rosa wants closed, and both seats."""
    ticket = await house.new_ticket()
    rosa, amir = Seat(house, platform, ROSA), Seat(house, platform, AMIR)
    await rosa.say(f"@Countersign close {ticket}")
    await amir.sees("Approval needed", ticket)
    return ticket, rosa, amir


async def test_a_restart_between_ask_and_click_changes_nothing(own_house: House, platform: str) -> None:
    await own_house.start()
    ticket, _, amir = await asked(own_house, platform)
    await own_house.stop_web()
    await own_house.start_web()
    card = await amir.sees("Approval needed", ticket)
    await amir.press(card, "Approve")
    await amir.sees("Done", ticket)
    assert own_house.tickets()[ticket] == ("closed", 2)
    assert own_house.effects() == 2, "the ticket itself and its closing"


@pytest.mark.parametrize("point", ["after_intent", "after_call", "before_done"])
async def test_a_worker_killed_at_any_point_leaves_exactly_one_effect(
    own_house: House, platform: str, point: str
) -> None:
    await own_house.start(worker=False)
    ticket, rosa, amir = await asked(own_house, platform)
    worker = own_house.start_worker(fault=point)
    await amir.press(await amir.sees("Approval needed", ticket), "Approve")
    await until(lambda: worker.poll() is not None)
    assert worker.returncode == -9
    assert (own_house.tickets()[ticket][0] == "closed") == (point != "after_intent")
    (execution_id,) = await open_executions(own_house)
    await own_house.run_here(execution_id)
    assert await open_executions(own_house) == [execution_id], "the dead worker's lease is respected"

    own_house.let_pass(LEASE)
    await own_house.run_here(execution_id)

    await amir.sees("Done", ticket)
    await rosa.sees("Result of request", ticket)
    assert own_house.tickets()[ticket] == ("closed", 2)
    assert own_house.effects() == 2
    assert await own_house.web.core.database.read(audit.verify) > 0


async def test_redis_wiped_between_click_and_execution_loses_nothing(own_house: House, platform: str) -> None:
    await own_house.start(worker=False)
    ticket, _, amir = await asked(own_house, platform)
    await amir.press(await amir.sees("Approval needed", ticket), "Approve")
    await until(lambda: open_executions(own_house))
    async with redis.asyncio.Redis.from_url(own_house.redis.url) as connection:
        await until(lambda: connection.dbsize())
        await connection.flushall()
    own_house.start_worker()
    await amir.sees("Done", ticket)
    assert own_house.effects() == 2


async def test_redis_away_during_the_click_loses_nothing(own_house: House, platform: str) -> None:
    await own_house.start(worker=False)
    ticket, _, amir = await asked(own_house, platform)
    await asyncio.to_thread(own_house.kill, "redis")
    await amir.press(await amir.sees("Approval needed", ticket), "Approve")
    await until(lambda: open_executions(own_house))
    await own_house.start_redis()
    own_house.start_worker()
    await amir.sees("Done", ticket)
    assert own_house.effects() == 2


async def test_an_expired_card_says_that_nobody_decided_and_takes_no_click(own_house: House, platform: str) -> None:
    await own_house.start(worker=False)
    ticket, rosa, amir = await asked(own_house, platform)
    card = await amir.sees("Approval needed", ticket)
    own_house.let_pass(timedelta(hours=25))
    before = len(amir.seen())
    said = await amir.press(card, "Approve")
    await amir.told("ran out", before, said=said)
    await own_house.sweep()
    expired = await amir.sees("Expired", ticket, "not a denial")
    assert buttons(expired) == {}
    await rosa.sees("Result of request", "Expired")
    assert await open_executions(own_house) == []
    assert own_house.tickets()[ticket] == ("open", 1)


async def test_an_event_stored_but_not_handled_is_handled_after_a_restart(own_house: House) -> None:
    await own_house.start()
    rosa = Seat(own_house, "slack", ROSA)
    ticket = await own_house.new_ticket()

    async def never(event: object) -> None:
        raise ConnectionError("the process is about to die")

    (slack_intake,) = [intake for intake in own_house.web._intakes if intake.source == "slack"]
    slack_intake._handler = never
    await rosa.say(f"@Countersign close {ticket}")
    await until(lambda: _waiting(own_house))
    await own_house.stop_web()
    await own_house.start_web()
    own_house.let_pass(timedelta(minutes=2))
    await rosa.sees("Approval needed", ticket)


async def _waiting(house: House) -> bool:
    return await house.web.core.database.read(
        lambda tx: tx.execute(select(inbox.c.id).where(inbox.c.state == "received")).first() is not None
    )


@pytest_asyncio.fixture(loop_scope="session")
async def model() -> AsyncIterator[ModelServer]:
    """A language model server that can misbehave."""
    async with ModelServer() as server:
        yield server


@pytest.mark.parametrize("fault", ["away", *[fault.name for fault in Fault]])
async def test_whatever_the_model_server_does_people_get_an_answer_that_says_who_gave_it(
    model: ModelServer, fault: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    house = House(
        short_folder(tmp_path_factory),
        variables={
            "VLLM_BASE_URL": model.url,
            "VLLM_MODEL": "tiny",
            "VLLM_FIRST_TOKEN_SECONDS": "0.5",
            "VLLM_BETWEEN_TOKENS_SECONDS": "0.5",
        },
    )
    try:
        await house.start(worker=False)
        if fault == "away":
            await model.go_away()
        else:
            model.fault = Fault[fault]
        rosa, amir = Seat(house, "slack", ROSA), Seat(house, "slack", AMIR)
        await amir.say("The release moves to Thursday because the tests are red.")
        root = amir.seen()[-1].id
        await rosa.say("@Countersign summarise this thread", thread=root)
        answer = await rosa.sees("The release moves to Thursday", "messages by")
        assert "offline engine" in shown(answer)
        assert "language model" in shown(answer)
    finally:
        await house.stop()
