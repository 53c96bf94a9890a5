"""Where each card and notice of a plan is, and what state of the plan it shows; and the buttons on it.

Invariant: a button's nonce stands for exactly one (delivery, verb); it counts only in the message it was put in.
Nonces are derived, so that a card can be redrawn with the same ones, and only their hashes are stored.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, Row, Table, and_, or_, select, update

from handlers.surface import MessageRef
from handlers.turn import Place
from records.database import Transaction
from records.schema import Id, Moment, Name, metadata

DRAW_LEASE = timedelta(seconds=30)
"""Longest one drawing may take before another process may try."""
VERBS = ("approve", "deny", "details")

card_deliveries = Table(
    "card_deliveries",
    metadata,
    Column("id", Id, primary_key=True),
    Column("plan_id", Id, nullable=False),
    Column("kind", Name, nullable=False),
    Column("surface", Name, nullable=False),
    Column("tenant", Name, nullable=False),
    Column("conversation", Name, nullable=False),
    Column("thread", Name),
    Column("direct", Boolean, nullable=False),
    Column("internal", Boolean, nullable=False),
    Column("message_id", Name),
    Column("shown_version", Integer, nullable=False),
    Column("posting", Boolean, nullable=False),
    Column("lease_until", Moment),
    Index("card_deliveries_plan", "plan_id"),
)
card_buttons = Table(
    "card_buttons",
    metadata,
    Column("nonce_hash", Id, primary_key=True),
    Column("delivery_id", Id, ForeignKey("card_deliveries.id"), nullable=False),
    Column("verb", Name, nullable=False),
    Column("digest", Id, nullable=False),
)


class DeliveryKind(StrEnum):
    """What a delivery is for."""

    CARD = "card"
    """With buttons while signatures are wanted."""
    STATUS = "status"
    """The same picture without buttons, for people who may only look."""
    NOTICE = "notice"
    """Posted once, when all is over; it mentions the requester."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message of ours about a plan."""

    id: str
    plan_id: str
    kind: DeliveryKind
    place: Place
    message_id: str | None
    """None until the platform has told us."""
    shown_version: int
    """The plan's version it shows; 0 before it is posted."""
    interrupted: bool
    """A post may have gone out whose answer we never saw."""

    @property
    def ref(self) -> MessageRef | None:
        return None if self.message_id is None else MessageRef(self.place, self.message_id)


@dataclass(frozen=True, slots=True)
class FoundButton:
    """What a nonce stands for."""

    delivery: Delivery
    verb: str
    digest: str
    """The digest of the plan the card showed."""


class Nonces:
    """Derives the opaque values buttons carry."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def nonce(self, delivery_id: str, verb: str, digest: str) -> str:
        """256 bits that say nothing and cannot be guessed; the same for the same button."""
        tag = hmac.new(self._key, f"button|{delivery_id}|{verb}|{digest}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(tag).rstrip(b"=").decode()


def add(tx: Transaction, nonces: Nonces, *, plan_id: str, digest: str, kind: DeliveryKind, place: Place) -> None:
    """Note that a message about a plan belongs at a place. Idempotent."""
    where = f"{place.surface}|{place.tenant}|{place.conversation}|{place.thread or ''}"
    identity = hashlib.sha256(f"delivery|{plan_id}|{kind}|{where}".encode()).hexdigest()[:32]
    tx.execute(
        tx.insert(card_deliveries)
        .values(
            id=identity,
            plan_id=plan_id,
            kind=kind,
            surface=place.surface,
            tenant=place.tenant,
            conversation=place.conversation,
            thread=place.thread,
            direct=place.direct,
            internal=place.internal,
            shown_version=0,
            posting=False,
        )
        .on_conflict_do_nothing()
    )
    if kind is not DeliveryKind.CARD:
        return
    for verb in VERBS:
        nonce_hash = _hash(nonces.nonce(identity, verb, digest))
        tx.execute(
            tx.insert(card_buttons)
            .values(nonce_hash=nonce_hash, delivery_id=identity, verb=verb, digest=digest)
            .on_conflict_do_nothing()
        )


def find_button(tx: Transaction, nonce: str) -> FoundButton | None:
    """The button a nonce stands for."""
    button = tx.execute(select(card_buttons).where(card_buttons.c.nonce_hash == _hash(nonce))).first()
    if button is None:
        return None
    row = tx.execute(select(card_deliveries).where(card_deliveries.c.id == button.delivery_id)).one()
    return FoundButton(_delivery(row), button.verb, button.digest)


def claim_behind(tx: Transaction, plan_id: str, version: int, *, with_notices: bool) -> list[Delivery]:
    """Lease the deliveries that show an older version; what another process is drawing is left to it."""
    kinds = list(DeliveryKind) if with_notices else [DeliveryKind.CARD, DeliveryKind.STATUS]
    behind = and_(
        card_deliveries.c.plan_id == plan_id,
        card_deliveries.c.kind.in_(kinds),
        card_deliveries.c.shown_version < version,
        or_(card_deliveries.c.kind != DeliveryKind.NOTICE, card_deliveries.c.shown_version == 0),
        or_(card_deliveries.c.lease_until.is_(None), card_deliveries.c.lease_until <= tx.now),
    )
    rows = tx.execute(select(card_deliveries).where(behind).with_for_update(skip_locked=True)).all()
    claimed = []
    for row in rows:
        taken = tx.execute(
            update(card_deliveries)
            .where(card_deliveries.c.id == row.id, behind)
            .values(lease_until=tx.now + DRAW_LEASE, posting=row.message_id is None)
        )
        if taken.rowcount == 1:
            claimed.append(_delivery(row))
    return claimed


def shown(tx: Transaction, delivery_id: str, version: int, message_id: str) -> None:
    """Record what a delivery shows now, and give its lease back."""
    tx.execute(
        update(card_deliveries)
        .where(card_deliveries.c.id == delivery_id)
        .values(shown_version=version, message_id=message_id, posting=False, lease_until=None)
    )


def not_shown(tx: Transaction, delivery_id: str) -> None:
    """The platform refused: nothing went out, so the next try starts afresh."""
    tx.execute(
        update(card_deliveries).where(card_deliveries.c.id == delivery_id).values(posting=False, lease_until=None)
    )


def of_plan(tx: Transaction, plan_id: str) -> Sequence[Delivery]:
    """All deliveries of a plan."""
    rows = tx.execute(select(card_deliveries).where(card_deliveries.c.plan_id == plan_id)).all()
    return [_delivery(row) for row in rows]


def _hash(nonce: str) -> str:
    return hashlib.sha256(nonce.encode()).hexdigest()


def _delivery(row: Row[tuple[object, ...]]) -> Delivery:
    place = Place(
        surface=row.surface,
        tenant=row.tenant,
        conversation=row.conversation,
        thread=row.thread,
        direct=row.direct,
        internal=row.internal,
    )
    return Delivery(
        row.id, row.plan_id, DeliveryKind(row.kind), place, row.message_id, row.shown_version, bool(row.posting)
    )
