"""Filling arguments: whatever is typed, what comes out fits the schema and stands in the words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.answers import arguments_problem
from inference.commands import clauses, command_part, name_parts, tells
from inference.model import Tool
from inference.slots import fill

TOOL = Tool(
    "tickets.create",
    "Create a ticket",
    {
        "type": "object",
        "properties": {
            "title": {"type": "string", "minLength": 1, "maxLength": 40},
            "description": {"type": "string"},
            "reason": {"type": "string"},
            "priority": {"enum": ["low", "high"]},
            "related": {"type": "string", "pattern": "^TCK-[0-9]+$"},
            "hours": {"type": "integer", "minimum": 1},
            "due": {"type": "string", "format": "date"},
            "owner": {"type": "string"},
        },
        "required": ["title"],
        "additionalProperties": False,
    },
)
PIECES = st.sampled_from(
    [
        "create a ticket",
        "close",
        "about",
        "for",
        "because",
        ":",
        ",",
        ".",
        "\n",
        '"',
        "the printer",
        "TCK-12",
        "tck-3",
        "priority",
        "high",
        "low",
        "8 hours",
        "0 hours",
        "2026-03-09",
        "assign it to Ana",
        "@ben",
        "it's broken",
        "-",
        "é",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.lists(PIECES, max_size=14).map(" ".join), st.text(max_size=80)))
def test_whatever_is_typed_the_arguments_fit_the_schema_and_stand_in_the_words(words: str) -> None:
    for arguments in (filled.arguments for filled in fill(TOOL, words)):
        assert arguments_problem(TOOL.parameters, arguments) is None
        for value in arguments.values():
            assert str(value).lower() in words.lower()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("create a ticket about low disk space", {"title": "low disk space"}),
        ("create a ticket: printer broken, 8 hours", {"title": "printer broken, 8 hours", "hours": 8}),
        ("create a ticket title: New keyboard; owner: Ana", {"title": "New keyboard", "owner": "Ana"}),
        ("create a ticket “VPN down”, due 2026-03-09", {"title": "VPN down", "due": "2026-03-09"}),
    ],
)
def test_words_in_the_middle_of_a_title_choose_nothing(words: str, expected: dict[str, object]) -> None:
    (filled,) = fill(TOOL, words)
    assert filled.arguments == expected


def test_a_title_that_is_too_long_is_cut_between_words() -> None:
    (filled,) = fill(TOOL, "create a ticket: " + "word " * 20)
    assert filled.arguments["title"] == ("word " * 8).strip()


def test_a_schema_that_cannot_be_filled_from_words_gives_nothing() -> None:
    schema = {"type": "object", "properties": {"form": {"type": "object"}}, "required": ["form"]}
    assert fill(Tool("forms.send", "Send a form", schema), "send the form") == []


def test_the_commanding_part_ends_where_the_subject_begins() -> None:
    assert command_part('open a ticket "VPN" about the outage') == "open a ticket"
    assert command_part("close TCK-12") == "close TCK-12"


def test_names_and_clauses_are_taken_apart() -> None:
    assert name_parts("tickets.set_dueDate") == ["tickets", "set", "due", "date"]
    assert clauses("first, and second - third. ...") == ["first", "second", "third."]


@pytest.mark.parametrize(
    ("words", "told"), [("I opened a ticket", True), ("open a ticket", False), ("we need it", False)]
)
def test_telling_is_not_asking(words: str, told: bool) -> None:
    assert tells(words) is told
