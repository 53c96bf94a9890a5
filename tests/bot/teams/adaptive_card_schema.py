"""A JSON Schema of the Adaptive Card 1.5 elements Countersign draws, stricter than the published one.

Written from the schema explorer of version 1.5 (https://adaptivecards.io/explorer/): a property, value or element that
is not listed there for its type is an error here, as is a card inside a card inside a card.
"""

from __future__ import annotations

from typing import Any

_STYLES = ["default", "emphasis", "good", "attention", "warning", "accent"]
_SIZES = ["Small", "Default", "Medium", "Large", "ExtraLarge"]
_SPACINGS = ["None", "Small", "Default", "Medium", "Large", "ExtraLarge", "Padding"]


def _object(kind: str, required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"type": {"const": kind}, "spacing": {"enum": _SPACINGS}, **properties},
        "required": ["type", *required],
        "additionalProperties": False,
    }


def _list(reference: str) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": {"$ref": f"#/$defs/{reference}"}}


_TEXT = {"type": "string", "minLength": 1}
_ACTION = {"title": _TEXT, "style": {"enum": ["default", "positive", "destructive"]}}

SCHEMA: dict[str, Any] = {
    "$defs": {
        "execute": _object(
            "Action.Execute",
            ["title", "verb", "data"],
            **_ACTION,
            verb=_TEXT,
            data={
                "type": "object",
                "properties": {"nonce": _TEXT},
                "required": ["nonce"],
                "additionalProperties": False,
            },
            associatedInputs={"enum": ["auto", "none"]},
        ),
        "showCard": _object(
            "Action.ShowCard",
            ["title", "card"],
            **_ACTION,
            card=_object(
                "AdaptiveCard",
                ["body", "actions"],
                body=_list("element"),
                actions={"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/execute"}},
            ),
        ),
        "openUrl": _object(
            "Action.OpenUrl",
            ["url"],
            url={"type": "string", "pattern": r"^(https://|http://(localhost|127\.0\.0\.1|\[::1\])[:/])"},
        ),
        "run": _object(
            "TextRun",
            ["text"],
            text=_TEXT,
            size={"enum": _SIZES},
            weight={"enum": ["Lighter", "Default", "Bolder"]},
            color={"enum": ["Default", "Dark", "Light", "Accent", "Good", "Warning", "Attention"]},
            fontType={"enum": ["Default", "Monospace"]},
            isSubtle={"type": "boolean"},
            italic={"type": "boolean"},
            underline={"type": "boolean"},
            selectAction={"$ref": "#/$defs/openUrl"},
        ),
        "column": _object(
            "Column", ["items"], width={"anyOf": [{"type": "number"}, {"type": "string"}]}, items=_list("element")
        ),
        "element": {
            "oneOf": [
                _object("RichTextBlock", ["inlines"], inlines=_list("run")),
                _object(
                    "TextBlock",
                    ["text"],
                    # Teams reads Markdown here: nothing but a mention's plain name may stand in it.
                    text={"type": "string", "pattern": r"^<at>[\w .'-]+</at>$"},
                    wrap={"type": "boolean"},
                ),
                _object(
                    "Container", ["items"], style={"enum": _STYLES}, bleed={"type": "boolean"}, items=_list("element")
                ),
                _object("ColumnSet", ["columns"], columns=_list("column")),
                _object(
                    "Input.Text",
                    ["id"],
                    id={"type": "string", "minLength": 1, "not": {"const": "nonce"}},
                    placeholder=_TEXT,
                    isMultiline={"type": "boolean"},
                    isRequired={"type": "boolean"},
                    errorMessage=_TEXT,
                ),
            ]
        },
    },
    **_object(
        "AdaptiveCard",
        ["$schema", "version", "body", "fallbackText", "speak"],
        **{"$schema": {"const": "http://adaptivecards.io/schemas/adaptive-card.json"}},
        version={"const": "1.5"},
        body=_list("element"),
        actions={
            "type": "array",
            "minItems": 1,
            "items": {"oneOf": [{"$ref": "#/$defs/execute"}, {"$ref": "#/$defs/showCard"}]},
        },
        fallbackText=_TEXT,
        speak=_TEXT,
        msteams={
            "type": "object",
            "properties": {
                "width": {"const": "Full"},
                "entities": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "type": {"const": "mention"},
                            "text": {"type": "string", "pattern": "^<at>.+</at>$"},
                            "mentioned": {
                                "type": "object",
                                "properties": {"id": _TEXT, "name": _TEXT},
                                "required": ["id", "name"],
                                "additionalProperties": False,
                            },
                        },
                        "required": ["type", "text", "mentioned"],
                        "additionalProperties": False,
                    },
                },
            },
            "additionalProperties": False,
        },
    ),
}
