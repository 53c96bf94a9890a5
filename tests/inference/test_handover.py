"""Handing over: the language model while it answers, the offline engine when not, and people told which it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from inference.embeddings import OnnxEmbedder
from inference.handover import AWAY, INSTEAD, INTERRUPTED, Engine
from inference.model import Facts, KnownPerson, ModelUnavailable, Surroundings
from inference.offline import OfflineEngine
from inference.purpose import Lane, Purpose
from inference.tier import Tier
from inference.vllm import VllmModel
from tests.doubles.model_server import Fault, ModelServer
from tests.inference.engine_parts import CLOSE, INSIDE, LABELS, OUTSIDE, THREAD, TINY, OwnWordsOnly, Seen


@pytest.fixture
async def rich_server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest.fixture
def rich(rich_server: ModelServer) -> Tier:
    return Tier(VllmModel(rich_server.url, "large", None, TINY), INSIDE, shared_with_people=False)


@pytest.fixture
async def engine(tier: Tier, embedder: OnnxEmbedder, seen: Seen) -> AsyncIterator[Engine]:
    engine = Engine(OfflineEngine(embedder), tier, observer=seen)
    yield engine
    await engine.close()


@pytest.fixture
async def both(tier: Tier, rich: Tier, embedder: OnnxEmbedder, seen: Seen) -> AsyncIterator[Engine]:
    """An engine with a rich tier, asked for work in the background."""
    engine = Engine(OfflineEngine(embedder), tier, rich, observer=seen)
    yield engine.on_behalf_of(Purpose(tenant="T1", lane=Lane.RICH))
    await engine.close()


async def test_the_language_model_answers_while_it_can(server: ModelServer, engine: Engine) -> None:
    reply = engine.reply("hello", Facts())
    assert await reply.text() == "All is well here."
    assert (reply.engine, reply.degraded) == ("tiny", None)
    answered = await engine.draft("answer", THREAD)
    assert (answered.value, answered.engine, answered.degraded) == ("All is well here.", "tiny", None)


@pytest.mark.parametrize("fault", [Fault.REFUSING, Fault.SLOW_FIRST_TOKEN, Fault.ERROR_EVENT, Fault.EMPTY_ANSWER])
async def test_a_reply_that_never_began_comes_whole_from_the_offline_engine(
    server: ModelServer, engine: Engine, fault: Fault
) -> None:
    server.fault = fault
    reply = engine.reply("hello", Facts(skills=("help: what I can do",)))
    text = await reply.text()
    assert text.startswith("I cannot answer that freely without a language model.")
    assert (reply.engine, reply.degraded) == ("offline engine", AWAY)


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.BROKEN_CONNECTION, Fault.ERROR_EVENT_MIDWAY])
async def test_a_reply_that_breaks_off_says_so_and_is_not_mixed_with_another(
    server: ModelServer, engine: Engine, seen: Seen, fault: Fault
) -> None:
    server.fault = fault
    reply = engine.reply("hello", Facts(skills=("help: what I can do",)))
    assert await reply.text() == f"All\n\n({INTERRUPTED})"
    assert (reply.engine, reply.degraded) == ("tiny", INTERRUPTED)
    assert seen.calls == [("reply", "interrupted")]


async def test_every_question_is_answered_while_the_model_is_away(server: ModelServer, engine: Engine) -> None:
    await server.go_away()
    summary = await engine.summarise(THREAD)
    label = await engine.classify("close TCK-9", LABELS)
    plan = await engine.propose_plan("close TCK-9", [CLOSE], THREAD)
    draft = await engine.draft("draft a reply", THREAD)
    assert {answer.engine for answer in (summary, label, plan, draft)} == {"offline engine"}
    assert {answer.degraded for answer in (summary, label, plan, draft)} == {AWAY}
    assert summary.value.points[0].sources == ("1",)
    assert label.value.label == "close"
    assert plan.value is not None
    assert plan.value.calls[0].arguments == {"ticket": "TCK-9"}


async def test_work_in_the_background_is_the_rich_models(
    server: ModelServer, rich_server: ModelServer, both: Engine, seen: Seen
) -> None:
    assert (await both.draft("answer", THREAD)).engine == "large"
    reply = both.reply("hello", Facts())
    assert reply.engine == "large"
    await reply.text()
    assert seen.first_tokens == [Lane.RICH]
    answered = await both.on_behalf_of(Purpose(lane=Lane.FAST)).draft("answer", THREAD)
    assert answered.engine == "tiny"
    assert (len(rich_server.requests), len(server.requests)) == (2, 1)


async def test_the_fast_model_stands_in_for_the_rich_one_and_the_offline_engine_for_both(
    server: ModelServer, rich_server: ModelServer, both: Engine
) -> None:
    await rich_server.go_away()
    answered = await both.draft("answer", THREAD)
    assert (answered.engine, answered.degraded) == ("tiny", None)
    reply = both.reply("hello", Facts())
    assert await reply.text() == "All is well here."
    assert (reply.engine, reply.degraded) == ("tiny", None)
    await server.go_away()
    answered = await both.draft("answer", THREAD)
    assert (answered.engine, answered.degraded) == ("offline engine", AWAY)


async def test_a_stuck_rich_model_keeps_nobody_from_the_fast_one(
    server: ModelServer, rich_server: ModelServer, both: Engine
) -> None:
    rich_server.fault = Fault.STALL
    stuck = [asyncio.create_task(both.draft("answer", THREAD)) for _ in range(30)]
    await rich_server.busy()
    answered = await both.on_behalf_of(Purpose(tenant="T1")).draft("answer", THREAD)
    assert answered.engine == "tiny"
    assert not any(task.done() for task in stuck)
    await asyncio.gather(*stuck)


async def test_nothing_goes_to_a_server_that_residency_refuses(
    server: ModelServer, rich_server: ModelServer, embedder: OnnxEmbedder, tier: Tier
) -> None:
    outside = Tier(VllmModel(rich_server.url, "large", None, TINY), OUTSIDE)
    engine = Engine(OfflineEngine(embedder), tier, outside)
    bound = engine.on_behalf_of(Purpose(lane=Lane.RICH, residency=OwnWordsOnly()))
    assert (await bound.draft("answer", THREAD)).engine == "tiny"
    assert rich_server.requests == []
    assert (await bound.draft("answer", ())).engine == "large"
    await engine.close()


async def test_where_nothing_may_go_the_offline_engine_answers_and_says_why(
    server: ModelServer, embedder: OnnxEmbedder
) -> None:
    engine = Engine(OfflineEngine(embedder), Tier(VllmModel(server.url, "tiny", None, TINY), OUTSIDE))
    bound = engine.on_behalf_of(Purpose(residency=OwnWordsOnly()))
    why = f"What others wrote stays inside. {INSTEAD}"
    for answered in (await bound.summarise(THREAD), await bound.draft("answer", THREAD)):
        assert (answered.engine, answered.degraded) == ("offline engine", why)
    reply = bound.reply("hello", Facts(thread=THREAD))
    assert reply.engine == "offline engine"
    await reply.text()
    assert reply.degraded == why
    # An engine bound to nobody asks nothing outside at all.
    assert (await engine.classify("close TCK-9", LABELS)).engine == "offline engine"
    assert server.requests == []
    await engine.close()


async def test_a_server_that_may_have_only_own_words_is_not_told_who_works_here(
    server: ModelServer, embedder: OnnxEmbedder
) -> None:
    surroundings = Surroundings(datetime(2026, 3, 2, 9, tzinfo=UTC), (KnownPerson("amir", "Amir Haddad"),))
    for endpoint, told in ((OUTSIDE, False), (INSIDE, True)):
        engine = Engine(OfflineEngine(embedder), Tier(VllmModel(server.url, "tiny", None, TINY), endpoint))
        bound = engine.on_behalf_of(Purpose(residency=OwnWordsOnly()))
        await bound.propose_plan("close TCK-9 for Amir", [CLOSE], (), surroundings)
        assert ("Haddad" in json.dumps(server.requests[-1].body)) is told
        await engine.close()


async def test_leaving_a_reply_early_aborts_the_request_and_is_no_verdict_on_the_model(
    server: ModelServer, engine: Engine, tier: Tier, seen: Seen
) -> None:
    server.fault = Fault.STALL
    async with engine.reply("hello", Facts()) as reply:
        async for _ in reply:
            break
    async with asyncio.timeout(5):
        await server.idle()
    assert server.aborted == 1
    assert not tier.away
    assert seen.calls == [("reply", "cancelled")]


async def test_a_reply_left_before_its_first_piece_asks_nobody(server: ModelServer, engine: Engine) -> None:
    async with engine.reply("hello", Facts()):
        pass
    assert server.requests == []


async def test_without_a_language_model_nothing_is_degraded(embedder: OnnxEmbedder) -> None:
    engine = Engine(OfflineEngine(embedder))
    assert (engine.state, engine.has_language_model) == ("offline engine", False)
    answered = await engine.summarise(THREAD)
    assert (answered.engine, answered.degraded) == ("offline engine", None)
    reply = engine.reply("hello", Facts())
    assert "without a language model" in await reply.text()
    assert (reply.engine, reply.degraded) == ("offline engine", None)
    await engine.close()


async def test_when_neither_can_answer_it_is_model_unavailable(server: ModelServer, tmp_path: Path, seen: Seen) -> None:
    embedder = OnnxEmbedder(tmp_path / "nothing")
    engine = Engine(OfflineEngine(embedder), Tier(VllmModel(server.url, "tiny", None, TINY), INSIDE), observer=seen)
    server.fault = Fault.REFUSING
    with pytest.raises(ModelUnavailable):
        await engine.summarise(THREAD)
    assert seen.calls == [("summarise", "unavailable")]
    await engine.close()
    await embedder.close()
