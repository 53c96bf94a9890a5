"""The agreed forms of a model's answers: the JSON schema it is held to, and the reading that trusts none of it.

A reader raises `IllFormedAnswer` with a sentence the model can act on; what merely points outside the input (an
unknown message id, a label nobody offered) is dropped without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from jsonschema import Draft202012Validator, FormatChecker

from inference.model import Classification, Label, PlanProposal, ProposedCall, Summary, SummaryPoint, Tool, Utterance

Schema = dict[str, Any]

MOST_CALLS = 5
"""Calls in one proposed plan; a person has to be able to read them."""

LONGEST_PROBLEM = 300
"""Characters of a schema error that are told back to the model."""


class IllFormedAnswer(Exception):
    """The answer is not in the agreed form. The message says how, for the model to mend it."""


def arguments_problem(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> str | None:
    """What is wrong with a tool's arguments by its JSON schema, formats included; None when nothing is."""
    error = next(Draft202012Validator(dict(schema), format_checker=FormatChecker()).iter_errors(dict(arguments)), None)
    return None if error is None else f"{error.json_path}: {error.message}"[:LONGEST_PROBLEM]


def summary_schema() -> Schema:
    """Points, decisions and open questions, each with the ids it rests on."""
    statement = _object(text=_text(), sources={"type": "array", "items": {"type": "string"}, "minItems": 1})
    return _object(
        points={"type": "array", "items": statement, "minItems": 1, "maxItems": 8},
        decisions={"type": "array", "items": statement, "maxItems": 8},
        open_questions={"type": "array", "items": statement, "maxItems": 8},
    )


def read_summary(answer: str, thread: Sequence[Utterance]) -> Summary:
    """A summary whose every statement rests on messages of the thread. Raises `IllFormedAnswer`."""
    found = _parsed(answer, summary_schema())
    known = {utterance.id for utterance in thread}

    def grounded(statements: Sequence[Mapping[str, Any]]) -> tuple[SummaryPoint, ...]:
        points = (
            SummaryPoint(each["text"].strip(), tuple(dict.fromkeys(id for id in each["sources"] if id in known)))
            for each in statements
        )
        return tuple(point for point in points if point.sources and point.text)

    summary = Summary(grounded(found["points"]), grounded(found["decisions"]), grounded(found["open_questions"]))
    if not summary.points:
        raise IllFormedAnswer("no point names the id of a message that was given")
    return summary


def classification_schema(labels: Sequence[Label]) -> Schema:
    """One of the labels' names or null, and a confidence."""
    return _object(
        label={"enum": [*(label.name for label in labels), None]},
        confidence={"type": "number", "minimum": 0, "maximum": 1},
    )


def read_classification(answer: str, labels: Sequence[Label]) -> Classification:
    """One of the labels offered, or none; a label nobody offered is none. Raises `IllFormedAnswer`."""
    schema = classification_schema(labels)
    schema["properties"]["label"] = {"type": ["string", "null"]}
    found = _parsed(answer, schema)
    if found["label"] not in {label.name for label in labels}:
        return Classification(None, float(found["confidence"]) if found["label"] is None else 0.0)
    return Classification(found["label"], float(found["confidence"]))


def plan_schema(tools: Sequence[Tool]) -> Schema:
    """Calls, each held to its own tool's arguments, and a reason."""
    calls = [_object(tool={"const": tool.name}, arguments=without_extensions(tool.parameters)) for tool in tools]
    return _object(
        calls={"type": "array", "items": {"anyOf": calls} if calls else False, "maxItems": MOST_CALLS},
        reason={"type": "string"},
    )


def read_plan(answer: str, tools: Sequence[Tool]) -> PlanProposal | None:
    """Calls of the tools given with arguments their schemas allow; None for no calls. Raises `IllFormedAnswer`."""
    call = _object(tool={"type": "string"}, arguments={"type": "object"})
    found = _parsed(
        answer, _object(calls={"type": "array", "items": call, "maxItems": MOST_CALLS}, reason={"type": "string"})
    )
    by_name = {tool.name: tool for tool in tools}
    calls = tuple(proposed_call(by_name.get(each["tool"]), each["arguments"]) for each in found["calls"])
    return PlanProposal(calls, found["reason"].strip()) if calls else None


def proposed_call(tool: Tool | None, arguments: Mapping[str, Any]) -> ProposedCall:
    """A call whose arguments the tool's schema allows; None stands for a tool nobody gave. Raises `IllFormedAnswer`."""
    if tool is None:
        raise IllFormedAnswer("it calls a tool that does not exist")
    problem = arguments_problem(tool.parameters, arguments)
    if problem is not None:
        raise IllFormedAnswer(f"the arguments of {tool.name} do not fit: {problem}")
    return ProposedCall(tool.name, arguments)


def _parsed(answer: str, schema: Schema) -> Mapping[str, Any]:
    try:
        found = orjson.loads(answer)
    except orjson.JSONDecodeError:
        raise IllFormedAnswer("it is not JSON") from None
    error = next(Draft202012Validator(schema).iter_errors(found), None)
    if error is not None:
        raise IllFormedAnswer(f"{error.json_path}: {error.message}"[:LONGEST_PROBLEM])
    parsed: Mapping[str, Any] = found
    return parsed


def _object(**properties: Any) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _text() -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": 600}


def leaves_nothing_open(schema: Any) -> bool:
    """Every object in it requires all that it allows: what OpenAI's own servers ask of a strict schema."""
    if isinstance(schema, Mapping):
        properties = schema.get("properties")
        if schema.get("type") == "object" and (
            schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(properties or ())
        ):
            return False
        return all(leaves_nothing_open(value) for value in schema.values())
    if isinstance(schema, list | tuple):
        return all(leaves_nothing_open(each) for each in schema)
    return True


def without_extensions(schema: Any) -> Any:
    """A schema without its `x-` keywords, which are hints for us and may be errors to a grammar compiler."""
    if isinstance(schema, Mapping):
        return {key: without_extensions(value) for key, value in schema.items() if not key.startswith("x-")}
    if isinstance(schema, list | tuple):
        return [without_extensions(each) for each in schema]
    return schema
