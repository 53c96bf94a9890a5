"""Slack's three control characters, and characters that a reader cannot see.

What goes out is escaped and complete; what comes in is turned back into the words the person saw.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

_LINE_BREAKS = re.compile(r"\r\n|\r|\x85|\u2028|\u2029")
_ENTITY = re.compile(r"<([^<>]+)>")
_USER = re.compile(r"<@([UW][A-Z0-9]+)(?:\|[^<>]*)?>")

# Letters to Unicode, empty on the screen.
_BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Co", "Cs"})


def escape(text: str) -> str:
    """Replace `&`, `<` and `>`, the only characters that Slack decodes (docs.slack.dev, "Escaping text")."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def visible(text: str) -> str:
    """Write out characters that would change or hide what is shown, such as U+202E, as `⟦U+202E⟧`.

    Covers direction marks, zero-width and other format characters, controls, blank letters, variation selectors,
    tags, and lone surrogates. Line breaks of every kind become a newline; tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"⟦U+{ord(character):04X}⟧" if _is_hidden(character) else character
        for character in _LINE_BREAKS.sub("\n", text)
    )


def _is_hidden(character: str) -> bool:
    if character in "\n\t\ufe0f":  # U+FE0F only picks the coloured form of an emoji
        return False
    code = ord(character)
    return (
        character in _BLANKS
        or unicodedata.category(character) in _HIDDEN_CATEGORIES
        or 0xFE00 <= code <= 0xFE0E
        or 0x180B <= code <= 0x180F
        or 0xE0000 <= code <= 0xE0FFF
    )


def mentioned(text: str) -> frozenset[str]:
    """User ids that a message's text mentions."""
    return frozenset(_USER.findall(text))


def readable(text: str, *, names: Mapping[str, str], ourselves: str = "") -> str:
    """The words a person wrote, from Slack's text: entities spelled out, escapes undone, our own mention removed.

    `names` gives display names by user id; a person without one stays an id.
    """

    def spell_out(match: re.Match[str]) -> str:
        target, bar, label = match.group(1).partition("|")
        kind, rest = target[:1], target[1:]
        if kind == "@":
            return "" if rest == ourselves else f"@{names.get(rest) or label or rest}"
        if kind == "#":
            return f"#{label or rest}"
        if kind == "!":
            return label if bar and label else f"@{rest.partition('^')[0]}"
        address = target.removeprefix("mailto:").removeprefix("tel:")
        if not label or label == address or target.partition("://")[2].rstrip("/") == label.rstrip("/"):
            return address
        return f"{label} ({address})"

    words = _ENTITY.sub(spell_out, text)
    words = words.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return re.sub(r"[ \t]{2,}", " ", words).strip() if ourselves and f"<@{ourselves}" in text else words.strip()
