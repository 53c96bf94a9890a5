"""Plans asked for as tool calls: how tools are declared, how the model's calls are read, and how it is told of a fault.

What a model calls is a proposal like any other answer: the tool is one of those given and the arguments fit its
schema, by our own check, or it is `IllFormedAnswer`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from inference.answers import (
    MOST_CALLS,
    IllFormedAnswer,
    Schema,
    leaves_nothing_open,
    proposed_call,
    without_extensions,
)
from inference.chunks import ToolCall
from inference.model import PlanProposal, ProposedCall, Tool
from inference.prompt import Message, inert

LONGEST_NAME = 64
_NOT_ALLOWED = re.compile(r"[^a-zA-Z0-9_-]")

_CALL_AS_TEXT = re.compile(r"\s*(?:<tool_call|<function|\[TOOL_CALLS\]|```|[{\[])")
"""How an answer begins in which a call was meant and the server's tool parser did not see it."""


def tool_names(tools: Sequence[Tool]) -> dict[str, Tool]:
    """Tools by names that the protocol allows: letters, digits, `_` and `-`, at most 64, one tool each."""
    named: dict[str, Tool] = {}
    for tool in tools:
        name = plain = _NOT_ALLOWED.sub("_", tool.name)[:LONGEST_NAME]
        repeats = 1
        while name in named:
            repeats += 1
            name = f"{plain[: LONGEST_NAME - 4]}-{repeats}"
        named[name] = tool
    return named


def declarations(named: Mapping[str, Tool], *, always_strict: bool) -> list[Schema]:
    """The `tools` of a request.

    `always_strict` is for vLLM, which holds a model to a schema only then and takes any schema. OpenAI's own servers
    refuse a strict one in which anything is optional, so elsewhere only those without are strict.
    """
    declared: list[Schema] = []
    for name, tool in named.items():
        parameters = without_extensions(tool.parameters)
        function: Schema = {"name": name, "description": tool.description, "parameters": parameters}
        if always_strict or leaves_nothing_open(parameters):
            function["strict"] = True
        declared.append({"type": "function", "function": function})
    return declared


def read_calls(calls: Sequence[ToolCall], words: str, named: Mapping[str, Tool]) -> PlanProposal | None:
    """What was called, with the words beside it as the reason; None where nothing was. Raises `IllFormedAnswer`."""
    if not calls:
        if _CALL_AS_TEXT.match(words):
            raise IllFormedAnswer("the call was written as text")
        return None
    if len(calls) > MOST_CALLS:
        raise IllFormedAnswer(f"there are more than {MOST_CALLS} calls")
    return PlanProposal(tuple(_proposed(call, named) for call in calls), words.strip())


def repair(calls: Sequence[ToolCall], words: str, told: str) -> list[Message]:
    """What the model called, and `told` as the result of every call: none of them was run."""
    if not calls:
        return [{"role": "assistant", "content": inert(words)}, {"role": "user", "content": told}]
    ids = [call.id or f"call_{position}" for position, call in enumerate(calls)]
    called = [
        {"id": id, "type": "function", "function": {"name": call.name, "arguments": _echoed(call.arguments)}}
        for id, call in zip(ids, calls, strict=True)
    ]
    return [
        {"role": "assistant", "content": inert(words) or None, "tool_calls": called},
        *({"role": "tool", "tool_call_id": id, "content": told} for id in ids),
    ]


def _proposed(call: ToolCall, named: Mapping[str, Tool]) -> ProposedCall:
    arguments = _object(call.arguments)
    if arguments is None:
        raise IllFormedAnswer("the arguments of a call are not a JSON object")
    return proposed_call(named.get(call.name), arguments)


def _object(arguments: str) -> Mapping[str, Any] | None:
    if not arguments.strip():
        return {}
    try:
        found = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _echoed(arguments: str) -> str:
    """Arguments as a server takes them back: vLLM parses them for the chat template and fails on what is no object."""
    return inert(arguments) if arguments.strip() and _object(arguments) is not None else "{}"
