"""Takes a request apart: what it is about, what is quoted in it and why it is asked, without the command itself and
without the clauses that only choose a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference.commands import ABOUT, EMPTY_WORDS, QUOTED, VERBS, name_parts, spans, tokens, tool_words, verbs_like
from inference.model import Tool
from inference.readings import CHOOSING_WORDS, Reading

BECAUSE = re.compile(
    r"\b(?:because(?:\s+of)?|since|reason(?: is)?:?|due to)\s+(?P<rest>.+)$", re.IGNORECASE | re.DOTALL
)
WHY = re.compile(r":\s+|\b(?:because|since)\s+", re.IGNORECASE)
"""What comes before a reason."""

EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
URL = re.compile(r"https?://[^\s<>|]+[^\s<>|.,;:!?)]")
PHONE = re.compile(r"(?<![\w+./-])(?:\+[1-9]|\(?0)[0-9]*(?:[ ()/.-]{0,2}[0-9]){6,14}(?![\w/-]|\.[0-9])")
"""As people write it: `+49 30 1234567`, `(030) 123 45 67`. Kept as typed."""
DATE = re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}\b")
DATE_TIME = re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?::[0-9]{2})?(?:Z|[+-][0-9]{2}:[0-9]{2})(?!\w)")
FORMATS = {"email": EMAIL, "uri": URL, "phone": PHONE, "date": DATE, "date-time": DATE_TIME}

_TRAILING = re.compile(
    r"(?:(?<!\bis)(?<!\bare)(?<!\bwas)(?<!\bwere)(?<!\bbe)(?<!\bnot)(?<!\bnothing))"
    r"[\s,;]+(?:and\s+)?(?:due(?:\s+(?:on|by|until))?|by|until|no\s+later\s+than|"
    r"(?:please\s+)?assign(?:ed)?(?:\s+(?:it|this|that))?\s+to)\s+(?:the\s+)?$",
    re.IGNORECASE,
)
"""What stands between a thing's title and a value at its end that was taken as an argument."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request taken apart."""

    text: str
    quoted: tuple[str, ...]
    content: str
    """The words without the command: what a title or description can be made of; "" where nothing is left."""
    reason: str
    titled: bool
    """Whether the tool takes a title, which the first quotation then is."""


def taken_apart(
    tool: Tool,
    words: str,
    properties: Mapping[str, Mapping[str, Any]],
    slots: Iterable[str | None],
    read: Sequence[Reading],
) -> Request:
    """A request for `tool`; `slots` are the kinds of free text it takes, `read` the dates, sums and people that were
    found in the words for its arguments."""
    text = words.strip()
    quoted = tuple(next(filter(None, found.groups())).strip() for found in QUOTED.finditer(text))
    because = BECAUSE.search(text)
    if because is not None and any(each.start <= because.start() < each.end for each in read):
        because = None
    kinds = set(slots)
    about_something = bool(kinds & {"title", "text"})
    content = _content(tool, text, properties, ABOUT if about_something else WHY, read)
    reason = because.group("rest").strip() if because else ("" if about_something else content)
    return Request(text, quoted, content, reason, "title" in kinds)


def matching(pattern: str, text: str) -> list[str]:
    """The different pieces of a text that fit a schema's pattern, whatever their case, in the case that fits."""
    inner = pattern.removeprefix("^").removesuffix("$")
    found = (match.group() for match in re.finditer(rf"(?<![\w-])(?:{inner})(?![\w-])", text, re.IGNORECASE))
    cased = (
        next((form for form in (each, each.upper(), each.lower()) if re.search(pattern, form)), None) for each in found
    )
    return distinct(each for each in cased if each)


def pinned(schema: Mapping[str, Any], text: str) -> list[str]:
    """The values in a text that a property's pattern or format tells from prose; an array's are those of its items."""
    items = schema.get("items")
    if isinstance(items, Mapping):
        return pinned(items, text)
    if "pattern" in schema:
        return matching(schema["pattern"], text)
    if schema.get("format") in FORMATS:
        return [found.group() for found in FORMATS[schema["format"]].finditer(text)]
    return []


def distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _content(
    tool: Tool, text: str, properties: Mapping[str, Mapping[str, Any]], before: re.Pattern[str], read: Sequence[Reading]
) -> str:
    """What is left of the words without the command, the ids and the clauses that choose something: the longest run of
    such clauses, as typed."""
    about = before.search(text)
    purpose = _purpose(tool).search(text) if before is ABOUT else None
    if purpose is not None and (about is None or purpose.start() < about.start()):
        about = purpose
    command_words = tokens(" ".join((tool_words(tool), tool.description, *verbs_like(tool)))) - EMPTY_WORDS
    if about is not None and tokens(text[: about.start()]) & command_words:
        found = _whole(spans(text, about.end()), read)
        command = None
    else:
        found = _whole(spans(text, 0), read)
        command = max(found, key=lambda span: len(tokens(text[slice(*span)]) & command_words), default=None)
    runs: list[tuple[int, int]] = []
    broken = True
    for span in found:
        clause = text[slice(*span)]
        # Where only a reason is wanted, a clause that carries another argument is not one.
        taken = before is WHY and any(pinned(schema, clause) for schema in properties.values())
        if span == command or taken or _only_chooses(span, text, properties, read):
            broken = True
        elif broken:
            runs.append(span)
            broken = False
        else:
            runs[-1] = (runs[-1][0], span[1])
    start, end = max(runs, key=lambda run: run[1] - run[0], default=(0, 0))
    end = _before_trailing(text, start, end, read)
    return _without_trailing_choice(text[start:end].strip(" ,;:-–—"), properties)


def _purpose(tool: Tool) -> re.Pattern[str]:
    """What comes before a purpose: `a ticket to replace the toner`. Only where something is made: a comment or a
    message goes "to" somebody."""
    verbs = verbs_like(tool)
    nouns = tokens(tool.description) - EMPTY_WORDS - {word for verb in verbs for word in tokens(verb)}
    if VERBS[0][0] not in verbs or not nouns:
        return _NEVER
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, nouns))})s?\s+to\s+(?=[a-z])", re.IGNORECASE)


_NEVER = re.compile(r"(?!)")


def _whole(found: Sequence[tuple[int, int]], read: Sequence[Reading]) -> list[tuple[int, int]]:
    """Clauses, those put together again that cut through a reading: `due Friday, 3 March` is one."""
    joined: list[tuple[int, int]] = []
    for start, end in found:
        if joined and any(each.start < joined[-1][1] + 1 and start < each.end for each in read):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _before_trailing(text: str, start: int, end: int, read: Sequence[Reading]) -> int:
    """Where `replace the toner by Friday` ends without its last two words, as often as there are such values."""
    for each in sorted(read, key=lambda each: each.start, reverse=True):
        at_the_end = start < each.start and each.end <= end and not text[each.end : end].strip(" .!,;")
        trailing = _TRAILING.search(text[start : each.start]) if at_the_end else None
        if trailing is not None and tokens(text[start : start + trailing.start()]) - EMPTY_WORDS:
            end = start + trailing.start()
    return end


def _without_trailing_choice(content: str, properties: Mapping[str, Mapping[str, Any]]) -> str:
    """`the failing backups with high priority` without its last three words."""
    for name, schema in properties.items():
        options = "|".join(re.escape(str(option)) for option in schema.get("enum", ()))
        if options:
            near = "|".join(map(re.escape, name_parts(name)))
            choice = rf"(?:(?:{options})\s+(?:{near})|(?:{near})\s*:?\s*(?:{options}))"
            content = re.sub(rf"[\s,]+(?:(?:with|at|as|and)\s+)*{choice}\W*$", "", content, flags=re.IGNORECASE)
    return content


def _only_chooses(
    span: tuple[int, int], text: str, properties: Mapping[str, Mapping[str, Any]], read: Sequence[Reading]
) -> bool:
    """Whether a clause says nothing but values of properties: `high priority`, `TCK-12`, `due next Friday`."""
    start, end = span
    left = text[start:end].lower()
    for each in sorted(read, key=lambda each: each.start, reverse=True):
        if start <= each.start and each.end <= end:
            left = left[: each.start - start] + " " + left[each.end - start :]
    some_read = any(start <= each.start and each.end <= end for each in read)
    for name, schema in properties.items():
        for option in schema.get("enum", ()):
            left = re.sub(rf"\b{re.escape(str(option).lower())}\b", " ", left)
        for found in pinned(schema, text[start:end]):
            left = left.replace(found.lower(), " ")
        left = re.sub(rf"\b(?:{'|'.join(map(re.escape, name_parts(name)))})\b", " ", left)
    left = re.sub(r"assign(?:ed)?(?: \w+)? to \S+", " ", left)
    return not tokens(left) - EMPTY_WORDS - (CHOOSING_WORDS if some_read else frozenset())
