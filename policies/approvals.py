"""Approvals: durable requests for signatures, and the votes on them.

Invariant: every transition is one conditional UPDATE on the row that is pending, unexpired and of the digest the
person saw; it is the only arbiter between racing clicks. Votes, audit entry and state change commit together.

    pending ──enough votes──▶ approved ──(withdrawn before anything started)──▶ denied
       ├──one denial──▶ denied
       ├──time──▶ expired
       ├──requester or operator──▶ cancelled
       └──rules or target changed──▶ stale ◀── approved (found at execution, nothing done)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, Row, Table, Text, select, update

from policies import audit
from records.database import Transaction
from records.schema import Id, Json, Moment, Name, metadata

approvals = Table(
    "approvals",
    metadata,
    Column("id", Id, primary_key=True),
    Column("tenant", Name, nullable=False),
    Column("plan_id", Id, nullable=False, unique=True),
    Column("digest", Id, nullable=False),
    Column("requester", Name, nullable=False),
    Column("requester_identities", Json, nullable=False),
    Column("requirement", Json, nullable=False),
    Column("confirmation", Boolean, nullable=False),
    Column("rule_ids", Json, nullable=False),
    Column("reasons", Json, nullable=False),
    Column("policy_digest", Id, nullable=False),
    Column("state", Name, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("decided_at", Moment),
    Column("decided_by", Name),
    Column("remark", Text),
    Index("approvals_pending", "state", "expires_at"),
)
votes = Table(
    "votes",
    metadata,
    Column("approval_id", Id, ForeignKey("approvals.id"), primary_key=True),
    Column("person", Name, primary_key=True),
    Column("decision", Name, nullable=False),
    Column("groups", Json, nullable=False),
    Column("digest", Id, nullable=False),
    Column("at", Moment, nullable=False),
)


class State(StrEnum):
    """Where an approval stands. All but `pending` and `approved` are final."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    STALE = "stale"


class VoteDecision(StrEnum):
    APPROVE = "approve"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's signature."""

    person: str
    decision: VoteDecision
    groups: tuple[str, ...]
    """The required groups the person belonged to when signing."""
    at: datetime


