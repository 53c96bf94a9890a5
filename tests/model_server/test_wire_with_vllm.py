"""The product's client against a real vLLM server: what it asks for is taken, and what comes back is understood."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import aiohttp
import pytest

from inference.chat_completions import ChatCompletions, Exchange
from inference.limits import ModelLimits
from inference.model import Facts, Label, ModelUnavailable, Tool, Utterance
from inference.probe_requests import LONG_TEXT, OUTLINE, TOOLS, fits_outline
from inference.purpose import Lane, Purpose
from inference.usage import Usage
from inference.vllm import VllmModel
from tests.model_server.serving import LONG, Serving

T = TypeVar("T")

SALT_KEY = bytes(32)
STORY = "tell me a long story"
PATIENT = ModelLimits(first_token=timedelta(seconds=60), total=timedelta(seconds=120))
"""For a server whose slots are full, or whose machine has other things to do."""
SOON = 3.0
"""Seconds within which the server has stopped working for a client that has gone, and has said so."""
RUNNING = "vllm:num_requests_running"
COMPUTED = "vllm:generation_tokens_total"

THREAD = (
    Utterance("1.1", "Ana", "The login page is down.", datetime(2026, 3, 2, 9, tzinfo=UTC)),
    Utterance("1.2", "Ben", "We restart it at nine.", datetime(2026, 3, 2, 10, tzinfo=UTC)),
)
LABELS = (Label("close", "Close a ticket", ("close TCK-1",)), Label("help", "What can you do", ("help",)))


@pytest.fixture
async def wire(server: Serving) -> AsyncIterator[ChatCompletions]:
    wire = ChatCompletions(server.url, salt_key=SALT_KEY)
    yield wire
    await wire.close()


def asked(wire: ChatCompletions, words: str, purpose: Purpose | None = None, **body: Any) -> Exchange:
    whole = {"model": "tiny", "temperature": 0, "messages": [{"role": "user", "content": words}], **body}
    limits = PATIENT
    return wire.stream(whole, limits, asyncio.get_running_loop().time() + limits.total.total_seconds(), purpose)


async def text_of(exchange: Exchange) -> str:
    async with aclosing(exchange):
        return "".join([piece async for piece in exchange])


def function(tool: Tool) -> dict[str, Any]:
    name = tool.name.replace(".", "_")
    return {"type": "function", "function": {"name": name, "parameters": tool.parameters, "strict": True}}


async def test_a_reply_arrives_in_many_pieces_and_its_tokens_are_counted(server: Serving) -> None:
    spent: list[Usage] = []
    model = VllmModel(server.url, server.model, limits=PATIENT, spent=lambda _, usage: spent.append(usage))
    pieces = [piece async for piece in model.reply(STORY, Facts())]
    await model.close()
    assert len(pieces) > 20
    assert spent[0].completion_tokens > 20
    assert not spent[0].estimated


async def test_a_schema_holds_even_where_the_model_would_write_something_else(wire: ChatCompletions) -> None:
    agreed = {"type": "json_schema", "json_schema": {"name": "outline", "schema": OUTLINE, "strict": True}}
    assert fits_outline(await text_of(asked(wire, "hello", response_format=agreed, max_tokens=200)))


async def unless_refused(answer: Awaitable[T]) -> T | None:
    """None where the model, which has learned neither, answered twice in another form and that was said."""
    try:
        return await answer
    except ModelUnavailable as error:
        return None if "answered twice in another form" in str(error) else pytest.fail(str(error))


async def test_a_classification_is_of_the_labels_given_or_refused(model: VllmModel) -> None:
    found = await unless_refused(model.classify("close TCK-4", LABELS))
    assert found is None or (found.label in {"close", "help", None} and 0 <= found.confidence <= 1)


async def test_a_summary_rests_on_the_thread_or_is_refused(model: VllmModel) -> None:
    summary = await unless_refused(model.summarise(THREAD))
    assert summary is None or {id for point in summary.points for id in point.sources} <= {"1.1", "1.2"}


@pytest.mark.parametrize("plans_by", ["tools", "schema"])
async def test_a_plain_request_becomes_the_right_call(server: Serving, plans_by: Any) -> None:
    model = VllmModel(server.url, server.model, limits=PATIENT, plans_by=plans_by)
    close, create = [
        await model.propose_plan(words, TOOLS, ())
        for words in ("Please close ticket TCK-48.", "Open a ticket: noisy lamp in the kitchen")
    ]
    await model.close()
    assert close is not None
    assert create is not None
    assert [(call.tool, call.arguments) for call in (*close.calls, *create.calls)] == [
        ("ticketing.close", {"ticket": "TCK-48"}),
        ("ticketing.create", {"title": "noisy lamp in the kitchen"}),
    ]


async def test_a_request_for_nothing_becomes_no_plan(model: VllmModel) -> None:
    assert await model.propose_plan("thanks, that is all", TOOLS, ()) is None


async def test_one_request_asked_many_times_at_once_becomes_one_plan(model: VllmModel) -> None:
    plans = await asyncio.gather(*(model.propose_plan("close TCK-77", TOOLS, ()) for _ in range(12)))
    assert {str(plan and plan.calls) for plan in plans} == {str(plans[0] and plans[0].calls)}
    assert plans[0] is not None


@pytest.mark.parametrize(
    "choice",
    ["required", {"type": "function", "function": {"name": "ticketing_close"}}],
    ids=["required", "named"],
)
async def test_a_call_that_is_demanded_is_made_with_arguments_of_its_schema(
    wire: ChatCompletions, choice: str | dict[str, Any]
) -> None:
    tools = [function(TOOLS[0])]
    exchange = asked(wire, "close TCK-5", tools=tools, tool_choice=choice, max_tokens=200)
    await text_of(exchange)
    assert [call.name for call in exchange.calls] == ["ticketing_close"]
    assert '"ticket"' in exchange.calls[0].arguments


async def test_people_go_before_background_work_that_came_earlier(server: Serving, wire: ChatCompletions) -> None:
    begun: list[str] = []

    async def ask(name: str, lane: Lane, tokens: int = 20) -> None:
        exchange = asked(wire, f"{STORY} {name}", Purpose(lane=lane), ignore_eos=True, max_tokens=tokens)
        async with aclosing(exchange):
            async for _ in exchange:
                if name not in begun:
                    begun.append(name)

    async with asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(ask(f"running {number}", Lane.RICH, tokens=4000))
        await server.until(RUNNING, 4, within=20)
        for number in range(3):
            tasks.create_task(ask(f"background {number}", Lane.RICH))
        await server.until("vllm:num_requests_waiting", 3, within=20)
        tasks.create_task(ask("person", Lane.FAST))
    assert begun[4] == "person"


async def test_what_one_tenant_asked_makes_nothing_faster_for_another(wire: ChatCompletions) -> None:
    words = f"{uuid.uuid4()} {LONG_TEXT}"

    async def cached(tenant: str) -> int:
        exchange = asked(wire, words, Purpose(tenant=tenant), max_tokens=1)
        await text_of(exchange)
        return exchange.usage.cached_tokens or 0

    assert await cached("one") == 0
    assert await cached("one") > 400
    assert await cached("two") == 0


async def test_the_standing_part_of_our_own_prompts_is_in_the_cache_the_second_time(server: Serving) -> None:
    spent: list[Usage] = []
    model = VllmModel(
        server.url, server.model, limits=PATIENT, salt_key=SALT_KEY, spent=lambda _, usage: spent.append(usage)
    )
    tenant = model.on_behalf_of(Purpose(tenant=str(uuid.uuid4())))
    before = (await server.metrics())["vllm:prefix_cache_hits_total"]
    for words in ("close TCK-31", "Open a ticket: slow door in the lab"):
        await tenant.propose_plan(words, TOOLS, THREAD)
    await model.close()
    after = (await server.metrics())["vllm:prefix_cache_hits_total"]
    first, second = spent[0], spent[-1]
    assert not first.cached_tokens
    assert (second.cached_tokens or 0) / second.prompt_tokens > 0.6
    assert after - before >= (second.cached_tokens or 0)


async def test_our_request_id_comes_back_and_a_trace_is_taken(server: Serving) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    headers = {"X-Request-Id": "ours-42", "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/v1/chat/completions", json=body, headers=headers) as answer,
    ):
        assert (answer.status, answer.headers["X-Request-Id"]) == (200, "ours-42")


async def test_a_request_with_an_id_is_answered(model: VllmModel) -> None:
    bound = model.on_behalf_of(Purpose(tenant="one", request_id="r-1"))
    assert [piece async for piece in bound.reply("hello", Facts())]


async def test_an_answer_that_is_left_is_no_longer_computed(server: Serving, wire: ChatCompletions) -> None:
    before = (await server.metrics())[COMPUTED]
    exchange = asked(wire, STORY, ignore_eos=True, max_tokens=LONG)
    async with aclosing(exchange):
        async for _ in exchange:
            break
    await server.until(RUNNING, 0, within=SOON)
    assert (await server.metrics())[COMPUTED] - before < LONG


async def test_a_cancelled_question_is_no_longer_computed(server: Serving, wire: ChatCompletions) -> None:
    before = (await server.metrics())[COMPUTED]
    began = asyncio.get_running_loop().create_future()

    async def ask() -> None:
        exchange = asked(wire, STORY, ignore_eos=True, max_tokens=LONG)
        async with aclosing(exchange):
            async for _ in exchange:
                if not began.done():
                    began.set_result(None)

    task = asyncio.create_task(ask())
    await asyncio.wait((task, began), return_when=asyncio.FIRST_COMPLETED)
    assert not task.done()
    task.cancel()
    await server.until(RUNNING, 0, within=SOON)
    assert (await server.metrics())[COMPUTED] - before < LONG


async def test_more_words_than_the_model_can_read_are_an_honest_error(model: VllmModel) -> None:
    with pytest.raises(ModelUnavailable, match="longer than the model server's model can read"):
        [piece async for piece in model.reply("lamp door " * 20000, Facts())]


async def test_a_model_that_is_not_served_is_named(server: Serving) -> None:
    model = VllmModel(server.url, "another")
    with pytest.raises(ModelUnavailable, match="does not serve 'another'"):
        [piece async for piece in model.reply("hello", Facts())]
    await model.close()
