"""Fills a tool's arguments from a person's words by its JSON schema, with no rule for any one tool.

What a property takes is read off its schema: `const`, `enum`, `pattern`, `format`, `type`, and an `x-slot` hint
(`title`, `text`, `reason`, `person`, `amount` or `phone`) or, without one, its name. Every string that is filled in
stands in the words as typed, but for dates, sums and people: those are reckoned or looked up, and each names the words
it was read from. What can be read in two ways is left open, and why is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inference.answers import arguments_problem
from inference.commands import QUOTED, name_parts
from inference.model import KnownPerson, Surroundings, Tool
from inference.readings import Reading, Unsettled, amount_readings, date_readings, person_readings, the_one
from inference.request import FORMATS, PHONE, Request, distinct, matching, pinned, taken_apart
from inference.schemas import flattened, type_of

FREE_TEXT = {
    "title": "title",
    "subject": "title",
    "summary": "title",
    "name": "title",
    "headline": "title",
    "description": "text",
    "body": "text",
    "details": "text",
    "text": "text",
    "message": "text",
    "content": "text",
    "reason": "reason",
    "comment": "reason",
    "resolution": "reason",
    "note": "reason",
    "justification": "reason",
    "assignee": "person",
    "owner": "person",
    "attendees": "person",
    "attendee": "person",
    "guests": "person",
    "participants": "person",
    "invitees": "person",
    "reviewer": "person",
    "phone": "phone",
}
"""What a free-text property takes where its schema carries no `x-slot`, by its name."""

PERSON = re.compile(
    r"(?:assign(?:ed)?(?: \w+)? to|\bowner(?: is|:)?|\bto)\s+(?P<name><@\w+>|@[\w.-]+|[A-Z][\w-]*)"
    r"|(?P<at><@\w+>|(?<!\w)@[\w.-]+)"
)
"""Somebody named where nobody can be looked up."""

MOST_CALLS = 5
"""Calls made of one request that names several things."""


@dataclass(frozen=True, slots=True)
class Filled:
    """The arguments of one call."""

    arguments: Mapping[str, Any]
    read: Mapping[str, Reading] = field(default_factory=dict)
    """By argument, for those that were reckoned or looked up: from which words, and what they were taken to mean."""
    open: Mapping[str, str] = field(default_factory=dict)
    """By argument, why one that the words speak of was left open."""


def fill(tool: Tool, words: str, surroundings: Surroundings | None = None) -> list[Filled]:
    """The arguments of each call that the words ask of a tool; empty where a required one is not in the words.

    One call, or several where the words name several values for the one required thing a tool takes. Without
    `surroundings` dates are read only as ISO 8601 writes them, and names are taken as typed.
    """
    schema = tool.parameters
    properties = {name: flattened(each, schema) for name, each in schema.get("properties", {}).items()}
    required = tuple(schema.get("required", ()))
    text = words.strip()
    readings = _readings(properties, required, text, surroundings)
    slots = [_slot(name, each) for name, each in properties.items()]
    request = taken_apart(tool, text, properties, slots, [each for found in readings.values() for each in found])
    arguments: dict[str, Any] = {}
    read: dict[str, Reading] = {}
    left_open: dict[str, str] = {}
    for name, found in readings.items():
        try:
            value, read_from = _of_readings(name, properties, found)
        except Unsettled as unsettled:
            left_open[name] = str(unsettled)
            continue
        for argument in value:
            arguments[argument], read[argument] = value[argument], read_from
    for name, property_schema in properties.items():
        if name in arguments or name in readings:
            continue
        value = _value(name, property_schema, request, tool, required=name in required)
        if value is not None:
            arguments[name] = value
    in_order = {name: arguments[name] for name in properties if name in arguments}
    filled = [in_order]
    several = [name for name in required if "pattern" in properties.get(name, {})]
    if len(several) == 1 and len(required) == 1:
        values = matching(properties[several[0]]["pattern"], request.text)
        filled = [{**in_order, several[0]: value} for value in values[:MOST_CALLS]]
    if any(arguments_problem(schema, each) is not None for each in filled):
        return []
    return [Filled(each, read, left_open) for each in filled]


def _readings(
    properties: Mapping[str, Mapping[str, Any]], required: tuple[str, ...], text: str, surroundings: Surroundings | None
) -> dict[str, list[Reading]]:
    """What the words say for each property that takes a date, a sum or a person; those they can say nothing for, as
    nothing is known of when and among whom, are left out."""
    if surroundings is None:
        return {}
    people = surroundings.people
    if surroundings.asker:
        people = (*people, *(KnownPerson(surroundings.asker, word) for word in ("me", "myself")))
    found: dict[str, list[Reading]] = {}
    for name, schema in properties.items():
        must = name in required
        if schema.get("format") in ("date", "date-time"):
            found[name] = date_readings(name, schema, required=must, text=text, surroundings=surroundings)
        elif _takes_amount(schema):
            found[name] = amount_readings(name, required=must, text=text, surroundings=surroundings)
        elif people and _slot(name, schema) == "person":
            several = type_of(schema) == "array"
            found[name] = person_readings(name, several=several, required=must, text=text, people=people)
    return found


def _of_readings(
    name: str, properties: Mapping[str, Mapping[str, Any]], found: list[Reading]
) -> tuple[dict[str, Any], Reading]:
    """The arguments that readings give: the property's own, and its currency's where that is an argument beside it."""
    schema = properties[name]
    if not found:
        return {}, _NOTHING
    if type_of(schema) == "array":
        values = [value for each in found if (value := (the_one([each]) or each).value) is not None]
        return {name: distinct(values)}, found[0]
    reading = the_one(found)
    if reading is None:
        return {}, _NOTHING
    if not _takes_amount(schema):
        return {name: reading.value}, reading
    minor_units, currency = reading.value
    inside = schema.get("properties", {})
    if inside:
        parts = {
            part: currency if "currency" in name_parts(part) else minor_units
            for part, each in inside.items()
            if "currency" in name_parts(part) or type_of(each) == "integer"
        }
        return {name: parts}, reading
    beside = [other for other in properties if "currency" in name_parts(other)]
    if len(beside) != 1:
        raise Unsettled("there is no one place for the currency")
    return {name: minor_units, beside[0]: currency}, reading


_NOTHING = Reading(0, 0, "", None)


def _takes_amount(schema: Mapping[str, Any]) -> bool:
    """A sum of money: an integer of minor units, or an object of one with its currency."""
    kind = type_of(schema)
    if kind == "object":
        inside = schema.get("properties", {})
        integers = [part for part, each in inside.items() if type_of(each) == "integer"]
        return len(integers) == 1 and any("currency" in name_parts(part) for part in inside)
    return kind == "integer" and schema.get("x-slot") == "amount"


def _value(name: str, schema: Mapping[str, Any], request: Request, tool: Tool, *, required: bool) -> Any:
    """What the words say for one property; None where they say nothing."""
    if "const" in schema:
        return schema["const"]
    given = _given_by_name(name, request.text)
    if "enum" in schema:
        return _chosen(name, schema["enum"], given, request, tool, required=required)
    kind = type_of(schema)
    if _takes_amount(schema) or "currency" in name_parts(name):
        # Money is read as a sum with its currency, or not at all.
        return None
    if kind in ("integer", "number"):
        return _number(name, kind, given, request.text, required=required)
    if kind == "boolean":
        return _flag(name, request.text)
    if kind == "array":
        return _several(name, schema, request) or None
    if kind != "string":
        return None
    if "pattern" in schema:
        return next(iter(matching(schema["pattern"], given or request.text)), None)
    if schema.get("format") in FORMATS:
        found = FORMATS[schema["format"]].search(given or request.text)
        return found.group() if found else None
    return _cut(given or _free_text(name, schema, request, required=required), schema)


def _chosen(
    name: str, options: Sequence[Any], given: str | None, request: Request, tool: Tool, *, required: bool
) -> Any:
    """The one option the words name. A common word in the middle of a description is no choice: an option counts
    where it stands with its property's name, before a word of the tool's name, as a clause of its own, after `as`,
    `to`, `with` or `is` — or anywhere, if the property is required."""
    by_word = {str(option).lower().replace("_", " "): option for option in options if option is not None}
    if given is not None:
        return by_word.get(given.strip().strip(".\"'").lower())
    text = QUOTED.sub(" ", request.text).lower()
    near = "|".join(re.escape(part) for part in name_parts(name))
    nouns = "|".join(re.escape(part.removesuffix("s")) + "s?" for part in name_parts(tool.name)) or near
    found = []
    for word, option in by_word.items():
        exact = re.escape(word)
        places = (
            rf"\b{exact}[\s-]+(?:{near}|{nouns})\b|\b(?:{near})\s*(?:is|to|of|as|=|:)?\s*{exact}\b"
            rf"|\b(?:as|to|it'?s|is|very)\s+{exact}\W*$|(?:^|[,;.!\n]\s*){exact}\W*(?:$|[,;.!\n])"
        )
        if re.search(places, text) or (required and re.search(rf"\b{exact}\b", text)):
            found.append(option)
    return found[0] if len(found) == 1 else None


def _number(name: str, kind: str, given: str | None, text: str, *, required: bool) -> int | float | None:
    convert = int if kind == "integer" else float
    near = rf"(?:{'|'.join(map(re.escape, name_parts(name)))})"
    plain = r"(?<![\w.-])-?\d+(?:\.\d+)?(?![\w-])"
    beside = re.search(rf"\b{near}\D{{0,4}}({plain})|({plain})\s+{near}", given or text, re.IGNORECASE)
    found = [beside.group(1) or beside.group(2)] if beside else re.findall(plain, given or text)
    if len(found) != 1 or not (beside or given or required):
        return None
    try:
        return convert(found[0])
    except ValueError:
        return None


def _flag(name: str, text: str) -> bool | None:
    spelled = r"[\s_-]".join(name_parts(name))
    said = re.search(rf"\b(?P<no>(?:not|no|without|don't)\s+)?{spelled}\b", text, re.IGNORECASE)
    return None if said is None else said.group("no") is None


def _several(name: str, schema: Mapping[str, Any], request: Request) -> list[Any]:
    items = schema.get("items", {})
    if not isinstance(items, Mapping):
        return []
    if "pattern" in items or items.get("format") in FORMATS:
        return distinct(pinned(items, request.text))
    if "enum" in items:
        return [
            each for each in items["enum"] if re.search(rf"\b{re.escape(str(each))}\b", request.text, re.IGNORECASE)
        ]
    given = _given_by_name(name, request.text)
    return [part.strip() for part in re.split(r"\s+and\s+|/", given) if part.strip()] if given else []


def _free_text(name: str, schema: Mapping[str, Any], request: Request, *, required: bool) -> str | None:
    slot = _slot(name, schema)
    if slot == "title":
        return request.quoted[0] if request.quoted else (_first_sentence(request.content) or None)
    if slot == "text":
        quoted = request.quoted[1:] if request.titled else request.quoted
        if quoted:
            return quoted[0]
        longer = request.content if request.content.rstrip(".!") != _first_sentence(request.content) else ""
        return longer or ((request.content or "".join(request.quoted[:1]) or None) if required else None)
    if slot == "reason":
        return request.reason or (request.content or None if required else None)
    if slot == "person":
        found = PERSON.search(request.text)
        return (found.group("name") or found.group("at")).lstrip("@") if found else None
    if slot == "phone":
        phones = distinct(match.group() for match in PHONE.finditer(request.text))
        return phones[0] if len(phones) == 1 else None
    return (request.content or None) if required else None


def _slot(name: str, schema: Mapping[str, Any]) -> str | None:
    """What free text or person a property takes; None for the other kinds."""
    items = schema.get("items")
    if type_of(schema) == "array" and isinstance(items, Mapping):
        slot = schema.get("x-slot") or _slot(name, items)
        return "person" if slot == "person" else None
    if "enum" in schema or "pattern" in schema or schema.get("format") in FORMATS or type_of(schema) != "string":
        return None
    parts = name_parts(name)
    hint: str | None = schema.get("x-slot")
    return hint or FREE_TEXT.get(parts[-1] if parts else "")


def _given_by_name(name: str, text: str) -> str | None:
    """The value in `name: value` or `name=value`, quoted or up to the next separator."""
    spelled = r"[\s_-]".join(map(re.escape, name_parts(name)))
    found = re.search(rf"\b{spelled}\s*[:=]\s*(?:\"([^\"]+)\"|([^,;\n]+))", text, re.IGNORECASE)
    return (found.group(1) or found.group(2)).strip() if found else None


def _cut(text: str | None, schema: Mapping[str, Any]) -> str | None:
    if not text:
        return None
    longest = schema.get("maxLength")
    return text if longest is None or len(text) <= longest else text[:longest].rsplit(" ", 1)[0]


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.!?])\s+|\n", text, maxsplit=1)[0].rstrip(".!")
