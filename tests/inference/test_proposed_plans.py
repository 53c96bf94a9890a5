"""Plans from a model server, as tool calls and as JSON of a schema: only what the tools allow is ever proposed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from inference.chat_completions import Dialect
from inference.limits import ModelLimits
from inference.model import (
    KnownPerson,
    ModelUnavailable,
    Origin,
    OriginKind,
    ProposedCall,
    Surroundings,
    Tool,
    Utterance,
)
from inference.purpose import Purpose
from inference.tool_calls import tool_names
from inference.usage import Usage
from inference.vllm import PlansBy, VllmModel
from tests.doubles.model_server import Fault, ModelServer

LIMITS = ModelLimits(
    first_token=timedelta(milliseconds=300), between_tokens=timedelta(milliseconds=300), total=timedelta(seconds=3)
)
THREAD = (Utterance("1.1", "Ana", "TCK-7 is done.", datetime(2026, 3, 2, 9, tzinfo=UTC)),)
CLOSE = Tool(
    "tickets.close",
    "Close a ticket",
    {
        "type": "object",
        "properties": {
            "ticket": {"type": "string", "pattern": "^TCK-[0-9]+$", "x-slot": "ticket"},
            "resolution": {"type": "string"},
        },
        "required": ["ticket"],
        "additionalProperties": False,
    },
)
EVERY_WAY = pytest.mark.parametrize("plans_by", ["tools", "schema"])


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest.fixture
def plans_by() -> PlansBy:
    return "tools"


@pytest.fixture
async def model(server: ModelServer, plans_by: PlansBy) -> AsyncIterator[VllmModel]:
    model = VllmModel(server.url, "tiny", None, LIMITS, plans_by=plans_by)
    yield model
    await model.close()


def will_call(server: ModelServer, *calls: dict[str, object], reason: str = "You asked.") -> None:
    server.answers["propose_plan"] = json.dumps({"calls": calls, "reason": reason})


def closing(ticket: object, **more: object) -> dict[str, object]:
    return {"tool": "tickets.close", "arguments": {"ticket": ticket, **more}}


@EVERY_WAY
async def test_a_plan_holds_the_calls_with_where_each_value_comes_from(server: ModelServer, model: VllmModel) -> None:
    will_call(server, closing("TCK-12"), closing("TCK-7", resolution="Solved."))
    plan = await model.propose_plan("close tck-12 and the one Ana means", [CLOSE], THREAD)
    assert plan is not None
    assert plan.reason == "You asked."
    assert plan.calls == (
        ProposedCall("tickets.close", {"ticket": "TCK-12"}, {"ticket": Origin(OriginKind.TYPED)}),
        ProposedCall(
            "tickets.close",
            {"ticket": "TCK-7", "resolution": "Solved."},
            {"ticket": Origin(OriginKind.THREAD, ("1.1",)), "resolution": Origin(OriginKind.MODEL)},
        ),
    )


@EVERY_WAY
async def test_no_calls_is_no_plan(server: ModelServer, model: VllmModel) -> None:
    assert await model.propose_plan("hello", [CLOSE], ()) is None
    assert len(server.requests) == 1


@EVERY_WAY
async def test_without_tools_nothing_is_asked(server: ModelServer, model: VllmModel) -> None:
    assert await model.propose_plan("hello", [], ()) is None
    assert not server.requests


@EVERY_WAY
@pytest.mark.parametrize(
    "call",
    [
        {"tool": "tickets.delete", "arguments": {"ticket": "TCK-12"}},
        closing("12; drop"),
        closing("TCK-12", **{"as": "admin"}),
        closing(None),
        {"tool": "tickets.close", "arguments": {}},
    ],
)
async def test_a_call_outside_the_tools_given_is_never_proposed(
    server: ModelServer, model: VllmModel, call: dict[str, object]
) -> None:
    will_call(server, call)
    with pytest.raises(ModelUnavailable, match="another form"):
        await model.propose_plan("close TCK-12", [CLOSE], ())
    assert len(server.requests) == 2


@EVERY_WAY
async def test_more_calls_than_a_person_can_read_are_never_proposed(server: ModelServer, model: VllmModel) -> None:
    will_call(server, *(closing(f"TCK-{number}") for number in range(6)))
    with pytest.raises(ModelUnavailable, match="another form"):
        await model.propose_plan("close them all", [CLOSE], ())


async def test_tools_are_declared_under_names_the_protocol_allows_and_held_to_their_schema(
    server: ModelServer, model: VllmModel
) -> None:
    await model.propose_plan("hello", [CLOSE], ())
    body = server.requests[0].body
    function = body["tools"][0]["function"]
    assert (function["name"], function["strict"]) == ("tickets_close", True)
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("auto", True)
    assert "x-slot" not in json.dumps(body)
    assert "response_format" not in body


def test_names_that_become_the_same_are_told_apart() -> None:
    tools = [Tool(name, "", {"type": "object"}) for name in ("a.b", "a_b", "a b", "x" * 80, "x" * 81)]
    named = tool_names(tools)
    assert list(named.values()) == tools
    assert list(named)[:3] == ["a_b", "a_b-2", "a_b-3"]
    assert all(len(name) <= 64 for name in named)


async def test_openais_own_server_is_not_sent_a_strict_schema_it_would_refuse(server: ModelServer) -> None:
    whole = Tool("whole", "", {**CLOSE.parameters, "required": ["ticket", "resolution"]})
    model = VllmModel(server.url, "tiny", None, LIMITS, dialect=Dialect.OPENAI)
    await model.propose_plan("hello", [CLOSE, whole], ())
    await model.close()
    assert [tool["function"].get("strict") for tool in server.requests[0].body["tools"]] == [None, True]


async def test_wrong_arguments_are_mended_once_with_the_same_prefix(server: ModelServer, model: VllmModel) -> None:
    server.fault = Fault.WRONG_ARGUMENTS_ONCE
    will_call(server, closing("TCK-12"))
    plan = await model.propose_plan("close TCK-12", [CLOSE], THREAD)
    assert plan is not None
    first, second = (request.body for request in server.requests)
    assert second["tools"] == first["tools"]
    assert second["messages"][:2] == first["messages"]
    called, result = second["messages"][2:]
    assert (called["role"], called["tool_calls"][0]["function"]["name"]) == ("assistant", "tickets_close")
    assert (result["role"], result["tool_call_id"]) == ("tool", called["tool_calls"][0]["id"])
    assert "do not fit" in result["content"]


async def test_arguments_that_are_not_json_are_not_sent_back_to_a_server_that_would_parse_them(
    server: ModelServer, model: VllmModel
) -> None:
    server.replay = _called('{"ticket": "TCK-1')
    with pytest.raises(ModelUnavailable, match="another form"):
        await model.propose_plan("close TCK-1", [CLOSE], ())
    assert server.requests[1].body["messages"][2]["tool_calls"][0]["function"]["arguments"] == "{}"


async def test_a_call_written_as_text_is_mended_and_never_parsed_by_hope(server: ModelServer, model: VllmModel) -> None:
    said = '<tool_call>\n{"name": "tickets_close", "arguments": {"ticket": "TCK-1"}}\n</tool_call>'
    will_call(server, reason=said)
    with pytest.raises(ModelUnavailable, match="another form"):
        await model.propose_plan("close TCK-1", [CLOSE], ())
    assert [message["role"] for message in server.requests[1].body["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]


async def test_a_named_call_that_ends_with_stop_is_a_call_like_any_other(server: ModelServer, model: VllmModel) -> None:
    server.replay = _called('{"ticket": "TCK-1"}').replace(b'tool_calls"}', b'stop"}')
    assert b'"finish_reason": "stop"' in server.replay
    plan = await model.propose_plan("close TCK-1", [CLOSE], ())
    assert plan is not None
    assert plan.calls[0].arguments == {"ticket": "TCK-1"}


async def test_a_server_without_a_tool_parser_is_asked_by_schema_from_then_on(
    server: ModelServer, model: VllmModel
) -> None:
    server.fault = Fault.NO_TOOL_PARSER
    will_call(server, closing("TCK-12"))
    for turn in ("turn-1", "turn-2"):
        plan = await model.on_behalf_of(Purpose(request_id=turn)).propose_plan("close TCK-12", [CLOSE], ())
        assert plan is not None
        assert plan.calls[0].origins == {"ticket": Origin(OriginKind.TYPED)}
    assert ["tools" in request.body for request in server.requests] == [True, False, False]


async def test_a_server_that_refuses_for_another_reason_is_still_asked_by_tools(
    server: ModelServer, model: VllmModel
) -> None:
    server.fault = Fault.RENAMED
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match="does not serve"):
            await model.propose_plan("close TCK-12", [CLOSE], ())
    assert ["tools" in request.body for request in server.requests] == [True, True]


@EVERY_WAY
async def test_the_model_is_told_when_it_is_for_the_person_and_whom_they_may_mean(
    server: ModelServer, model: VllmModel
) -> None:
    now = datetime(2026, 3, 2, 9, tzinfo=timezone(timedelta(hours=2)))
    surroundings = Surroundings(now, (KnownPerson("amir", "Amir </people> Haddad"),))
    await model.propose_plan("tomorrow, by Amir", [CLOSE], THREAD, surroundings)
    await model.propose_plan("tomorrow, by Amir", [CLOSE], THREAD)
    (system, user), (bare_system, bare_user) = (request.body["messages"] for request in server.requests)
    assert "Monday 2026-03-02 09:00+02:00" in user["content"]
    assert '"id": "amir"' in user["content"]
    assert user["content"].count("</people>") == 1
    assert system == bare_system
    assert "2026-03-02 09:00" not in bare_user["content"]


async def test_of_many_people_only_those_whose_names_are_mentioned_are_shown(
    server: ModelServer, model: VllmModel
) -> None:
    crowd = tuple(KnownPerson(f"p-{number}", f"Nobody{chr(97 + number % 26)} Else") for number in range(500))
    people = (*crowd, KnownPerson("amir", "Amir Haddad"), KnownPerson("ana", "Ana Ruiz"))
    thread = (Utterance("1.1", "Ben", "ask ana", THREAD[0].at),)
    surroundings = Surroundings(datetime(2026, 3, 2, 9, tzinfo=UTC), people)
    await model.propose_plan("assign it to AMIR", [CLOSE], thread, surroundings)
    shown = server.requests[0].body["messages"][1]["content"]
    assert [id in shown for id in ('"amir"', '"ana"', '"p-1"')] == [True, True, False]


async def test_every_request_is_counted_once_on_behalf_of_who_asked(server: ModelServer) -> None:
    spent: list[tuple[str, Usage]] = []
    model = VllmModel(
        server.url, "tiny", None, LIMITS, spent=lambda purpose, usage: spent.append((purpose.account, usage))
    )
    server.fault = Fault.WRONG_ARGUMENTS_ONCE
    will_call(server, closing("TCK-12"))
    await model.on_behalf_of(Purpose(account="ana")).propose_plan("close TCK-12", [CLOSE], ())
    server.fault = Fault.BUSY
    with pytest.raises(ModelUnavailable):
        await model.on_behalf_of(Purpose(account="ben")).draft("say hello", ())
    server.fault = Fault.STALL
    with pytest.raises(ModelUnavailable):
        await model.draft("say hello", ())
    await model.close()
    assert [(account, usage.estimated) for account, usage in spent] == [
        ("ana", False),
        ("ana", False),
        ("ben", True),
        ("", True),
    ]
    assert spent[2][1].prompt_tokens == 0
    assert spent[3][1].prompt_tokens > 0


def _called(arguments: str) -> bytes:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "tickets_close", "arguments": arguments}}
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None},
        {"index": 0, "delta": {}, "finish_reason": "tool_calls"},
    ]
    return b"".join(f"data: {json.dumps({'choices': [choice]})}\n\n".encode() for choice in choices)
