"""The smallest pieces of Block Kit that we use: plain text and rich text, which read nothing as markup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bot.slack.text import escape, visible

ELEMENT_LENGTH = 2_800
"""Escaped characters of one rich text element; a section's limit of 3,000 is the strictest known to apply."""
CONTEXT_LENGTH = 1_900
"""Escaped characters of one context element; Slack takes 2,000."""

Json = dict[str, Any]

_ESCAPED_LENGTH = {character: len(escape(character)) for character in "&<>"}


def plain(text: str) -> Json:
    """A plain text object of text that is escaped already."""
    # Without `emoji: false` a `:white_check_mark:` in somebody's words would be drawn as a sign of ours.
    return {"type": "plain_text", "text": text, "emoji": False}


def styled(text: str, *, bold: bool = False, italic: bool = False) -> Json:
    """One rich text element of text that is short and visible already."""
    element: Json = {"type": "text", "text": escape(text)}
    style = {name: True for name, wanted in (("bold", bold), ("italic", italic)) if wanted}
    if style:
        element["style"] = style
    return element


def runs(text: str, *, bold: bool = False, italic: bool = False) -> list[Json]:
    """Text of any length as rich text elements."""
    return [styled(piece, bold=bold, italic=italic) for piece in split(visible(text), ELEMENT_LENGTH)]


def rich(kind: str, elements: list[Json], **options: str) -> Json:
    """A rich text block of one section, quote, list or preformatted element."""
    return {"type": "rich_text", "elements": [{"type": kind, "elements": elements, **options}]}


def sections(elements: Sequence[Json]) -> list[Json]:
    """Elements as blocks of running text, as many to a block as stay short."""
    return [rich("rich_text_section", group) for group in grouped(elements)]


def context(text: str) -> list[Json]:
    """Small print of any length."""
    return [{"type": "context", "elements": [plain(escape(piece))]} for piece in split(visible(text), CONTEXT_LENGTH)]


def grouped(elements: Sequence[Json]) -> Iterator[list[Json]]:
    """Elements in order, in groups that hold no more text than one element may."""
    group: list[Json] = []
    length = 0
    for element in elements:
        size = text_length(element)
        if group and length + size > ELEMENT_LENGTH:
            yield group
            group, length = [], 0
        group.append(element)
        length += size
    if group:
        yield group


def text_length(element: Json) -> int:
    """Characters of an element and of what is in it."""
    inner = element.get("elements", ())
    return len(element.get("text", "")) + len(element.get("url", "")) + sum(text_length(one) for one in inner)


def split(text: str, limit: int) -> Iterator[str]:
    """Pieces whose escaped length is within the limit, cut at a line or a word where there is one."""
    rest = text
    while rest.strip():
        end = _fitting(rest, limit)
        if end < len(rest):
            cut = max(rest.rfind("\n", 0, end), rest.rfind(" ", 0, end)) + 1
            end = cut if cut > end // 2 else end
        yield rest[:end]
        rest = rest[end:]


def _fitting(text: str, limit: int) -> int:
    if len(text) <= limit and len(escape(text)) <= limit:
        return len(text)
    length = 0
    for end, character in enumerate(text):
        length += _ESCAPED_LENGTH.get(character, 1)
        if length > limit:
            return end
    return len(text)
