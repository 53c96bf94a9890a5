"""The wire to a model server: what travels with a request, what is read back, and when connections end."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest

from inference.chat_completions import ChatCompletions, Dialect, Exchange, RequestRefused, _Patience
from inference.limits import ModelLimits
from inference.model import ModelUnavailable
from inference.purpose import Lane, Purpose
from tests.doubles.model_server import Fault, ModelServer

LIMITS = ModelLimits(
    first_token=timedelta(milliseconds=300), between_tokens=timedelta(milliseconds=300), total=timedelta(seconds=3)
)
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "x" * 400}]}
TOOLS = [{"type": "function", "function": {"name": "tickets_close", "parameters": {"type": "object"}}}]
KEY = bytes(range(32))


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest.fixture
async def wire(server: ModelServer) -> AsyncIterator[ChatCompletions]:
    wire = ChatCompletions(server.url, salt_key=KEY)
    yield wire
    await wire.close()


def ask(wire: ChatCompletions, body: dict[str, Any] = BODY, purpose: Purpose | None = None) -> Exchange:
    return wire.stream(body, LIMITS, asyncio.get_running_loop().time() + 3, purpose)


async def heard(exchange: Exchange) -> str:
    async with asyncio.timeout(5), aclosing(exchange):
        return "".join([piece async for piece in exchange])


async def test_the_trace_of_a_request_is_told_by_its_id_and_each_call_has_its_own_span(
    server: ModelServer, wire: ChatCompletions
) -> None:
    for _ in range(2):
        await heard(ask(wire, purpose=Purpose(request_id="turn-7")))
    await heard(ask(wire))
    traces = [request.headers.get("traceparent") for request in server.requests]
    found = [re.fullmatch("00-([0-9a-f]{32})-([0-9a-f]{16})-01", trace or "") for trace in traces[:2]]
    assert [match and match[1] for match in found] == [hashlib.sha256(b"turn-7").hexdigest()[:32]] * 2
    assert traces[0] != traces[1]
    assert traces[2] is None
    assert [request.headers.get("x-request-id") for request in server.requests] == ["turn-7", "turn-7", None]


async def test_each_tenant_has_a_salt_of_its_own_that_does_not_tell_who_it_is(
    server: ModelServer, wire: ChatCompletions
) -> None:
    for tenant in ("T1", "T2", "T1"):
        await heard(ask(wire, purpose=Purpose(tenant=tenant)))
    first, second, third = (request.body["cache_salt"] for request in server.requests)
    assert first == third != second
    digest = hmac.digest(KEY, b"T1", "sha256")
    assert first == urlsafe_b64encode(digest).decode().rstrip("=")


async def test_people_have_the_priority_every_server_takes_and_background_work_comes_after_them(
    server: ModelServer, wire: ChatCompletions
) -> None:
    await heard(ask(wire, purpose=Purpose(lane=Lane.FAST)))
    await heard(ask(wire, purpose=Purpose(lane=Lane.RICH)))
    assert [request.body.get("priority") for request in server.requests] == [None, 10]


async def test_a_server_that_takes_no_priority_is_asked_without_one_from_then_on(
    server: ModelServer, wire: ChatCompletions
) -> None:
    server.refuses_priority = True
    for _ in range(2):
        assert await heard(ask(wire, purpose=Purpose(lane=Lane.RICH))) == "All is well here."
    assert [request.body.get("priority") for request in server.requests] == [10, None, None]


async def test_another_openai_compatible_server_is_sent_nothing_but_openais_protocol(server: ModelServer) -> None:
    wire = ChatCompletions(server.url, dialect=Dialect.OPENAI, salt_key=KEY)
    await heard(ask(wire, purpose=Purpose(tenant="T1", lane=Lane.RICH)))
    await wire.close()
    assert server.requests[0].body.keys() == {"model", "messages", "stream", "stream_options"}


async def test_what_an_answer_cost_is_read_back(server: ModelServer, wire: ChatCompletions) -> None:
    for _ in range(2):
        exchange = ask(wire)
        await heard(exchange)
    assert exchange.usage.estimated is False
    assert exchange.usage.completion_tokens == 4
    assert exchange.usage.prompt_tokens > 100
    assert exchange.usage.cached_tokens is not None
    assert 0 < exchange.usage.cached_tokens <= exchange.usage.prompt_tokens


async def test_a_server_that_does_not_say_what_an_answer_cost_is_estimated(
    server: ModelServer, wire: ChatCompletions
) -> None:
    server.fault = Fault.NO_USAGE
    exchange = ask(wire)
    assert await heard(exchange) == "All is well here."
    assert (exchange.usage.estimated, exchange.usage.prompt_tokens, exchange.usage.completion_tokens) == (True, 100, 5)


async def test_a_server_that_never_says_what_an_answer_cost_delays_no_word_and_only_then_the_end(
    server: ModelServer, wire: ChatCompletions
) -> None:
    server.fault = Fault.SLOW_USAGE
    loop = asyncio.get_running_loop()
    exchange = ask(wire)
    started = loop.time()
    words_at = started
    async with aclosing(exchange):
        async for _ in exchange:
            words_at = loop.time()
    assert words_at - started < 0.4
    assert loop.time() - words_at < 0.9
    assert exchange.usage.estimated
    await server.idle()
    assert server.aborted == 1


async def test_a_stopped_answer_is_estimated_by_what_had_arrived(server: ModelServer, wire: ChatCompletions) -> None:
    server.fault = Fault.STALL
    exchange = ask(wire)
    async with aclosing(exchange):
        async for _ in exchange:
            break
    assert (exchange.usage.estimated, exchange.usage.prompt_tokens, exchange.usage.completion_tokens) == (True, 100, 1)


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.ERROR_EVENT])
async def test_a_request_the_server_did_not_take_cost_nothing(
    server: ModelServer, wire: ChatCompletions, fault: Fault
) -> None:
    server.fault = fault
    exchange = ask(wire)
    with pytest.raises(ModelUnavailable):
        await heard(exchange)
    assert (exchange.usage.prompt_tokens, exchange.usage.completion_tokens) == (0, 0)


async def test_tool_calls_are_put_together_from_their_pieces_by_their_index(
    server: ModelServer, wire: ChatCompletions
) -> None:
    calls = [{"tool": "tickets.close", "arguments": {"ticket": f"TCK-{number}"}} for number in (1, 2)]
    server.answers["propose_plan"] = json.dumps({"calls": calls, "reason": "You asked for both."})
    exchange = ask(wire, {**BODY, "tools": TOOLS})
    assert await heard(exchange) == "You asked for both."
    assert [(call.id, call.name, json.loads(call.arguments)) for call in exchange.calls] == [
        ("call-0", "tickets_close", {"ticket": "TCK-1"}),
        ("call-1", "tickets_close", {"ticket": "TCK-2"}),
    ]


async def test_pieces_of_two_calls_may_come_interleaved(server: ModelServer, wire: ChatCompletions) -> None:
    server.replay = _events(
        {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "second", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "first", "arguments": '{"x'}}]},
        {
            "tool_calls": [
                {"index": 1, "function": {"arguments": "{}"}},
                {"index": 0, "function": {"arguments": '":1}'}},
            ]
        },
        finish="tool_calls",
    )
    exchange = ask(wire)
    await heard(exchange)
    assert [(call.id, call.name, call.arguments) for call in exchange.calls] == [
        ("a", "first", '{"x":1}'),
        ("b", "second", "{}"),
    ]


@pytest.mark.parametrize(
    "calls",
    [
        {"index": 0},
        ["call"],
        [{"function": {"name": "x"}}],
        [{"index": True, "function": {"name": "x"}}],
        [{"index": -1, "function": {"name": "x"}}],
        [{"index": 10_000, "function": {"name": "x"}}],
        [{"index": 0, "function": "x"}],
        [{"index": 0, "function": {"arguments": {"x": 1}}}],
    ],
)
async def test_a_tool_call_that_is_none_ends_in_model_unavailable(
    server: ModelServer, wire: ChatCompletions, calls: object
) -> None:
    server.replay = _events({"tool_calls": calls}, finish="tool_calls")
    with pytest.raises(ModelUnavailable, match="tool call"):
        await heard(ask(wire))


async def test_a_refusal_is_told_in_our_words_and_never_in_the_servers(
    server: ModelServer, wire: ChatCompletions
) -> None:
    server.fault = Fault.RENAMED
    with pytest.raises(RequestRefused, match=r"does not serve 'tiny' \(404\)") as refused:
        await heard(ask(wire))
    assert "does not exist" in refused.value.said
    assert "does not exist" not in str(refused.value)


async def test_answers_one_after_the_other_share_a_connection(server: ModelServer, wire: ChatCompletions) -> None:
    for _ in range(5):
        await heard(ask(wire))
        assert server.connections == 1
    await wire.close()


async def test_a_slow_reader_is_not_taken_for_a_slow_server(server: ModelServer, wire: ChatCompletions) -> None:
    server.answers["reply"] = "one two three"
    limits = ModelLimits(between_tokens=timedelta(milliseconds=30))
    loop = asyncio.get_running_loop()
    pieces = []
    async with aclosing(wire.stream(BODY, limits, loop.time() + 3)) as exchange:
        async for piece in exchange:
            pieces.append(piece)
            # The reader's own time is what is tried here, so it has to pass.
            await asyncio.sleep(0.05)
    assert pieces == ["one", " two", " three"]


async def test_a_time_between_tokens_shorter_than_the_time_to_the_first_is_kept(server: ModelServer) -> None:
    server.fault = Fault.STALL
    wire = ChatCompletions(server.url)
    limits = ModelLimits(first_token=timedelta(seconds=30), between_tokens=timedelta(milliseconds=100))
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(ModelUnavailable, match="next token"):
        await heard(wire.stream(BODY, limits, started + 60))
    assert loop.time() - started < 2
    await wire.close()


async def test_a_kept_connection_that_the_server_has_just_closed_costs_no_answer() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert length is not None
        await reader.readexactly(int(length[1]))
        body = _events({"content": "Hello."}, finish="stop")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        # The next request on this connection finds it closed, as after the server's keep-alive time.
        await reader.read(1)
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    wire = ChatCompletions(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    assert [await heard(ask(wire)) for _ in range(3)] == ["Hello."] * 3
    assert connections == 3
    await wire.close()
    listener.close()
    await listener.wait_closed()


def _events(*deltas: dict[str, Any], finish: str) -> bytes:
    choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish})
    return b"".join(f"data: {json.dumps({'choices': [choice]})}\n\n".encode() for choice in choices) + (
        b"data: [DONE]\n\n"
    )


async def test_bytes_that_come_in_the_very_turn_the_time_is_up_are_in_time() -> None:
    loop = asyncio.get_running_loop()
    content = aiohttp.StreamReader(Mock(), 2**16, loop=loop)
    patience = _Patience(LIMITS, loop.time() + 30)
    patience.watch(content)
    waiting = asyncio.create_task(patience.bytes())
    await asyncio.sleep(0)
    patience.until = loop.time()
    content.feed_data(b"first")
    patience._look()
    assert await waiting == b"first"
    patience.progress()
    content.feed_data(b"second")
    assert await patience.bytes() == b"second"
    patience.until = loop.time()
    patience.last(0.01)
    with pytest.raises(ModelUnavailable, match="too slow with the next token"):
        await patience.bytes()
    patience.end()