@dataclass(frozen=True, slots=True)
class Approval:
    """The request for signatures as it stands in the database."""

    id: str
    tenant: str
    plan_id: str
    digest: str
    """What is signed: SHA-256 of the canonical plan, which names action versions, target version, rules and tenant."""
    requester: str
    requester_identities: tuple[str, ...]
    """The requester's accounts when they asked, `surface:tenant/user`."""
    requirement: Mapping[str, int]
    """Distinct people needed, by group; never below one; empty only for a confirmation."""
    confirmation: bool
    """The requester's own go-ahead is asked for, and nobody else's: not an approval."""
    rule_ids: tuple[str, ...]
    reasons: tuple[str, ...]
    policy_digest: str
    state: State
    version: int
    created_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    remark: str | None
    """The reason given with a denial, or why it went stale."""
    votes: tuple[Vote, ...]

    def signed_by(self, group: str) -> tuple[str, ...]:
        """People whose approval counts for a group."""
        return tuple(
            vote.person for vote in self.votes if vote.decision == VoteDecision.APPROVE and group in vote.groups
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """A vote about to be cast by someone whom the rules let sign."""

    person: str
    decision: VoteDecision
    groups: tuple[str, ...]
    roles: tuple[str, ...]
    displayed_digest: str
    """The digest of the card the person clicked on."""
    surface: str
    reason: str = ""


class SignatureRefused(Exception):
    """The vote was not recorded; nothing changed. `state` is how the approval stood, None when it does not exist."""

    def __init__(self, approval: Approval | None, why: str) -> None:
        super().__init__(why)
        self.approval = approval
        self.why = why
        """`unknown`, `decided`, `expired`, `other_digest` or `already_signed`."""


def create(
    tx: Transaction,
    *,
    approval_id: str,
    tenant: str,
    plan_id: str,
    digest: str,
    requester: str,
    requester_identities: Iterable[str],
    requirement: Mapping[str, int],
    confirmation: bool,
    rule_ids: Iterable[str],
    reasons: Iterable[str],
    policy_digest: str,
    lifetime: timedelta,
) -> Approval:
    """Ask for signatures. The same id again returns what exists; raises ValueError for a requirement of nobody."""
    if bool(requirement) == confirmation or any(not group or count < 1 for group, count in requirement.items()):
        raise ValueError("an approval needs at least one person of a named group, a confirmation nobody else")
    now = tx.now
    values: dict[str, Any] = {
        "id": approval_id,
        "tenant": tenant,
        "plan_id": plan_id,
        "digest": digest,
        "requester": requester,
        "requester_identities": sorted(requester_identities),
        "requirement": dict(requirement),
        "confirmation": confirmation,
        "rule_ids": list(rule_ids),
        "reasons": list(reasons),
        "policy_digest": policy_digest,
        "state": State.PENDING,
        "version": 1,
        "created_at": now,
        "expires_at": now + lifetime,
    }
    statement = tx.insert(approvals)
    # RETURNING tells whether a row went in; psycopg's row count of an INSERT does not come through.
    asked = statement.values(values).on_conflict_do_nothing(index_elements=["id"]).returning(approvals.c.id)
    if tx.execute(asked).first() is not None:
        audit.append(
            tx,
            kind="approval.requested",
            tenant=tenant,
            actor=requester,
            subject=approval_id,
            details={
                "digest": digest,
                "requirement": dict(requirement),
                "rules": list(values["rule_ids"]),
                "policy": policy_digest,
                "expires_at": values["expires_at"].isoformat(),
            },
        )
    approval = find(tx, approval_id)
    assert approval is not None
    return approval


def sign(
    tx: Transaction,
    approval_id: str,
    signature: Signature,
    *,
    entitled: Callable[[str], frozenset[str]],
) -> Approval:
    """Cast a vote. `entitled` tells which required groups a person counts for now; earlier voters are asked again.

    Returns the approval after the vote, `approved` when the votes suffice. Raises SignatureRefused.
    """
    # The bump takes the row's lock, so from here on racing votes on PostgreSQL wait for this one.
    locked = tx.execute(
        update(approvals)
        .where(
            approvals.c.id == approval_id,
            approvals.c.state == State.PENDING,
            approvals.c.expires_at > tx.now,
            approvals.c.digest == signature.displayed_digest,
        )
        .values(version=approvals.c.version + 1)
        .returning(approvals)
    ).first()
    if locked is None:
        raise _refusal(tx, approval_id, signature)
    statement = tx.insert(votes)
    cast = tx.execute(
        statement.values(
            approval_id=approval_id,
            person=signature.person,
            decision=signature.decision,
            groups=list(signature.groups),
            digest=signature.displayed_digest,
            at=tx.now,
        )
        .on_conflict_do_nothing(index_elements=["approval_id", "person"])
        .returning(votes.c.person)
    )
    if cast.first() is None:
        raise SignatureRefused(find(tx, approval_id), "already_signed")
    decided: State | None = None
    if signature.decision == VoteDecision.DENY:
        decided = State.DENIED
    elif locked.confirmation:
        decided = State.APPROVED if signature.person == locked.requester else None
    elif satisfied(locked.requirement, counted(_votes(tx, approval_id), locked.requester, entitled)):
        decided = State.APPROVED
    if decided is not None:
        tx.execute(
            update(approvals)
            .where(approvals.c.id == approval_id, approvals.c.state == State.PENDING)
            .values(
                state=decided,
                decided_at=tx.now,
                decided_by=signature.person,
                remark=signature.reason or None,
            )
        )
    _audit_vote(tx, locked, signature, decided)
    approval = find(tx, approval_id)
    assert approval is not None
    return approval


def counted(
    cast: Iterable[Vote], requester: str, entitled: Callable[[str], frozenset[str]]
) -> dict[str, frozenset[str]]:
    """Who counts for which group right now: approvals by entitled people other than the requester."""
    people: dict[str, set[str]] = {}
    for vote in cast:
        if vote.decision != VoteDecision.APPROVE or vote.person == requester:
            continue
        for group in entitled(vote.person):
            people.setdefault(group, set()).add(vote.person)
    return {group: frozenset(members) for group, members in people.items()}


def satisfied(requirement: Mapping[str, int], people: Mapping[str, frozenset[str]]) -> bool:
    """Whether each required group has its number of distinct people. An empty requirement is never satisfied."""
    return bool(requirement) and all(
        count >= 1 and len(people.get(group, frozenset())) >= count for group, count in requirement.items()
    )


def withdraw(tx: Transaction, approval_id: str, signature: Signature) -> Approval:
    """Turn an approval into a denial. The caller has stopped the execution in this transaction: nothing was sent.

    This is how a denial wins over an approval that was clicked at the same time.
    """
    row = _move(
        tx,
        approval_id,
        {State.APPROVED},
        State.DENIED,
        decided_at=tx.now,
        decided_by=signature.person,
        remark=signature.reason or None,
    )
    if row is None:
        raise SignatureRefused(find(tx, approval_id), "decided")
    _audit_vote(tx, row, signature, State.DENIED)
    approval = find(tx, approval_id)
    assert approval is not None
    return approval


def expire_due(tx: Transaction, *, limit: int = 50) -> list[Approval]:
    """Close requests whose time has passed; silence is recorded as silence."""
    due = (
        select(approvals.c.id)
        .where(approvals.c.state == State.PENDING, approvals.c.expires_at <= tx.now)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    closed = []
    for (approval_id,) in tx.execute(due).all():
        if _move(tx, approval_id, {State.PENDING}, State.EXPIRED, decided_at=tx.now) is not None:
            closed.append(_closed(tx, approval_id, "approval.expired", actor="clock"))
    return closed


def cancel(tx: Transaction, approval_id: str, *, actor: str) -> Approval | None:
    """Take a pending request back; None when it is no longer pending."""
    if _move(tx, approval_id, {State.PENDING}, State.CANCELLED, decided_at=tx.now, decided_by=actor) is None:
        return None
    return _closed(tx, approval_id, "approval.cancelled", actor=actor)


def mark_stale(tx: Transaction, approval_id: str, *, why: str) -> Approval | None:
    """What was shown no longer holds (the target or the rules changed); None when already closed."""
    if _move(tx, approval_id, {State.PENDING, State.APPROVED}, State.STALE, remark=why) is None:
        return None
    return _closed(tx, approval_id, "approval.stale", actor="rules")


def find(tx: Transaction, approval_id: str) -> Approval | None:
    """One approval with its votes."""
    return _first(tx, select(approvals).where(approvals.c.id == approval_id))


def of_plan(tx: Transaction, plan_id: str) -> Approval | None:
    """The approval a plan waits for or had."""
    return _first(tx, select(approvals).where(approvals.c.plan_id == plan_id))


def _first(tx: Transaction, statement: Any) -> Approval | None:
    row = tx.execute(statement).first()
    if row is None:
        return None
    values = dict(row._mapping)
    for listed in ("rule_ids", "reasons", "requester_identities"):
        values[listed] = tuple(values[listed])
    values["state"] = State(values["state"])
    return Approval(**values, votes=_votes(tx, row.id))


def _votes(tx: Transaction, approval_id: str) -> tuple[Vote, ...]:
    rows = tx.execute(select(votes).where(votes.c.approval_id == approval_id).order_by(votes.c.at, votes.c.person))
    return tuple(Vote(row.person, VoteDecision(row.decision), tuple(row.groups), row.at) for row in rows)


def _move(tx: Transaction, approval_id: str, leaving: set[State], entering: State, **values: Any) -> Row[Any] | None:
    return tx.execute(
        update(approvals)
        .where(approvals.c.id == approval_id, approvals.c.state.in_(sorted(leaving)))
        .values(state=entering, version=approvals.c.version + 1, **values)
        .returning(approvals)
    ).first()


def _closed(tx: Transaction, approval_id: str, kind: str, *, actor: str) -> Approval:
    approval = find(tx, approval_id)
    assert approval is not None
    audit.append(
        tx,
        kind=kind,
        tenant=approval.tenant,
        actor=actor,
        subject=approval_id,
        details={"digest": approval.digest, "votes": len(approval.votes)},
    )
    return approval


def _audit_vote(tx: Transaction, row: Row[Any], signature: Signature, decided: State | None) -> None:
    latency = tx.now - row.created_at
    audit.append(
        tx,
        kind=f"approval.{'denied' if signature.decision == VoteDecision.DENY else 'signed'}",
        tenant=row.tenant,
        actor=signature.person,
        subject=row.id,
        details={
            "decision": signature.decision,
            "roles": sorted(signature.roles),
            "groups": sorted(signature.groups),
            "displayed_digest": signature.displayed_digest,
            "rules": list(row.rule_ids),
            "policy": row.policy_digest,
            "surface": signature.surface,
            "latency_ms": latency // timedelta(milliseconds=1),
            "decided": decided or "",
        },
    )


def _refusal(tx: Transaction, approval_id: str, signature: Signature) -> SignatureRefused:
    approval = find(tx, approval_id)
    if approval is None:
        return SignatureRefused(None, "unknown")
    if approval.digest != signature.displayed_digest:
        return SignatureRefused(approval, "other_digest")
    if approval.state == State.PENDING:
        return SignatureRefused(approval, "expired")
    return SignatureRefused(approval, "decided")
