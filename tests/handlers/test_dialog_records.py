"""The smaller records of the dialog: the decision log, who was told of an outage, answers under way."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from handlers import answers_under_way, decisions, notices
from handlers.decisions import Step
from handlers.excuses import Excuses
from handlers.turn import Place
from inference.handover import AWAY
from inference.prediction import Prediction
from tests.handlers.conftest import Records

HERE = Place("slack", "T1", "C1", thread="17.1")
MEASURED = Prediction("help", 0.9, "help", 1.25, "model-1", "minilm-int8", "ab" * 32)
BUDGET = "Your share for today is used up. This comes from the offline engine."


async def test_a_decision_holds_what_drift_is_measured_on(records: Records) -> None:
    await records.database.write(
        lambda tx: decisions.note(
            tx, "r1", tenant="default", step=Step.EMBEDDINGS, prediction="help", confidence=0.9, reason="reads like it",
            measured=MEASURED,
        )
    )  # fmt: skip
    (row,) = await records.database.read(decisions.recent)
    assert (row.request_id, row.step, row.prediction, row.confidence) == ("r1", "embeddings", "help", 0.9)
    assert (row.scope, row.model_version, row.embedding_model, row.embedding_digest) == (
        1.25, "model-1", "minilm-int8", "ab" * 32,
    )  # fmt: skip


async def test_decisions_come_newest_first_and_old_ones_are_forgotten(records: Records) -> None:
    async def note(request: str) -> None:
        await records.database.write(
            lambda tx: decisions.note(
                tx, request, tenant="default", step=Step.COMMAND, prediction=None, confidence=1.0, reason="typed"
            )
        )

    for request in ("r0", "r1", "r2"):
        await note(request)
        records.passed += timedelta(hours=1)
    found = await records.database.read(lambda tx: decisions.recent(tx, 2))
    assert [each.request_id for each in found] == ["r2", "r1"]
    assert found[0].scope is None
    assert await records.database.write(lambda tx: decisions.forget_before(tx, tx.now - timedelta(minutes=90))) == 2


async def test_a_thread_is_claimed_once_by_racing_answers_and_again_after_it_was_withdrawn(records: Records) -> None:
    async def claim(place: Place = HERE) -> bool:
        return await records.database.write(lambda tx: notices.claim(tx, place))

    assert sorted(await asyncio.gather(*(claim() for _ in range(4)))) == [False, False, False, True]
    assert await claim(replace(HERE, thread=None)), "another thread is told too"
    await records.database.write(lambda tx: notices.withdraw(tx, HERE))
    assert await claim()
    records.passed += timedelta(hours=1)
    assert await records.database.write(lambda tx: notices.forget_before(tx, tx.now)) == 2


async def test_an_outage_is_told_once_until_the_language_model_answers_there_again(records: Records) -> None:
    async def answer(engine: str | None, degraded: str | None) -> tuple[str, ...]:
        excuses = Excuses(records.database, HERE, has_language_model=True)
        excuses.note(engine, degraded)
        return await excuses.due()

    assert await answer("offline engine", AWAY) == (AWAY,)
    assert await answer("offline engine", AWAY) == ()
    assert await answer(None, None) == (), "an answer that asked no engine says nothing of the language model"
    assert await answer("offline engine", AWAY) == ()
    assert await answer("tiny", None) == ()
    assert await answer("offline engine", AWAY) == (AWAY,)


async def test_other_excuses_are_told_each_time_and_give_nothing_back(records: Records) -> None:
    async def answer(*degraded: str) -> tuple[str, ...]:
        excuses = Excuses(records.database, HERE, has_language_model=True)
        for each in degraded:
            excuses.note("offline engine", each)
        return await excuses.due()

    assert await answer(AWAY, BUDGET) == (AWAY, BUDGET)
    assert await answer(BUDGET) == (BUDGET,)
    assert await answer(AWAY, BUDGET, AWAY) == (BUDGET,)


async def test_an_outage_whose_telling_did_not_arrive_is_told_by_the_next_answer(records: Records) -> None:
    first = Excuses(records.database, HERE, has_language_model=True)
    first.note("offline engine", AWAY)
    assert await first.due() == (AWAY,)
    await first.not_told()
    second = Excuses(records.database, HERE, has_language_model=True)
    second.note("offline engine", AWAY)
    assert await second.due() == (AWAY,)


async def test_stop_ends_all_answers_of_one_person_in_one_place_and_no_others(records: Records) -> None:
    async def begin(request: str, place: Place, person: str) -> None:
        await records.database.write(lambda tx: answers_under_way.begin(tx, request, place, person))

    begun = {
        "mine": (HERE, "rosa"),
        "mine too": (HERE, "rosa"),
        "hers": (HERE, "amir"),
        "elsewhere": (replace(HERE, thread="17.2"), "rosa"),
    }
    for request, (place, person) in begun.items():
        await begin(request, place, person)
    assert await records.database.write(lambda tx: answers_under_way.stop(tx, HERE, "rosa")) == 2
    assert await records.database.write(lambda tx: answers_under_way.stop(tx, HERE, "rosa")) == 0
    wanted = await records.database.read(lambda tx: {each: answers_under_way.is_wanted(tx, each) for each in begun})
    assert wanted == {"mine": False, "mine too": False, "hers": True, "elsewhere": True}


async def test_an_answer_that_ended_or_whose_process_died_leaves_no_row(records: Records) -> None:
    async def begin(request: str) -> None:
        await records.database.write(lambda tx: answers_under_way.begin(tx, request, HERE, "rosa"))

    for request in ("ended", "died", "died"):
        await begin(request)
    await records.database.write(lambda tx: answers_under_way.end(tx, "ended"))
    records.passed += timedelta(hours=1)
    assert await records.database.write(lambda tx: answers_under_way.forget_before(tx, tx.now)) == 1
