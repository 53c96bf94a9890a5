"""Answers that are being written to somebody, so that Stop finds them in whichever process writes them.

Invariant: an answer goes on only while its row is there; to stop it is to delete the row. The writing process looks
once an update, so a Stop counts within about a second, and the replicas need no other way to tell each other.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, Index, Table, delete, select

from handlers.place_columns import is_at, place_columns, place_values
from handlers.turn import Place
from records.database import Transaction
from records.schema import Id, Moment, Name, metadata

answers_under_way = Table(
    "answers_under_way",
    metadata,
    Column("request_id", Id, primary_key=True),
    *place_columns(primary_key=False),
    Column("person", Name, nullable=False),
    Column("begun_at", Moment, nullable=False),
    Index("answers_under_way_place", "surface", "tenant", "conversation", "thread", "person"),
)


def begin(tx: Transaction, request_id: str, place: Place, person: str) -> None:
    """Note that a request's answer is being written; one that is begun again counts as new."""
    row = {**place_values(place), "person": person, "begun_at": tx.now}
    tx.execute(
        tx.insert(answers_under_way)
        .values(request_id=request_id, **row)
        .on_conflict_do_update(index_elements=["request_id"], set_=row)
    )


def is_wanted(tx: Transaction, request_id: str) -> bool:
    """Whether nobody has stopped it."""
    found = select(answers_under_way.c.request_id).where(answers_under_way.c.request_id == request_id)
    return tx.execute(found).first() is not None


def stop(tx: Transaction, place: Place, person: str) -> int:
    """Stop what is being written to a person in a place; returns how many answers that were."""
    theirs = (is_at(answers_under_way, place), answers_under_way.c.person == person)
    return tx.execute(delete(answers_under_way).where(*theirs)).rowcount


def end(tx: Transaction, request_id: str) -> None:
    """Note that nothing more is written."""
    tx.execute(delete(answers_under_way).where(answers_under_way.c.request_id == request_id))


def forget_before(tx: Transaction, moment: datetime) -> int:
    """Delete what processes left behind that died while they wrote; returns how many."""
    return tx.execute(delete(answers_under_way).where(answers_under_way.c.begun_at < moment)).rowcount
