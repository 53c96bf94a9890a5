"""What we have asked somebody and wait to hear: one question a person and place.

Invariant: a question is answered once. Whoever's DELETE takes the row has the answer; of two messages at the same time
the other is a message like any other. The row is all there is, so a restart loses nothing and any replica can go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Column, Index, LargeBinary, Table, delete, select

from handlers.place_columns import is_at, place_columns, place_values
from handlers.turn import Place
from records.database import Transaction
from records.encryption import Cipher
from records.schema import Moment, Name, metadata

LIFETIME = timedelta(minutes=15)
"""How long an answer may take; what is said later is no answer any more."""

open_questions = Table(
    "open_questions",
    metadata,
    *place_columns(primary_key=True),
    Column("person", Name, primary_key=True),
    Column("skill", Name, nullable=False),
    Column("words", LargeBinary, nullable=False),
    Column("asked_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Index("open_questions_expires", "expires_at"),
)


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question and where its answer is waited for."""

    place: Place
    person: str
    """`Person.id`."""
    skill: str
    """The name of the skill that asked."""
    words: str
    """What had been asked for so far."""
    asked_at: datetime
    expires_at: datetime


class OpenQuestions:
    """The questions of an installation; what people asked for is kept encrypted."""

    def __init__(self, cipher: Cipher) -> None:
        self._cipher = cipher

    def ask(self, tx: Transaction, place: Place, person: str, *, skill: str, words: str) -> None:
        """Wait for an answer from now on. A question that was open here before is given up for this one."""
        self._put(tx, OpenQuestion(place, person, skill, words, tx.now, tx.now + LIFETIME), replacing=True)

    def waiting(self, tx: Transaction, place: Place, person: str) -> OpenQuestion | None:
        """The question that is open for a person in a place. Raises KeyUnusable."""
        row = tx.execute(
            select(open_questions).where(
                is_at(open_questions, place),
                open_questions.c.person == person,
                open_questions.c.expires_at > tx.now,
            )
        ).first()
        if row is None:
            return None
        words = self._cipher.open(row.words, context=_context(place, person)).decode()
        return OpenQuestion(place, person, row.skill, words, row.asked_at, row.expires_at)

    def take(self, tx: Transaction, question: OpenQuestion) -> bool:
        """Close a question with an answer to it; False where somebody was faster or it was asked anew."""
        taken = delete(open_questions).where(
            is_at(open_questions, question.place),
            open_questions.c.person == question.person,
            open_questions.c.asked_at == question.asked_at,
            open_questions.c.expires_at > tx.now,
        )
        return tx.execute(taken).rowcount == 1

    def put_back(self, tx: Transaction, question: OpenQuestion) -> None:
        """Open a question again whose answer will be heard again; one that was asked since stays."""
        self._put(tx, question, replacing=False)

    def forget_expired(self, tx: Transaction) -> int:
        """Delete questions that nobody answered in time; returns how many."""
        return tx.execute(delete(open_questions).where(open_questions.c.expires_at <= tx.now)).rowcount

    def _put(self, tx: Transaction, question: OpenQuestion, *, replacing: bool) -> None:
        key = {**place_values(question.place), "person": question.person}
        content = {
            "skill": question.skill,
            "words": self._cipher.seal(question.words.encode(), context=_context(question.place, question.person)),
            "asked_at": question.asked_at,
            "expires_at": question.expires_at,
        }
        insert = tx.insert(open_questions).values(**key, **content)
        if replacing:
            tx.execute(insert.on_conflict_do_update(index_elements=list(key), set_=content))
        else:
            tx.execute(insert.on_conflict_do_nothing())


def _context(place: Place, person: str) -> str:
    return "|".join(("open_questions", *place_values(place).values(), person))
