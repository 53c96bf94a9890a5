"""What a person's words say of dates, sums of money and people, for the arguments that take them; each reading with the
piece of text it was made from, so that a card can show why a value is what it is.

An optional argument is filled only from a value that stands with a word for it ("due next Friday", "assign it to
Amir"): a date in the middle of a description is part of the description.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from inference.amounts import find_amounts
from inference.calendar_days import spelled
from inference.commands import QUOTED, name_parts, tokens
from inference.dates import FoundDate, find_dates
from inference.model import KnownPerson, Surroundings
from inference.people_named import FoundPerson, people_listed, person_at


@dataclass(frozen=True, slots=True)
class Reading:
    """One value found in the words."""

    start: int
    end: int
    text: str
    """The words it was read from, as typed."""
    value: Any
    """None where it cannot be told; `problem` then says why."""
    shown: str = ""
    """The value for people to check: `Friday 4 December 2026`."""
    problem: str = ""


DUE = r"due(?:\s+date)?|deadline|by|until|till|no\s+later\s+than|fällig|bis(?:\s+zum)?|frist|échéance|vence"
_DATE_CUES = {
    **dict.fromkeys(("due", "deadline", "until", "target"), DUE),
    **dict.fromkeys(
        ("start", "begin", "begins", "starts", "from"), r"from|start(?:s|ing)?|begin(?:s|ning)?|as\s+of|ab"
    ),
    **dict.fromkeys(("end", "ends", "to"), r"to|until|till|ends?|ending|through"),
    **dict.fromkeys(("remind", "reminder"), r"remind(?:er)?(?:\s+me)?"),
}
_PERSON_CUES = {
    **dict.fromkeys(
        ("assignee", "owner", "assigned"),
        r"assignee|owner|assign(?:ed)?(?:\s+(?:it|this|that|them|the\s+\w+))?\s+to"
        r"|hand(?:ed)?\s+(?:(?:it|this)\s+)?(?:over\s+)?to|give\s+(?:it|this)\s+to|owned\s+by|zuweisen\s+an|assigner\s+à|asignar\s+a",
    ),
    **dict.fromkeys(
        ("attendees", "attendee", "guests", "guest", "participants", "invitees"), r"with|invit(?:e|ing)|mit|avec|con"
    ),
    **dict.fromkeys(("recipient", "recipients", "to"), r"to|for"),
    **dict.fromkeys(("reviewer", "reviewers"), r"review(?:ed)?\s+by"),
    **dict.fromkeys(("approver", "approvers"), r"approved?\s+by"),
}
_AMOUNT_CUES = r"costs?|costing|worth|budget|amount|price|total|sum|limit|for|of|pay"
_LINKS = r"(?:\s*(?:(?:is|on|by|of|to|at|for|am|le|el|the)(?=\W)|[:=]|->))*\s*"
_NOBODY = re.compile(
    r"(?:me|myself|us|him|her|them|you|whoever|someone|somebody|anyone)\b|the\s+\w+(?:\s+\w+)?", re.IGNORECASE
)
_OR = re.compile(r"\s*(?:,\s*)?(?:\bor\b|\boder\b|\bou\b|/)\s*(?:on\s+|by\s+)?", re.IGNORECASE)

MOST_FOUND = 30
"""Values of one kind that are looked at; a request with more is no request."""

CHOOSING_WORDS = frozenset(
    tokens(
        "due date deadline by until till on for from at no later than is it assign assigned hand give over to owner "
        "owned worth cost budget amount price invite with please should be latest the and am bis zum fällig le el para"
    )
)
"""Words that may stand in a clause beside a value without saying anything more."""


def date_readings(
    name: str, schema: Mapping[str, Any], *, required: bool, text: str, surroundings: Surroundings
) -> list[Reading]:
    """The dates that the words say for a property of format `date` or `date-time`."""
    with_time = schema.get("format") == "date-time"
    quoted = _quoted(text)
    found = [each for each in find_dates(text, surroundings.now) if each.start not in quoted][:MOST_FOUND]
    cues = _cues(name, _DATE_CUES)
    is_due = DUE in cues
    cued = [each for each in found if _follows(text, each.start, cues)]
    if is_due:
        # "the report was due last Friday" tells, and asks for nothing.
        cued = [each for each in cued if each.day is None or each.day >= surroundings.now.date()]
    # "due Friday or Monday" offers two days.
    cued += [
        other for each in cued for other in found if _OR.fullmatch(text[each.end : other.start]) and other not in cued
    ]
    chosen = cued or (found if required else [])
    return [_date_reading(each, with_time) for each in chosen]


def amount_readings(name: str, *, required: bool, text: str, surroundings: Surroundings) -> list[Reading]:
    """The sums that the words say for a property; a value is `(minor units, currency)`."""
    zone = str(getattr(surroundings.now.tzinfo, "key", ""))
    quoted = _quoted(text)
    found = [each for each in find_amounts(text, zone) if each.start not in quoted][:MOST_FOUND]
    cues = "|".join((*_spelled(name), _AMOUNT_CUES))
    cued = [each for each in found if _follows(text, each.start, cues)]
    return [
        Reading(
            each.start,
            each.end,
            each.text,
            None if each.minor_units is None else (each.minor_units, each.currency),
            f"{each.currency} {each.minor_units} in minor units",
            each.problem,
        )
        for each in (found if required else cued)
    ]


def person_readings(
    name: str, *, several: bool, required: bool, text: str, people: Sequence[KnownPerson]
) -> list[Reading]:
    """The people that the words name for a property, by id; with a problem where it cannot be told who is meant."""
    cue = re.compile(rf"(?<![\w-])(?:{_cues(name, _PERSON_CUES)})(?=\W){_LINKS}", re.IGNORECASE)
    quoted = _quoted(text)
    readings: list[Reading] = []
    for match in cue.finditer(text):
        if match.start() in quoted or len(readings) >= MOST_FOUND:
            continue
        found = people_listed(text, match.end(), people) if several else _one_at(text, match.end(), people)
        readings += [Reading(each.start, each.end, each.text, each.id or None, each.id, each.problem) for each in found]
        nobody = _NOBODY.match(text, match.end())
        if not found and nobody is not None and not several:
            problem = f"I cannot tell whose name “{nobody.group()}” stands for"
            readings.append(Reading(nobody.start(), nobody.end(), nobody.group(), None, "", problem))
    if not readings and required:
        readings = _anywhere(text, people)
    return readings


def the_one(readings: Sequence[Reading]) -> Reading | None:
    """The one value that all readings agree on; None where there is none. Raises `Unsettled` where they do not agree or
    one of them cannot be told."""
    if not readings:
        return None
    for each in readings:
        if each.value is None:
            raise Unsettled(each.problem)
    if len({repr(each.value) for each in readings}) > 1:
        raise Unsettled("it may be " + " or ".join(dict.fromkeys(f"“{each.text}”" for each in readings)))
    return readings[0]


class Unsettled(Exception):
    """The words leave a value open. The message says why, for people."""


def _date_reading(found: FoundDate, with_time: bool) -> Reading:
    value: str | None = None
    problem = found.problem
    shown = "" if found.day is None else spelled(found.day)
    if with_time:
        if found.at is not None:
            value = found.at.isoformat(timespec="seconds")
            shown = f"{spelled(found.at.date())}, {found.at:%H:%M} ({found.at:%Z})"
        problem = problem or f"“{found.text}” names no time of day"
    elif isinstance(found.day, date):
        value = found.day.isoformat()
    return Reading(found.start, found.end, found.text, value, shown, "" if value else problem)


def _one_at(text: str, start: int, people: Sequence[KnownPerson]) -> list[FoundPerson]:
    found = person_at(text, start, people)
    return [] if found is None else [found]


def _anywhere(text: str, people: Sequence[KnownPerson]) -> list[Reading]:
    """Everybody whose name stands in the words with a capital, or as a mention; for an argument that must be filled."""
    readings: list[Reading] = []
    for match in re.finditer(r"(?<![\w@<])(?:<@|<at>|@|[^\W\d_a-z])", text):
        if readings and match.start() < readings[-1].end:
            continue
        found = person_at(text, match.start(), people)
        if found is not None and (found.id or "may be" in found.problem):
            readings.append(Reading(found.start, found.end, found.text, found.id or None, found.id, found.problem))
    return readings


def _cues(name: str, by_part: Mapping[str, str]) -> str:
    own = [by_part[part] for part in name_parts(name) if part in by_part]
    return "|".join((*_spelled(name), *own))


def _spelled(name: str) -> list[str]:
    """A property's name as people say it: `due_date` is "due date", "due" alone too where it says enough."""
    parts = name_parts(name)
    return [r"[\s_-]".join(map(re.escape, parts))] if parts else []


def _follows(text: str, start: int, cues: str) -> bool:
    return (
        re.search(rf"(?<![\w-])(?:{cues})(?=\W){_LINKS}$", text[max(0, start - 60) : start], re.IGNORECASE) is not None
    )


def _quoted(text: str) -> frozenset[int]:
    """The places of a text that stand inside quotation marks: what is quoted is nobody's instruction."""
    return frozenset(place for found in QUOTED.finditer(text) for place in range(found.start() + 1, found.end()))
