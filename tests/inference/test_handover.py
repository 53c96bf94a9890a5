"""Handing over: the language model while it answers, the offline engine when not, and people told which it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from inference.breaker import Circuit, CircuitBreaker
from inference.embeddings import OnnxEmbedder
from inference.handover import AWAY, INTERRUPTED, Engine
from inference.limits import ModelLimits
from inference.model import Facts, Label, ModelUnavailable, Tool, Utterance
from inference.offline import OfflineEngine
from inference.vllm import VllmModel
from tests.doubles.model_server import Fault, ModelServer

TINY = ModelLimits(
    first_token=timedelta(milliseconds=150),
    between_tokens=timedelta(milliseconds=150),
    total=timedelta(milliseconds=600),
)
THREAD = (Utterance("1", "Ana", "The login page is down since nine.", datetime(2026, 3, 2, tzinfo=UTC)),)
CLOSE = Tool(
    "tickets.close",
    "Close a ticket",
    {
        "type": "object",
        "properties": {"ticket": {"type": "string", "pattern": "^TCK-[0-9]+$"}},
        "required": ["ticket"],
        "additionalProperties": False,
    },
)
LABELS = (Label("close", "Close a ticket", ("close TCK-1",)), Label("help", "What can you do", ("help",)))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(failures=2, cool_down=timedelta(seconds=10), clock=clock)


@pytest.fixture
def seen() -> list[tuple[str, str]]:
    return []


@pytest.fixture
async def engine(
    server: ModelServer, breaker: CircuitBreaker, embedder: OnnxEmbedder, seen: list[tuple[str, str]]
) -> AsyncIterator[Engine]:
    engine = Engine(
        OfflineEngine(embedder),
        VllmModel(server.url, "tiny", None, TINY),
        breaker=breaker,
        observe=lambda name, _, outcome: seen.append((name, outcome)),
    )
    yield engine
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
    server: ModelServer, engine: Engine, seen: list[tuple[str, str]], fault: Fault
) -> None:
    server.fault = fault
    reply = engine.reply("hello", Facts(skills=("help: what I can do",)))
    assert await reply.text() == f"All\n\n({INTERRUPTED})"
    assert (reply.engine, reply.degraded) == ("tiny", INTERRUPTED)
    assert seen == [("reply", "interrupted")]


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


async def test_a_model_that_keeps_failing_is_left_alone_until_one_probe_finds_it_back(
    server: ModelServer, engine: Engine, breaker: CircuitBreaker, clock: Clock
) -> None:
    server.fault = Fault.REFUSING
    for _ in range(5):
        await engine.draft("answer", THREAD)
    assert len(server.requests) == 2
    assert breaker.circuit is Circuit.OPEN
    clock.now += 10
    server.fault = Fault.STALL
    answers = asyncio.gather(*(engine.draft("answer", THREAD) for _ in range(20)))
    await answers
    assert len(server.requests) == 3
    assert engine.state == "away"
    clock.now += 10
    server.fault = None
    assert (await engine.draft("answer", THREAD)).engine == "tiny"
    assert breaker.circuit is Circuit.CLOSED
    assert (engine.state, engine.has_language_model) == ("configured", True)


async def test_leaving_a_reply_early_aborts_the_request_and_is_no_verdict_on_the_model(
    server: ModelServer, engine: Engine, breaker: CircuitBreaker, seen: list[tuple[str, str]]
) -> None:
    server.fault = Fault.STALL
    async with engine.reply("hello", Facts()) as reply:
        async for _ in reply:
            break
    async with asyncio.timeout(5):
        await server.idle()
    assert server.aborted == 1
    assert breaker.circuit is Circuit.CLOSED
    assert seen == [("reply", "cancelled")]


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


async def test_when_neither_can_answer_it_is_model_unavailable(server: ModelServer, tmp_path: Path) -> None:
    embedder = OnnxEmbedder(tmp_path / "nothing")
    outcomes: list[str] = []
    engine = Engine(
        OfflineEngine(embedder),
        VllmModel(server.url, "tiny", None, TINY),
        observe=lambda _, __, outcome: outcomes.append(outcome),
    )
    server.fault = Fault.REFUSING
    with pytest.raises(ModelUnavailable):
        await engine.summarise(THREAD)
    assert outcomes == ["unavailable"]
    await engine.close()
    await embedder.close()
