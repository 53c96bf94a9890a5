"""Reads a tool's JSON schema as far as filling needs it: `$ref` followed, a nullable value taken as the value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEEPEST = 8
"""References followed one after the other; a schema that goes round in a circle ends there."""


def flattened(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> Mapping[str, Any]:
    """A property's schema without indirection: a local `$ref` replaced by what it names, and `anyOf` of one schema and
    null replaced by that schema, as pydantic writes `date | None`."""
    if depth > DEEPEST:
        return schema
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        named: Any = root
        for step in reference[2:].split("/"):
            named = named.get(step, {}) if isinstance(named, Mapping) else {}
        own = {key: value for key, value in schema.items() if key != "$ref"}
        return flattened({**named, **own}, root, depth + 1)
    for keyword in ("anyOf", "oneOf", "allOf"):
        options = schema.get(keyword)
        if isinstance(options, list):
            wanted = [each for each in options if isinstance(each, Mapping) and each.get("type") != "null"]
            if len(wanted) == 1:
                own = {key: value for key, value in schema.items() if key != keyword}
                return flattened({**wanted[0], **own}, root, depth + 1)
    inside = {key: schema[key] for key in ("items",) if isinstance(schema.get(key), Mapping)}
    return {**schema, **{key: flattened(value, root, depth + 1) for key, value in inside.items()}}


def type_of(schema: Mapping[str, Any]) -> str:
    """The type of a value, null aside; `string` where a schema says none."""
    declared = schema.get("type", "string")
    return declared if isinstance(declared, str) else next((each for each in declared if each != "null"), "string")
