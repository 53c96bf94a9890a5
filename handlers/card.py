"""Surface-neutral pictures: what a reply or a card shows and what can be clicked on it.

All text here is data. Each surface escapes it; nothing in a `str` is ever read as markup, link or mention.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Tone(StrEnum):
    """How a card should feel at a glance."""

    NEUTRAL = "neutral"
    WAITING = "waiting"
    GOOD = "good"
    WARNING = "warning"
    DANGER = "danger"


class TextStyle(StrEnum):
    NORMAL = "normal"
    STRONG = "strong"
    SUBTLE = "subtle"


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; line breaks are kept."""

    text: str
    style: TextStyle = TextStyle.NORMAL


@dataclass(frozen=True, slots=True)
class Heading:
    """A short line over what follows."""

    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Labelled values, in order."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Bullets:
    """An unordered list."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quote:
    """Somebody's words shown as theirs: a thread, a record's text, the assistant's reason."""

    text: str
    source: str = ""
    """Whose words, for example `the assistant` or `#support`."""


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Exact values, shown in a fixed-width face so that every character can be told apart."""

    text: str


@dataclass(frozen=True, slots=True)
class Link:
    """The only way a link gets on a surface; `url` is https, or http on loopback."""

    label: str
    url: str


@dataclass(frozen=True, slots=True)
class Mention:
    """The only way a person is notified: their user id on the surface the message goes to."""

    user: str
    name: str


Part = Text | Heading | Facts | Bullets | Quote | Verbatim | Link | Mention


class ButtonStyle(StrEnum):
    DEFAULT = "default"
    PRIMARY = "primary"
    DANGER = "danger"


@dataclass(frozen=True, slots=True)
class Confirm:
    """A question asked before the button acts."""

    title: str
    text: str
    yes: str
    no: str = "Cancel"


@dataclass(frozen=True, slots=True)
class TextInput:
    """One line or a few that the person types as part of the click (a reason)."""

    name: str
    label: str
    placeholder: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class Button:
    """Something to press; it carries an opaque nonce and nothing else."""

    verb: str
    label: str
    nonce: str
    style: ButtonStyle = ButtonStyle.DEFAULT
    confirm: Confirm | None = None
    ask: TextInput | None = None
    """Typed with the click: a modal in Slack, a show-card in Teams."""


@dataclass(frozen=True, slots=True)
class Card:
    """Something with a title that may be clicked, and that is redrawn as its state changes."""

    title: str
    parts: tuple[Part, ...]
    buttons: tuple[Button, ...] = ()
    tone: Tone = Tone.NEUTRAL
    summary: str = ""
    """One plain sentence for notifications and screen readers; the title when empty."""
