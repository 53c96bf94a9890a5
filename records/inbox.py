"""Inbound events, stored before they are acknowledged.

Invariant: one row a unique key. A platform's retry of an event we hold is ignored; of one we lost, it is taken.
An event that was stored and not finished (the process died) is due again when its lease runs out.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import (
    ClauseElement,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    bindparam,
    delete,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.sql.compiler import SQLCompiler

from records.database import Transaction
from records.encryption import Cipher
from records.schema import Id, Json, Moment, Name, metadata, to_microseconds

LEASE = timedelta(seconds=60)
"""How long a handler may take before the event counts as abandoned."""
MAX_ATTEMPTS = 5
"""After so many tries an event is set aside as `failed`, for a person to look at."""

inbox = Table(
    "inbox",
    metadata,
    Column("id", Id, primary_key=True),
    Column("source", Name, nullable=False),
    Column("unique_key", Name, nullable=False, unique=True),
    Column("kind", Name, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("headers", Json, nullable=False),
    Column("state", Name, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("received_at", Moment, nullable=False),
    Column("lease_until", Moment, nullable=False),
    Column("finished_at", Moment),
    Index("inbox_due", "state", "lease_until"),
)


@dataclass(frozen=True, slots=True)
class InboxEvent:
    """One stored event, its body in the clear."""

    id: str
    source: str
    """The door it came through: `slack` or `teams`."""
    kind: str
    """What the door calls it: `event`, `command`, `interaction`, `activity`."""
    body: bytes
    headers: dict[str, str]
    received_at: datetime
    attempts: int


def new_id() -> str:
    """128 random bits in hexadecimal: a row id that cannot be guessed."""
    return secrets.token_hex(16)


_STORED = (
    "id", "source", "unique_key", "kind", "body", "headers", "state", "attempts", "received_at", "lease_until",
)  # fmt: skip


class Inbox:
    """Where every door stores what came in."""

    def __init__(self, cipher: Cipher, dialect: str) -> None:
        self._cipher = cipher
        values: dict[str, Any] = {column: bindparam(column) for column in _STORED}
        insert = (sqlite_insert if dialect == "sqlite" else postgres_insert)(inbox).values(values)
        self._insert = _prepared(insert.on_conflict_do_nothing(index_elements=["unique_key"]), dialect, _STORED)
        held = update(inbox).where(inbox.c.id == bindparam("event_id"), inbox.c.state == literal_column("'received'"))
        finish = held.values(state=literal_column("'done'"), finished_at=bindparam("finished_at"))
        self._finish = _prepared(finish, dialect, ("finished_at", "event_id"))
        renew = held.values(lease_until=bindparam("until"))
        self._renew = _prepared(renew, dialect, ("until", "event_id"))

    def store(
        self, tx: Transaction, *, source: str, unique_key: str, kind: str, body: bytes, headers: dict[str, str]
    ) -> InboxEvent | None:
        """Keep an event and lease it to the caller; None when the key is already held."""
        identity = new_id()
        now = tx.now
        inserted = tx.execute_prepared(
            self._insert,
            [
                (
                    identity,
                    source,
                    unique_key,
                    kind,
                    self._cipher.seal(body, context=f"inbox|{identity}"),
                    orjson.dumps(headers),
                    "received",
                    1,
                    to_microseconds(now),
                    to_microseconds(now + LEASE),
                )
            ],
        )
        if inserted != 1:
            return None
        return InboxEvent(identity, source, kind, body, headers, now, attempts=1)

    def finish(self, tx: Transaction, event_id: str, *, state: str = "done") -> None:
        """Record that an event needs nothing more (`done`), or that nobody can handle it (`failed`)."""
        tx.execute(
            update(inbox)
            .where(inbox.c.id == event_id, inbox.c.state == "received")
            .values(state=state, finished_at=tx.now)
        )

    def finish_all(self, tx: Transaction, event_ids: Sequence[str]) -> None:
        """Record that events need nothing more."""
        finished_at = to_microseconds(tx.now)
        tx.execute_prepared(self._finish, [(finished_at, event_id) for event_id in event_ids])

    def renew(self, tx: Transaction, event_ids: Sequence[str]) -> None:
        """Lease events for longer to the process that is still handling them."""
        lease_until = to_microseconds(tx.now + LEASE)
        tx.execute_prepared(self._renew, [(lease_until, event_id) for event_id in event_ids])

    def release(self, tx: Transaction, event_id: str) -> None:
        """Give an event back after a failure that may pass; it is due again at once."""
        tx.execute(update(inbox).where(inbox.c.id == event_id, inbox.c.state == "received").values(lease_until=tx.now))

    def claim_abandoned(self, tx: Transaction, source: str, *, limit: int = 20) -> list[InboxEvent]:
        """Lease events whose handler died; those tried too often are set aside as `failed`."""
        now = tx.now
        tx.execute(
            update(inbox)
            .where(inbox.c.state == "received", inbox.c.lease_until <= now, inbox.c.attempts >= MAX_ATTEMPTS)
            .values(state="failed", finished_at=now)
        )
        due = (
            select(inbox.c.id)
            .where(inbox.c.state == "received", inbox.c.source == source, inbox.c.lease_until <= now)
            .order_by(inbox.c.received_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        rows = tx.execute(
            update(inbox)
            .where(inbox.c.id.in_(due))
            .values(attempts=inbox.c.attempts + 1, lease_until=now + LEASE)
            .returning(
                inbox.c.id,
                inbox.c.source,
                inbox.c.kind,
                inbox.c.body,
                inbox.c.headers,
                inbox.c.received_at,
                inbox.c.attempts,
            )
        ).all()
        return [
            InboxEvent(
                row.id,
                row.source,
                row.kind,
                self._cipher.open(row.body, context=f"inbox|{row.id}"),
                row.headers,
                row.received_at,
                row.attempts,
            )
            for row in rows
        ]

    def held(self, tx: Transaction, unique_key: str) -> bool:
        """Whether an event of this key was stored before."""
        return tx.execute(select(inbox.c.id).where(inbox.c.unique_key == unique_key)).first() is not None

    def forget_before(self, tx: Transaction, moment: datetime) -> int:
        """Delete finished events received before a moment; platforms retry for minutes, so keep days."""
        finished = or_(inbox.c.state == "done", inbox.c.state == "failed")
        return tx.execute(delete(inbox).where(finished, inbox.c.received_at < moment)).rowcount


def _prepared(statement: ClauseElement, dialect: str, order: tuple[str, ...]) -> str:
    """A statement's text in the words of the driver, whose values come as a tuple in the given order."""
    known = sqlite.dialect() if dialect == "sqlite" else psycopg.dialect(paramstyle="format")  # type: ignore[no-untyped-call]
    compiled = statement.compile(dialect=known)
    assert isinstance(compiled, SQLCompiler)
    assert tuple(compiled.positiontup or ()) == order
    return str(compiled)
