"""Where people have been told that the offline engine stands in for the language model.

Invariant: a thread is told once an outage. The row is made by the telling and goes when the language model answers
there again, so that a later outage is told again.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, Table, delete

from handlers.place_columns import is_at, place_columns, place_values
from handlers.turn import Place
from records.database import Transaction
from records.schema import Moment, metadata

engine_notices = Table(
    "engine_notices",
    metadata,
    *place_columns(primary_key=True),
    Column("told_at", Moment, nullable=False),
)


def claim(tx: Transaction, place: Place) -> bool:
    """Take it on oneself to tell a thread; False where it has been told."""
    claimed = tx.execute(
        tx.insert(engine_notices)
        .values(**place_values(place), told_at=tx.now)
        .on_conflict_do_nothing()
        .returning(engine_notices.c.told_at)
    )
    return claimed.first() is not None


def withdraw(tx: Transaction, place: Place) -> None:
    """Forget that a thread was told: the language model answers there again, or the telling did not arrive."""
    tx.execute(delete(engine_notices).where(is_at(engine_notices, place)))


def forget_before(tx: Transaction, moment: datetime) -> int:
    """Delete notices told before a moment; returns how many."""
    return tx.execute(delete(engine_notices).where(engine_notices.c.told_at < moment)).rowcount
