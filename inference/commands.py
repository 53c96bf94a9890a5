"""Reads a request as a command: which part of it commands, which verbs mean what a tool does, where its clauses are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from inference.model import Tool

QUOTED = re.compile(r"\"([^\"\n]+)\"|“([^”\n]+)”|«([^»\n]+)»|(?<!\w)'([^'\n]{3,})'(?!\w)")
ABOUT = re.compile(
    r":\s+|\b(?:about|called|titled|named|saying|regarding|concerning|because|since|for(?! (?:me|us|this|it)\b))\s+",
    re.IGNORECASE,
)
"""What comes before a thing's title or description."""

CLAUSE = re.compile(r"\s*[;\n]\s*|\s*,\s+(?:and\s+)?|\s+[-–—]\s+|(?<=[.!?])\s+")

VERBS = (
    ("create", "open", "file", "log", "raise", "report", "submit", "new"),
    ("close", "resolve", "resolved", "finish", "complete", "shut"),
    ("reopen", "open again"),
    ("delete", "remove", "erase"),
    ("update", "change", "set", "edit", "modify"),
    ("assign", "hand", "give"),
    ("comment", "note"),
    ("send", "write", "mail"),
    ("schedule", "arrange", "plan"),
    ("cancel", "call off"),
    ("move", "postpone", "shift"),
)
"""Verbs of office software that people use for one another."""

NARRATION = re.compile(
    r"\W*(?:i|we|you|he|she|it|they)\s+(?:(?!need|proceed)\w+ed|bought|got|had|was|were|did|made|sent|saw|went|found|wrote)\b",
    re.I,
)
"""How a remark about the past begins: "I opened a ticket for that"."""

QUESTION = re.compile(
    r"\W*(what|why|when|who|whose|which|where|how|is|was|are|were|does|did|has|have)\b", re.IGNORECASE
)


def tells(words: str) -> bool:
    """Whether the words tell what somebody did rather than ask for something to be done."""
    return NARRATION.match(words) is not None


def asks_for(tool: Tool, words: str) -> bool:
    """Whether the words name what a tool does to a thing they also name: its verb, or one like it, and every value that
    its schema pins down by a pattern, a choice or a format. Words that ask a question ask for nothing to be done."""
    properties: Mapping[str, Mapping[str, Any]] = tool.parameters.get("properties", {})
    pinned = [
        name
        for name in tool.parameters.get("required", ())
        if {"pattern", "enum", "format"} & set(properties.get(name, {}))
    ]
    if not pinned or QUESTION.match(words):
        return False
    spoken = tokens(QUOTED.sub(" ", words))
    return len(pinned) > 1 or any(tokens(verb) <= spoken for verb in verbs_like(tool))


def phrasings(tool: Tool) -> tuple[str, ...]:
    """Short requests for a tool: its name as words, and its description with each verb like its own."""
    first, _, rest = tool.description.partition(" ")
    return (tool_words(tool), *(f"{verb} {rest.lower()}" for verb in verbs_like(tool) if verb != first.lower()))


def verbs_like(tool: Tool) -> tuple[str, ...]:
    """The verb of a tool, the last dotted part of its name or the first word of its description, and those like it."""
    own = [tool.description.split(" ")[0].lower(), *name_parts(tool.name.rpartition(".")[2])]
    group = next((group for verb in own for group in VERBS if verb in group), ())
    return tuple(dict.fromkeys((*own[:1], *group)))


def command_part(words: str) -> str:
    """The words up to what they are about: the part that tells which tool is meant."""
    head = QUOTED.sub(" ", words)
    about = ABOUT.search(head)
    if about is not None and len(tokens(head[: about.start()])) >= 2:
        head = head[: about.start()]
    return " ".join(head.split())


def tool_words(tool: Tool) -> str:
    """A tool's name as words: `tickets.close` is "close tickets"."""
    return " ".join(reversed(name_parts(tool.name)))


def name_parts(name: str) -> list[str]:
    """The words of an identifier: `set_dueDate` is set, due, date."""
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]


def spans(text: str, start: int) -> list[tuple[int, int]]:
    """Where each clause of a text begins and ends, from `start` on."""
    ends = [*((match.start(), match.end()) for match in CLAUSE.finditer(text, start)), (len(text), len(text))]
    found = []
    for end, following in ends:
        if tokens(text[start:end]):
            found.append((start, end))
        start = following
    return found


def clauses(text: str) -> list[str]:
    """The clauses of a text that have words."""
    return [text[start:end] for start, end in spans(text, 0)]


def tokens(text: str) -> set[str]:
    """The words of a text, singular and lower-case, for telling what two texts share."""
    return {word.lower().removesuffix("s") for word in re.findall(r"\w+", text)}


EMPTY_WORDS = frozenset(
    tokens("a an the to of for in on with and or is as be this that it my me you please thanks thank set")
)
