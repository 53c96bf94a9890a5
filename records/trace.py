"""What happened to a request, step by step, in sentences that carry no message text.

The workbench shows it beside the conversation; the audit log, not this, is the evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, delete, insert, select

from records.database import Transaction
from records.schema import Id, Moment, Name, metadata

trace = Table(
    "trace",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Moment, nullable=False),
    Column("request_id", Id, nullable=False),
    Column("stage", Name, nullable=False),
    Column("text", Text, nullable=False),
    Column("approval_id", Id),
    Column("execution_id", Id),
    Index("trace_request", "request_id"),
)


@dataclass(frozen=True, slots=True)
class TraceEntry:
    """One step."""

    id: int
    at: datetime
    request_id: str
    stage: str
    """`heard`, `routed`, `planned`, `decided`, `card`, `signed`, `executed`, `answered`, …"""
    text: str
    approval_id: str | None = None
    execution_id: str | None = None


def note(
    tx: Transaction,
    request_id: str,
    stage: str,
    text: str,
    *,
    approval_id: str | None = None,
    execution_id: str | None = None,
) -> None:
    """Add a step, in the transaction of what it tells of."""
    tx.execute(
        insert(trace),
        {
            "at": tx.now,
            "request_id": request_id,
            "stage": stage,
            "text": text,
            "approval_id": approval_id,
            "execution_id": execution_id,
        },
    )


def after(tx: Transaction, last_id: int, limit: int = 200) -> list[TraceEntry]:
    """Steps with an id above `last_id`, oldest first; with `last_id` 0, the newest `limit` of all."""
    wanted = select(trace)
    wanted = wanted.where(trace.c.id > last_id).order_by(trace.c.id) if last_id else wanted.order_by(trace.c.id.desc())
    entries = [TraceEntry(**row._mapping) for row in tx.execute(wanted.limit(limit)).all()]
    return entries if last_id else entries[::-1]


def forget_before(tx: Transaction, moment: datetime) -> int:
    """Delete steps older than a moment; returns how many."""
    return tx.execute(delete(trace).where(trace.c.at < moment)).rowcount
