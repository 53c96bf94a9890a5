"""A place as the columns of a row: the conversation, and the thread in it."""

from __future__ import annotations

from sqlalchemy import Column, ColumnElement, Table, and_

from handlers.turn import Place
from records.schema import Name


def place_columns(*, primary_key: bool) -> list[Column[str]]:
    """`surface`, `tenant`, `conversation` and `thread`."""
    names = ("surface", "tenant", "conversation", "thread")
    return [Column(name, Name, nullable=False, primary_key=primary_key) for name in names]


def place_values(place: Place) -> dict[str, str]:
    """What the columns hold for a place; an empty `thread` stands for none."""
    return {
        "surface": place.surface,
        # Teams writes tenant ids in either case (RFC 9562, section 4); no two of Slack's differ by case alone.
        "tenant": place.tenant.lower(),
        "conversation": place.conversation,
        "thread": place.thread or "",
    }


def is_at(table: Table, place: Place) -> ColumnElement[bool]:
    """Whether a row is of this place."""
    return and_(*(table.c[name] == value for name, value in place_values(place).items()))
