"""What goes back to a person."""

from __future__ import annotations

from dataclasses import dataclass

from handlers.card import Card, Part, Text


@dataclass(frozen=True, slots=True)
class Reply:
    """Parts shown in order, then the card if there is one."""

    parts: tuple[Part, ...] = ()
    card: Card | None = None
    generated: bool = False
    """Written by a model or the offline engine; surfaces label it as such where they can."""

    @classmethod
    def text(cls, text: str, *, generated: bool = False) -> Reply:
        """A reply of one paragraph."""
        return cls(parts=(Text(text),), generated=generated)


@dataclass(frozen=True, slots=True)
class ClickOutcome:
    """What the person who clicked sees; there is always one."""

    text: str
    """One or two sentences: recorded, already decided by whom, not yours, expired, stale."""
    accepted: bool
    """Whether the click changed anything."""
    card: Card | None = None
    """The card as it stands now for surfaces that redraw it in the answer to the click; None leaves it as it is."""
    dialog: Card | None = None
    """Something to show only to this person (the details of a plan)."""
