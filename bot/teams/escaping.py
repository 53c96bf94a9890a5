"""Text made safe to show: nothing in it is markup, and nothing in it is invisible."""

from __future__ import annotations

import re
import unicodedata

_KEPT_CONTROLS = frozenset("\n\t")
_KEPT_FORMATS = frozenset("\ufe0e\ufe0f")
"""Text and emoji presentation selectors: common, and without effect on other characters."""
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_BLANK_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that are drawn as nothing."""

_MARKUP = re.compile(r"""[&<>"'\\`*_{}\[\]()#~|!]""")
_LINE_START = re.compile(r"^([ \t]*)([-+=]|\d+\.)", re.MULTILINE)


def visible(text: str) -> str:
    """The text with line ends as `\\n` and every character that hides or reorders others written out: `⟨U+202E⟩`."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"⟨U+{ord(character):04X}⟩" if _hides(character) else character for character in text)


def markup(text: str) -> str:
    """The text as data for a message of format `xml`: character references for all that has a meaning in markup.

    Teams' page on message formats gives XML tags their meaning in `xml` messages; the references also keep Markdown's
    characters inert for clients that read every message as Markdown.
    """
    encoded = _LINE_START.sub(_encode_line_start, _MARKUP.sub(_reference, visible(text)))
    return re.sub(r"^ +| {2,}", lambda match: "&#160;" * len(match[0]), encoded, flags=re.MULTILINE).replace(
        "\n", "<br/>"
    )


def _hides(character: str) -> bool:
    if character in _KEPT_CONTROLS or character in _KEPT_FORMATS:
        return False
    return (
        unicodedata.category(character) in _INVISIBLE_CATEGORIES
        or character in _BLANK_LETTERS
        or "\ufe00" <= character <= "\ufe0d"
        or "\U000e0100" <= character <= "\U000e01ef"
    )


def _reference(match: re.Match[str]) -> str:
    return f"&#{ord(match[0])};"


def _encode_line_start(match: re.Match[str]) -> str:
    mark = match[2]
    return f"{match[1]}{mark[:-1]}&#{ord(mark[-1])};"
