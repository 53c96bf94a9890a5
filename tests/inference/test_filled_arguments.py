"""Dates, sums and people as arguments: read from words that speak of them, with the words named, or left open."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from actions.connectors.sandbox_ticketing import CreateTicket
from inference.answers import arguments_problem
from inference.embeddings import OnnxEmbedder
from inference.model import KnownPerson, Surroundings, Tool
from inference.offline import OfflineEngine
from inference.slots import Filled, fill

PEOPLE = (
    KnownPerson("amir", "Amir Haddad"),
    KnownPerson("rosa", "Rosa Blum"),
    KnownPerson("aruiz", "Ana Ruiz"),
    KnownPerson("asilva", "Ana Silva"),
)
MONDAY = Surroundings(datetime(2026, 11, 23, 10, 0, tzinfo=ZoneInfo("Europe/Berlin")), PEOPLE)


def tool(name: str, description: str, arguments: type[BaseModel]) -> Tool:
    schema = arguments.model_json_schema()
    properties = {each: field for each, field in schema["properties"].items() if "x-filled-by" not in field}
    return Tool(name, description, {**schema, "properties": properties})


TICKET = tool("ticketing.create", "Create a ticket in the ticketing system.", CreateTicket)
MEETING = Tool(
    "calendar.schedule",
    "Schedule a meeting",
    {
        "type": "object",
        "properties": {
            "start": {"type": "string", "format": "date-time"},
            "attendees": {"type": "array", "items": {"type": "string"}},
            "budget": {
                "type": "object",
                "properties": {"currency": {"type": "string"}, "minor_units": {"type": "integer"}},
                "required": ["currency", "minor_units"],
            },
            "contact": {"type": "string", "x-slot": "phone"},
        },
        "required": ["start", "attendees"],
    },
)
EXPENSE = Tool(
    "expenses.file",
    "File an expense",
    {
        "type": "object",
        "properties": {
            "amount": {"type": "integer", "x-slot": "amount"},
            "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
            "reason": {"type": "string"},
        },
        "required": ["amount", "currency"],
    },
)


def one(words: str, wanted: Tool = TICKET) -> Filled:
    (filled,) = fill(wanted, words, MONDAY)
    return filled


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "create a ticket: replace the toner, due next Friday, assign it to Amir",
            {"title": "replace the toner", "due": "2026-12-04", "assignee": "amir"},
        ),
        (
            "create a ticket: replace the toner by Friday, high priority",
            {"title": "replace the toner", "priority": "high", "due": "2026-11-27"},
        ),
        (
            "create a ticket to replace the toner, due by end of month and assign it to @amir",
            {"title": "replace the toner", "due": "2026-11-30", "assignee": "amir"},
        ),
        (
            "create a ticket: pay the rent, due Friday, 27 November, owner: Rosa Blum",
            {"title": "pay the rent", "due": "2026-11-27", "assignee": "rosa"},
        ),
        (
            "create a ticket: fix the door, assigned to <@U123>, due: tomorrow",
            {"title": "fix the door", "due": "2026-11-24", "assignee": "<@U123>"},
        ),
        (
            "create a ticket: the toner must be replaced. Due tomorrow. Assign to Amir please.",
            {"title": "the toner must be replaced", "due": "2026-11-24", "assignee": "amir"},
        ),
    ],
)
def test_a_ticket_gets_its_day_and_its_person_and_keeps_its_title(words: str, expected: dict[str, object]) -> None:
    filled = one(words)
    assert filled.arguments == expected
    for name, reading in filled.read.items():
        assert words[reading.start : reading.end] == reading.text
        assert name in expected


@pytest.mark.parametrize(
    "words",
    [
        "create a ticket: the server died on Friday",
        "create a ticket: Amir says the door is broken",
        "create a ticket: the report was due last Friday",
        "create a ticket: pay €40 to Rosa tomorrow",
        'create a ticket "assign it to Amir, due tomorrow"',
    ],
)
def test_a_date_or_a_name_in_a_description_is_part_of_the_description(words: str) -> None:
    assert set(one(words).arguments) == {"title"}


@pytest.mark.parametrize(
    ("words", "name", "why"),
    [
        ("create a ticket: buy paper, due 3/4", "due", "3 April or 4 March"),
        ("create a ticket: buy paper, due Friday or Thursday", "due", "“Friday” or “Thursday”"),
        ("create a ticket: buy paper, assign it to Ana", "assignee", "Ana Ruiz (aruiz), Ana Silva (asilva)"),
        ("create a ticket: buy paper, assign it to Zorg", "assignee", "nobody called “Zorg”"),
        ("create a ticket: buy paper, assign it to me", "assignee", "“me”"),
    ],
)
def test_what_can_be_read_in_two_ways_is_left_open_with_the_reason(words: str, name: str, why: str) -> None:
    filled = one(words)
    assert name not in filled.arguments
    assert why in filled.open[name]


def test_a_meeting_gets_its_moment_its_people_and_its_budget() -> None:
    filled = one(
        "schedule a meeting with Amir and Rosa Blum tomorrow 14:00 CET, budget €1,250.50, +49 30 1234567", MEETING
    )
    assert filled.arguments == {
        "start": "2026-11-24T14:00:00+01:00",
        "attendees": ["amir", "rosa"],
        "budget": {"currency": "EUR", "minor_units": 125050},
        "contact": "+49 30 1234567",
    }


@pytest.mark.parametrize(
    "words",
    [
        "schedule a meeting with Amir and Ana tomorrow at 9:00",
        "schedule a meeting with Amir and Zorg tomorrow at 9:00",
        "schedule a meeting with Amir tomorrow",
        "schedule a meeting with Amir on 2027-03-28 02:30",
        "schedule a meeting with Amir tomorrow 9:00 or Friday 10:00",
        "schedule a meeting tomorrow at 9:00",
    ],
)
def test_a_required_argument_that_is_open_makes_no_call(words: str) -> None:
    assert fill(MEETING, words, MONDAY) == []


def test_a_sum_fills_the_argument_and_the_currency_beside_it() -> None:
    assert one("file an expense of USD 40 because of the taxi", EXPENSE).arguments == {
        "amount": 4000,
        "currency": "USD",
        "reason": "the taxi",
    }
    for words in ("file an expense of 40 bucks", "file an expense of 40", "file an expense of €40 or €50"):
        assert fill(EXPENSE, words, MONDAY) == []


def test_without_surroundings_no_date_is_reckoned_and_nobody_is_looked_up() -> None:
    (filled,) = fill(TICKET, "create a ticket: replace the toner, due tomorrow, assign it to Zorg")
    assert "due" not in filled.arguments
    assert filled.arguments["assignee"] == "Zorg"


async def test_the_reason_of_a_plan_names_the_words_each_value_was_read_from(embedder: OnnxEmbedder) -> None:
    words = "create a ticket: replace the toner, due next Friday, assign it to Amir"
    plan = await OfflineEngine(embedder).propose_plan(words, (TICKET,), (), MONDAY)
    assert plan is not None
    assert "Due: Friday 4 December 2026, read from “next Friday”." in plan.reason
    assert "Assignee: amir, read from “Amir”." in plan.reason
    (call,) = plan.calls
    assert set(call.origins) == set(call.arguments)
    unsettled = await OfflineEngine(embedder).propose_plan("create a ticket: paper, due 3/4", (TICKET,), (), MONDAY)
    assert unsettled is not None
    assert "Due is left open: “3/4” may be 3 April or 4 March." in unsettled.reason


TYPED = (
    "create a ticket|schedule a meeting|file an expense|:|,|.|due|by|next Friday|tomorrow|9:30|3/4|assign it to|with|"
    'Ana|Rosa Blum|<@U1>|€1,250.50|12 000 kr|40 bucks|or|and|the printer|"|high priority|end of month|2027-03-28 02:30|'
    "owner|\n|because"
)
PIECES = st.sampled_from(TYPED.split("|"))


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([TICKET, MEETING, EXPENSE]),
    st.one_of(st.lists(PIECES, max_size=14).map(" ".join), st.text(max_size=80)),
)
def test_whatever_is_typed_the_arguments_fit_and_each_stands_in_the_words_or_names_those_it_was_read_from(
    wanted: Tool, words: str
) -> None:
    for filled in fill(wanted, words, MONDAY):
        assert arguments_problem(wanted.parameters, dict(filled.arguments)) is None
        assert not set(filled.open) & set(filled.arguments)
        for name, value in filled.arguments.items():
            reading: Any = filled.read.get(name)
            if reading is None:
                assert str(value).lower() in words.lower()
            else:
                assert reading.text in words.strip()
                assert reading.value is not None


@pytest.mark.parametrize(
    "piece",
    ["1 ", "a", " ", "Fri ", "due tomorrow or ", "assign to P", "with A, ", '"', "\n", "in a ", "the printer jams; "],
)
def test_a_long_message_of_anything_is_read_in_little_time(piece: str) -> None:
    before = time.process_time()
    fill(TICKET, "create a ticket: " + piece * (20_000 // len(piece)), MONDAY)
    assert time.process_time() - before < 2


def test_me_is_whoever_asks() -> None:
    asked_by_rosa = replace(MONDAY, asker="rosa")
    (filled,) = fill(TICKET, "create a ticket: replace the toner, assign it to me", asked_by_rosa)
    assert filled.arguments == {"title": "replace the toner", "assignee": "rosa"}
