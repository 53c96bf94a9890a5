"""Fills a tool's arguments from a person's words by its JSON schema, with no rule for any one tool.

What a property takes is read off its schema: `const`, `enum`, `pattern`, `format`, `type`, and for free text an
`x-slot` hint (`title`, `text`, `reason` or `person`) or, without one, its name. Every string that is filled in stands
in the words as typed, so that it can be told apart from what others wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference.answers import arguments_problem
from inference.commands import ABOUT, EMPTY_WORDS, QUOTED, name_parts, spans, tokens, tool_words, verbs_like
from inference.model import Tool

BECAUSE = re.compile(r"\b(?:because|since|reason(?: is)?:?|due to)\s+(?P<rest>.+)$", re.IGNORECASE | re.DOTALL)
WHY = re.compile(r":\s+|\b(?:because|since)\s+", re.IGNORECASE)
"""What comes before a reason."""

PERSON = re.compile(
    r"(?:assign(?:ed)?(?: \w+)? to|\bowner(?: is|:)?|\bto)\s+(?P<name><@\w+>|@[\w.-]+|[A-Z][\w-]*)"
    r"|(?P<at><@\w+>|(?<!\w)@[\w.-]+)"
)
FORMATS = {
    "email": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "uri": re.compile(r"https?://[^\s<>|]+[^\s<>|.,;:!?)]"),
    "date": re.compile(r"\b\d{4}-\d{2}-\d{2}\b"),
    "date-time": re.compile(r"\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2})?(?:Z|[+-]\d{2}:\d{2})\b"),
}
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
}
"""What a free-text property takes where its schema carries no `x-slot`, by its name."""

MOST_CALLS = 5
"""Calls made of one request that names several things."""


@dataclass(frozen=True, slots=True)
class _Words:
    """A request taken apart: what it says, what is quoted in it, and what it is about."""

    text: str
    quoted: tuple[str, ...]
    content: str
    """The words without the command: what a title or description can be made of; "" where nothing is left."""
    reason: str
    titled: bool
    """Whether the tool takes a title, which the first quotation then is."""


def fill(tool: Tool, words: str) -> list[dict[str, Any]]:
    """The arguments of each call that the words ask of a tool; empty where a required one is not in the words.

    One call, or several where the words name several values for the one required thing a tool takes.
    """
    schema = tool.parameters
    properties: Mapping[str, Mapping[str, Any]] = schema.get("properties", {})
    required = tuple(schema.get("required", ()))
    request = _taken_apart(tool, words, properties)
    arguments: dict[str, Any] = {}
    for name, property_schema in properties.items():
        value = _value(name, property_schema, request, tool, required=name in required)
        if value is not None:
            arguments[name] = value
    filled = [arguments]
    several = [name for name in required if "pattern" in properties.get(name, {})]
    if len(several) == 1 and len(required) == 1:
        values = _matching(properties[several[0]]["pattern"], request.text)
        filled = [{**arguments, several[0]: value} for value in values[:MOST_CALLS]]
    if any(arguments_problem(schema, each) is not None for each in filled):
        return []
    return filled


def _value(name: str, schema: Mapping[str, Any], request: _Words, tool: Tool, *, required: bool) -> Any:
    """What the words say for one property; None where they say nothing."""
    if "const" in schema:
        return schema["const"]
    given = _given_by_name(name, request.text)
    if "enum" in schema:
        return _chosen(name, schema["enum"], given, request, tool, required=required)
    kind = _type(schema)
    if kind in ("integer", "number"):
        return _number(name, kind, given, request.text, required=required)
    if kind == "boolean":
        return _flag(name, request.text)
    if kind == "array":
        return _several(name, schema, request) or None
    if kind != "string":
        return None
    if "pattern" in schema:
        return next(iter(_matching(schema["pattern"], given or request.text)), None)
    if schema.get("format") in FORMATS:
        found = FORMATS[schema["format"]].search(given or request.text)
        return found.group() if found else None
    return _cut(given or _free_text(name, schema, request, required=required), schema)


def _chosen(
    name: str, options: Sequence[Any], given: str | None, request: _Words, tool: Tool, *, required: bool
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


def _several(name: str, schema: Mapping[str, Any], request: _Words) -> list[Any]:
    items = schema.get("items", {})
    if not isinstance(items, Mapping):
        return []
    if "pattern" in items or items.get("format") in FORMATS:
        return _distinct(_pinned(items, request.text))
    if "enum" in items:
        return [
            each for each in items["enum"] if re.search(rf"\b{re.escape(str(each))}\b", request.text, re.IGNORECASE)
        ]
    given = _given_by_name(name, request.text)
    return [part.strip() for part in re.split(r"\s+and\s+|/", given) if part.strip()] if given else []


def _free_text(name: str, schema: Mapping[str, Any], request: _Words, *, required: bool) -> str | None:
    slot = _slot(name, schema)
    if slot == "title":
        return request.quoted[0] if request.quoted else (_first_sentence(request.content) or None)
    if slot == "text":
        quoted = request.quoted[1:] if request.titled else request.quoted
        if quoted:
            return quoted[0]
        longer = request.content if request.content != _first_sentence(request.content) else ""
        return longer or ((request.content or "".join(request.quoted[:1]) or None) if required else None)
    if slot == "reason":
        return request.reason or (request.content or None if required else None)
    if slot == "person":
        found = PERSON.search(request.text)
        return (found.group("name") or found.group("at")).lstrip("@") if found else None
    return (request.content or None) if required else None


def _taken_apart(tool: Tool, words: str, properties: Mapping[str, Mapping[str, Any]]) -> _Words:
    text = words.strip()
    quoted = tuple(next(filter(None, found.groups())).strip() for found in QUOTED.finditer(text))
    because = BECAUSE.search(text)
    slots = {_slot(name, schema) for name, schema in properties.items()}
    about_something = bool(slots & {"title", "text"})
    content = _content(tool, text, properties, ABOUT if about_something else WHY)
    reason = because.group("rest").strip() if because else ("" if about_something else content)
    return _Words(text, quoted, content, reason, "title" in slots)


def _content(tool: Tool, text: str, properties: Mapping[str, Mapping[str, Any]], before: re.Pattern[str]) -> str:
    """What is left of the words without the command, the ids and the clauses that choose something: the longest run of
    such clauses, as typed."""
    about = before.search(text)
    command_words = tokens(" ".join((tool_words(tool), tool.description, *verbs_like(tool)))) - EMPTY_WORDS
    if about is not None and tokens(text[: about.start()]) & command_words:
        found = spans(text, about.end())
        command = None
    else:
        found = spans(text, 0)
        command = max(found, key=lambda span: len(tokens(text[slice(*span)]) & command_words), default=None)
    runs: list[tuple[int, int]] = []
    broken = True
    for span in found:
        clause = text[slice(*span)]
        # Where only a reason is wanted, a clause that carries another argument is not one.
        taken = before is WHY and any(_pinned(schema, clause) for schema in properties.values())
        if span == command or taken or _only_chooses(clause, properties):
            broken = True
        elif broken:
            runs.append(span)
            broken = False
        else:
            runs[-1] = (runs[-1][0], span[1])
    longest = max(runs, key=lambda run: run[1] - run[0], default=(0, 0))
    return _without_trailing_choice(text[slice(*longest)].strip(" ,;:-–—"), properties)


def _without_trailing_choice(content: str, properties: Mapping[str, Mapping[str, Any]]) -> str:
    """`the failing backups with high priority` without its last three words."""
    for name, schema in properties.items():
        options = "|".join(re.escape(str(option)) for option in schema.get("enum", ()))
        if options:
            near = "|".join(map(re.escape, name_parts(name)))
            choice = rf"(?:(?:{options})\s+(?:{near})|(?:{near})\s*:?\s*(?:{options}))"
            content = re.sub(rf"[\s,]+(?:(?:with|at|as|and)\s+)*{choice}\W*$", "", content, flags=re.IGNORECASE)
    return content


def _only_chooses(clause: str, properties: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a clause says nothing but the value of a property: `high priority`, `TCK-12`, `assign it to Ana`."""
    left = clause.lower()
    for name, schema in properties.items():
        for option in schema.get("enum", ()):
            left = re.sub(rf"\b{re.escape(str(option).lower())}\b", " ", left)
        for found in _pinned(schema, clause):
            left = left.replace(found.lower(), " ")
        left = re.sub(rf"\b(?:{'|'.join(map(re.escape, name_parts(name)))})\b", " ", left)
    left = re.sub(r"assign(?:ed)?(?: \w+)? to \S+", " ", left)
    return not tokens(left) - EMPTY_WORDS


