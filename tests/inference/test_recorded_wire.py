"""The client on what a real vLLM server once sent, byte for byte and cut anywhere (tests/doubles/wire/)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import orjson
import pytest

from inference.chat_completions import ChatCompletions, Exchange
from inference.chunks import Lines
from inference.limits import ModelLimits
from inference.model import Facts, ModelUnavailable
from inference.probe_requests import TOOLS, fits_outline
from inference.usage import Usage
from inference.vllm import VllmModel
from tests.doubles.model_server import ModelServer

WIRE = Path(__file__).parents[1] / "doubles" / "wire"
WHOLE = ("reply", "cut-short", "tool-call", "no-tool-call", "structured")


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest.fixture
async def wire(server: ModelServer) -> AsyncIterator[ChatCompletions]:
    wire = ChatCompletions(server.url)
    yield wire
    await wire.close()


@pytest.fixture
async def model(server: ModelServer) -> AsyncIterator[VllmModel]:
    model = VllmModel(server.url, "tiny")
    yield model
    await model.close()


async def played(server: ModelServer, wire: ChatCompletions, name: str) -> tuple[str, Exchange]:
    server.replay = WIRE / f"{name}.sse"
    limits = ModelLimits()
    deadline = asyncio.get_running_loop().time() + limits.total.total_seconds()
    exchange = wire.stream({"model": "tiny", "messages": []}, limits, deadline)
    async with aclosing(exchange):
        return "".join([piece async for piece in exchange]), exchange


@pytest.mark.parametrize("name", WHOLE)
async def test_every_recorded_answer_is_understood_and_its_tokens_are_as_the_server_counted(
    server: ModelServer, wire: ChatCompletions, name: str
) -> None:
    text, exchange = await played(server, wire, name)
    events = [orjson.loads(data) for data in Lines().feed((WIRE / f"{name}.sse").read_bytes()) if data != b"[DONE]"]
    said = next(event["usage"] for event in events if event.get("usage"))
    assert text or exchange.calls
    assert exchange.usage == Usage(
        prompt_tokens=said["prompt_tokens"],
        cached_tokens=said["prompt_tokens_details"]["cached_tokens"],
        completion_tokens=said["completion_tokens"],
        estimated=False,
    )


async def test_a_recorded_reply_comes_in_pieces(server: ModelServer, model: VllmModel) -> None:
    server.replay = WIRE / "reply.sse"
    pieces = [piece async for piece in model.reply("hello", Facts())]
    assert len(pieces) > 3
    assert "".join(pieces).strip()


async def test_a_recorded_reply_that_was_cut_at_its_length_says_so(server: ModelServer, wire: ChatCompletions) -> None:
    text, _ = await played(server, wire, "cut-short")
    assert text.endswith(" …")


async def test_a_recorded_tool_call_becomes_a_plan(server: ModelServer, model: VllmModel) -> None:
    server.replay = WIRE / "tool-call.sse"
    plan = await model.propose_plan("Please close ticket TCK-48.", TOOLS, ())
    assert plan is not None
    assert [(call.tool, dict(call.arguments)) for call in plan.calls] == [("ticketing.close", {"ticket": "TCK-48"})]


async def test_recorded_words_in_place_of_a_call_are_no_plan(server: ModelServer, model: VllmModel) -> None:
    server.replay = WIRE / "no-tool-call.sse"
    assert await model.propose_plan("thanks, that is all", TOOLS, ()) is None


async def test_a_recorded_structured_answer_is_of_its_schema(server: ModelServer, wire: ChatCompletions) -> None:
    text, _ = await played(server, wire, "structured")
    assert fits_outline(text)


async def test_an_answer_recorded_until_its_server_was_killed_is_no_answer(
    server: ModelServer, model: VllmModel
) -> None:
    server.replay = WIRE / "aborted.sse"
    async with aclosing(model.reply("tell me a long story", Facts())) as pieces:
        assert await anext(pieces)
        with pytest.raises(ModelUnavailable, match="ended before the answer did"):
            [piece async for piece in pieces]


@pytest.mark.parametrize("name", WHOLE)
def test_where_the_bytes_are_cut_makes_no_difference(name: str) -> None:
    sent = (WIRE / f"{name}.sse").read_bytes()
    whole = Lines().feed(sent)
    for size in (1, 7, 64):
        lines = Lines()
        assert [data for at in range(0, len(sent), size) for data in lines.feed(sent[at : at + size])] == whole
