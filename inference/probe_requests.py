"""What a probe asks: two tools and three plain requests with their right calls, an outline schema, and a long text."""

from __future__ import annotations

from typing import Any

import orjson
from jsonschema import Draft202012Validator

from inference.model import Tool


def _tool(name: str, purpose: str, argument: str, **kind: str) -> Tool:
    schema = {
        "type": "object",
        "properties": {argument: {"type": "string", **kind}},
        "required": [argument],
        "additionalProperties": False,
    }
    return Tool(name, purpose, schema)


TOOLS = (
    _tool("ticketing.close", "Close an open ticket.", "ticket", pattern="^TCK-[0-9]{1,9}$"),
    _tool("ticketing.create", "Create a ticket.", "title", description="What is wrong or wanted, in one line."),
)

PLAIN_REQUESTS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Please close ticket TCK-48.", "ticketing.close", {"ticket": "TCK-48"}),
    ("Open a ticket: broken printer in the lab", "ticketing.create", {"title": "broken printer in the lab"}),
    ("close TCK-77", "ticketing.close", {"ticket": "TCK-77"}),
)
"""What a person says, the tool that is meant, and its arguments."""

OUTLINE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["verdigris", "gamboge"]},
        "chapters": {"type": "array", "items": {"enum": ["tide", "harbour", "storm"]}, "minItems": 2, "maxItems": 3},
    },
    "required": ["colour", "chapters"],
    "additionalProperties": False,
}
"""Words that no model would use unasked: an answer that fits was held to the schema by the server."""

LONG_TEXT = " ".join(
    f"Rule {number}: a request that changes something is shown to a person before it is done, and it is done once."
    for number in range(1, 31)
)
"""Some seven hundred tokens, in place of a long standing prompt."""


def fits_outline(text: str) -> bool:
    """Whether an answer is JSON of `OUTLINE`."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return bool(Draft202012Validator(OUTLINE).is_valid(found))
