"""What is still due after a commit: one row a (topic, subject), written in the transaction that made it due.

Invariant: a subject put again while it is being worked on stays due, because finishing names the generation it saw.
The row is the order; queues and tasks only carry hints to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Column, Index, Integer, Table, delete, func, select, update

from records.database import Transaction
from records.schema import Id, Moment, Name, metadata

EXECUTE = "execute"
"""Topic: an execution waits for a worker; the subject is its id."""
PROJECT = "project"
"""Topic: a plan's cards and notices are behind its state; the subject is the plan's id."""

FIRST_BACKOFF = timedelta(seconds=1)
LONGEST_BACKOFF = timedelta(seconds=30)

outbox = Table(
    "outbox",
    metadata,
    Column("topic", Name, primary_key=True),
    Column("subject", Id, primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Moment, nullable=False),
    Index("outbox_due", "topic", "due_at"),
)


@dataclass(frozen=True, slots=True)
class Due:
    """One order taken for another try."""

    subject: str
    generation: int
    attempts: int


def put(tx: Transaction, topic: str, subject: str, *, delay: timedelta = timedelta()) -> None:
    """Make a subject due after `delay`; the delay leaves room for the direct way, so that the sweep finds nothing."""
    insert = tx.insert(outbox)
    due_at = tx.now + delay
    tx.execute(
        insert.values(topic=topic, subject=subject, generation=1, attempts=0, due_at=due_at).on_conflict_do_update(
            index_elements=["topic", "subject"],
            set_={"generation": outbox.c.generation + 1, "attempts": 0, "due_at": due_at},
        )
    )


def take_due(tx: Transaction, topic: str, *, limit: int) -> list[Due]:
    """Take subjects that are due, oldest first, each put off by its backoff in case the try fails."""
    if limit <= 0:
        return []
    due = tx.execute(
        select(outbox.c.subject, outbox.c.generation, outbox.c.attempts)
        .where(outbox.c.topic == topic, outbox.c.due_at <= tx.now)
        .order_by(outbox.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    taken = []
    for row in due:
        backoff = min(FIRST_BACKOFF * 2 ** min(row.attempts, 10), LONGEST_BACKOFF)
        tx.execute(
            update(outbox)
            .where(outbox.c.topic == topic, outbox.c.subject == row.subject)
            .values(attempts=row.attempts + 1, due_at=tx.now + backoff)
        )
        taken.append(Due(row.subject, row.generation, row.attempts + 1))
    return taken


def generation(tx: Transaction, topic: str, subject: str) -> int | None:
    """The generation of a subject that is due, None when nothing is; read it before the work it stands for."""
    return tx.execute(
        select(outbox.c.generation).where(outbox.c.topic == topic, outbox.c.subject == subject)
    ).scalar_one_or_none()


def finish(tx: Transaction, topic: str, subject: str, seen: int | None = None) -> None:
    """Remove an order that is fulfilled, unless it was put again since generation `seen` (None: whatever came)."""
    condition = (outbox.c.topic == topic) & (outbox.c.subject == subject)
    if seen is not None:
        condition &= outbox.c.generation == seen
    tx.execute(delete(outbox).where(condition))


def count(tx: Transaction, topic: str) -> int:
    """How many subjects of a topic are outstanding."""
    return int(tx.execute(select(func.count()).select_from(outbox).where(outbox.c.topic == topic)).scalar_one())
