"""A model server behind its gate and breaker: left alone while it is away, found back, and never waited for in vain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest

from inference.breaker import CircuitBreaker
from inference.chat_completions import RequestRefused
from inference.embeddings import OnnxEmbedder
from inference.gate import Gate
from inference.handover import AWAY, INSTEAD, INTERRUPTED, Engine
from inference.limits import ModelLimits
from inference.model import Classification, Facts, Label, Utterance
from inference.offline import OfflineEngine
from inference.purpose import Lane, Purpose
from inference.tier import Tier
from inference.vllm import VllmModel
from tests.doubles.model_server import Fault, ModelServer
from tests.inference.engine_parts import INSIDE, LABELS, THREAD, TINY, Pause, Seen, until


@pytest.fixture
async def engine(tier: Tier, embedder: OnnxEmbedder, seen: Seen) -> AsyncIterator[Engine]:
    engine = Engine(OfflineEngine(embedder), tier, observer=seen)
    yield engine
    await engine.close()


async def test_while_the_model_is_away_nobody_waits_for_it_and_a_probe_in_the_background_finds_it_back(
    server: ModelServer, engine: Engine, pause: Pause
) -> None:
    server.fault = Fault.SLOW_FIRST_TOKEN
    for _ in range(2):
        await engine.draft("answer", THREAD)
    assert (len(server.requests), engine.state) == (2, "away")
    # A probe is under way and hangs as everything else does; people are answered meanwhile, and it stays alone.
    pause.over()
    await until(lambda: len(server.requests) == 3)
    answers = await asyncio.gather(*(engine.draft("answer", THREAD) for _ in range(20)))
    assert {(answer.engine, answer.degraded) for answer in answers} == {("offline engine", AWAY)}
    assert len(server.requests) == 3
    await server.idle()
    server.fault = None
    pause.over()
    await until(lambda: engine.state == "configured")
    assert len(server.requests) == 4
    assert (await engine.draft("answer", THREAD)).engine == "tiny"


async def test_a_model_whose_trial_fails_is_left_alone_again_at_once(
    server: ModelServer, engine: Engine, pause: Pause
) -> None:
    server.fault = Fault.REFUSING
    for _ in range(2):
        await engine.draft("answer", THREAD)
    server.fault = None
    pause.over()
    await until(lambda: engine.state == "configured")
    server.fault = Fault.REFUSING
    assert (await engine.draft("answer", THREAD)).degraded == AWAY
    assert engine.state == "away"


async def test_the_offline_engine_takes_over_within_the_first_token_limit_and_at_once_afterwards(
    server: ModelServer, embedder: OnnxEmbedder, tier: Tier
) -> None:
    class AtOnce(OfflineEngine):
        """Takes no time, so that only the handing over is measured, on a machine that others use too."""

        async def classify(self, text: str, labels: Sequence[Label]) -> Classification:
            return Classification(None, 1.0)

    engine = Engine(AtOnce(embedder), tier)
    server.fault = Fault.SLOW_FIRST_BYTE
    loop = asyncio.get_running_loop()
    # Generous, for a machine that others use too; the server itself would never answer.
    for limit in (TINY.first_token.total_seconds() + 5, TINY.first_token.total_seconds() + 5, 5, 5):
        started = loop.time()
        answered = await engine.classify("close TCK-9", LABELS)
        assert answered.degraded == AWAY
        assert loop.time() - started < limit
    assert len(server.requests) == 2
    await engine.close()


async def test_closing_ends_the_probing(server: ModelServer, engine: Engine, pause: Pause) -> None:
    server.fault = Fault.SLOW_FIRST_BYTE
    for _ in range(2):
        await engine.classify("close TCK-9", LABELS)
    pause.over()
    await until(lambda: len(server.requests) == 3)

    def probes() -> int:
        return sum("_probe_until_back" in repr(task) for task in asyncio.all_tasks())

    assert probes() == 1
    await engine.close()
    await server.idle()
    assert probes() == 0


async def test_answers_in_another_form_are_no_verdict_on_the_server(server: ModelServer, engine: Engine) -> None:
    server.fault = Fault.WRONG_FORM_ALWAYS
    for _ in range(5):
        assert (await engine.classify("close TCK-9", LABELS)).degraded == AWAY
    assert engine.state == "configured"
    server.fault = None
    assert (await engine.classify("close TCK-9", LABELS)).degraded is None


async def test_a_request_the_server_finds_wrong_is_no_verdict_on_the_server(
    server: ModelServer, embedder: OnnxEmbedder, tier: Tier
) -> None:
    class TooLong(VllmModel):
        async def draft(self, instruction: str, thread: Sequence[Utterance]) -> str:
            raise RequestRefused("the thread is too long for the model", 400, "")

    tier = Tier(TooLong(server.url, "tiny", None, TINY), INSIDE, breaker=CircuitBreaker(failures=1))
    engine = Engine(OfflineEngine(embedder), tier)
    assert (await engine.draft("answer", THREAD)).degraded == AWAY
    assert engine.state == "configured"
    await engine.close()


async def test_background_work_on_the_fast_model_leaves_places_for_people(
    server: ModelServer, embedder: OnnxEmbedder, seen: Seen
) -> None:
    gate = Gate(in_all=2, per_tenant=2, background=1, patience=timedelta(milliseconds=20))
    model = VllmModel(server.url, "tiny", None, ModelLimits())
    engine = Engine(OfflineEngine(embedder), Tier(model, INSIDE, gate=gate), observer=seen)
    background = engine.on_behalf_of(Purpose(lane=Lane.RICH))
    server.fault = Fault.SLOW_FIRST_BYTE
    stuck = asyncio.create_task(background.draft("digest", THREAD))
    await server.busy()
    server.fault = None
    refused = await background.draft("digest", THREAD)
    assert refused.engine == "offline engine"
    assert refused.degraded is not None
    assert refused.degraded.startswith("The language model has as much background work as it may have at once")
    assert refused.degraded.endswith(INSTEAD)
    assert (await engine.draft("answer", THREAD)).engine == "tiny"
    assert (seen.excesses, engine.state) == (["background"], "configured")
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)
    await engine.close()


async def test_who_waits_for_a_place_is_answered_the_moment_the_model_is_given_up(
    server: ModelServer, embedder: OnnxEmbedder
) -> None:
    gate = Gate(in_all=1, per_tenant=1, background=1, patience=timedelta(hours=1))
    tier = Tier(VllmModel(server.url, "tiny", None, TINY), INSIDE, breaker=CircuitBreaker(failures=1), gate=gate)
    engine = Engine(OfflineEngine(embedder), tier)
    server.fault = Fault.SLOW_FIRST_BYTE
    answers = await asyncio.gather(*(engine.classify("close TCK-9", LABELS) for _ in range(10)))
    assert {answer.degraded for answer in answers} == {AWAY}
    assert len(server.requests) == 1
    await engine.close()


@pytest.mark.parametrize("fault", list(Fault))
async def test_whatever_goes_wrong_every_question_ends_in_time_and_leaves_nothing_behind(
    server: ModelServer, embedder: OnnxEmbedder, fault: Fault
) -> None:
    tier = Tier(VllmModel(server.url, "tiny", None, TINY), INSIDE, breaker=CircuitBreaker(failures=1000))
    engine = Engine(OfflineEngine(embedder), tier)
    await engine.classify("warm up", LABELS)
    tasks = len(asyncio.all_tasks())
    server.fault = fault
    async with asyncio.timeout(10):
        answered = await engine.draft("answer", THREAD)
        assert (answered.engine, answered.degraded) in (("tiny", None), ("offline engine", AWAY))
        label = await engine.classify("close TCK-9", LABELS)
        assert (label.engine, label.degraded) in (("tiny", None), ("offline engine", AWAY))
        reply = engine.reply("hello", Facts())
        text = await reply.text()
        assert reply.degraded in (None, AWAY, INTERRUPTED)
        assert text.endswith(f"({INTERRUPTED})") is (reply.degraded == INTERRUPTED)
        await server.idle()
    assert (tier.gate.under_way, tier.gate.waiting) == (0, 0)
    await engine.close()
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