def _pinned(schema: Mapping[str, Any], text: str) -> list[str]:
    """The values in a text that a property's pattern or format tells from prose; an array's are those of its items."""
    items = schema.get("items")
    if isinstance(items, Mapping):
        return _pinned(items, text)
    if "pattern" in schema:
        return _matching(schema["pattern"], text)
    if schema.get("format") in FORMATS:
        return [found.group() for found in FORMATS[schema["format"]].finditer(text)]
    return []


def _slot(name: str, schema: Mapping[str, Any]) -> str | None:
    """What free text a property takes; None for the other kinds."""
    if "enum" in schema or "pattern" in schema or schema.get("format") in FORMATS or _type(schema) != "string":
        return None
    parts = name_parts(name)
    hint: str | None = schema.get("x-slot")
    return hint or FREE_TEXT.get(parts[-1] if parts else "")


def _given_by_name(name: str, text: str) -> str | None:
    """The value in `name: value` or `name=value`, quoted or up to the next separator."""
    spelled = r"[\s_-]".join(map(re.escape, name_parts(name)))
    found = re.search(rf"\b{spelled}\s*[:=]\s*(?:\"([^\"]+)\"|([^,;\n]+))", text, re.IGNORECASE)
    return (found.group(1) or found.group(2)).strip() if found else None


def _matching(pattern: str, text: str) -> list[str]:
    """The different pieces of a text that fit a schema's pattern, whatever their case, in the case that fits."""
    inner = pattern.removeprefix("^").removesuffix("$")
    found = (match.group() for match in re.finditer(rf"(?<![\w-])(?:{inner})(?![\w-])", text, re.IGNORECASE))
    cased = (
        next((form for form in (each, each.upper(), each.lower()) if re.search(pattern, form)), None) for each in found
    )
    return _distinct(each for each in cased if each)


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _cut(text: str | None, schema: Mapping[str, Any]) -> str | None:
    if not text:
        return None
    longest = schema.get("maxLength")
    return text if longest is None or len(text) <= longest else text[:longest].rsplit(" ", 1)[0]


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.!?])\s+|\n", text, maxsplit=1)[0].rstrip(".!")


def _type(schema: Mapping[str, Any]) -> str:
    declared = schema.get("type", "string")
    return declared if isinstance(declared, str) else next((each for each in declared if each != "null"), "string")
