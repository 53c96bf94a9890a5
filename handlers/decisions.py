"""The decision log: what each turn was taken for, at which step of the router, how surely and why.

Invariant: no row holds anything that somebody wrote. What drift is measured on later (score, model, digest of the
vector) is kept wherever the embeddings were asked, whoever decided in the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, Column, Float, Index, Integer, Table, Text, delete, insert, select

from inference.prediction import Prediction
from records.database import Transaction
from records.schema import Id, Moment, Name, metadata

decisions = Table(
    "decisions",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Moment, nullable=False),
    Column("request_id", Id, nullable=False),
    Column("tenant", Name, nullable=False),
    Column("step", Name, nullable=False),
    Column("prediction", Name),
    Column("confidence", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("scope", Float),
    Column("model_version", Name),
    Column("embedding_model", Name),
    Column("embedding_digest", Id),
    Index("decisions_at", "at"),
    Index("decisions_request", "request_id"),
)


class Step(StrEnum):
    """What decided, in the order in which the router asks."""

    COMMAND = "command"
    """Exact words."""
    CLICK = "click"
    """A button."""
    FOLLOW_UP = "follow_up"
    """The answer to a question we had asked, or its withdrawal."""
    EMBEDDINGS = "embeddings"
    MODEL = "model"
    """The language model."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One row."""

    at: datetime
    request_id: str
    tenant: str
    step: str
    prediction: str | None
    """The skill's name, or the button's verb; None for out of scope."""
    confidence: float
    """0 to 1; 1 where words or a button were exact."""
    reason: str
    """One sentence; no message text."""
    scope: float | None = None
    """See `inference.prediction.Prediction`, as the three below."""
    model_version: str | None = None
    embedding_model: str | None = None
    embedding_digest: str | None = None


def note(
    tx: Transaction,
    request_id: str,
    *,
    tenant: str,
    step: Step,
    prediction: str | None,
    confidence: float,
    reason: str,
    measured: Prediction | None = None,
) -> None:
    """Add a decision. `measured` is what the embeddings said, where they were asked."""
    tx.execute(
        insert(decisions),
        {
            "at": tx.now,
            "request_id": request_id,
            "tenant": tenant,
            "step": step,
            "prediction": prediction,
            "confidence": confidence,
            "reason": reason,
            "scope": measured.scope if measured else None,
            "model_version": measured.model_version if measured else None,
            "embedding_model": measured.embedding_model if measured else None,
            "embedding_digest": measured.embedding_digest if measured else None,
        },
    )


def recent(tx: Transaction, limit: int = 200) -> list[Decision]:
    """The newest decisions, newest first."""
    wanted = select(*(column for column in decisions.c if column is not decisions.c.id))
    rows = tx.execute(wanted.order_by(decisions.c.id.desc()).limit(limit)).all()
    return [Decision(**row._mapping) for row in rows]


def forget_before(tx: Transaction, moment: datetime) -> int:
    """Delete decisions older than a moment; returns how many."""
    return tx.execute(delete(decisions).where(decisions.c.at < moment)).rowcount
