"""Plans: ordered action calls in one canonical form.

Invariant: the canonical bytes (RFC 8785) are what is shown, hashed, stored and executed. They name the tenant, the
requester, the action versions, the target versions, where each argument comes from and the rules they were judged by,
so a change of any of these is another plan with another digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import rfc8785
from sqlalchemy import Column, Integer, LargeBinary, Table, select, update

from actions.origins import ArgumentOrigin, Source
from records import outbox
from records.database import Transaction
from records.schema import Id, Json, Moment, metadata

plans = Table(
    "plans",
    metadata,
    Column("id", Id, primary_key=True),
    Column("request_id", Id, nullable=False),
    Column("digest", Id, nullable=False),
    Column("canonical", LargeBinary, nullable=False),
    Column("about", Json, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
)


FORMAT = 2
"""Of the canonical bytes. 1, without origins, was written by earlier versions; plans stored then still run."""


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One action call, exactly as it will run."""

    action: str
    action_version: int
    connector: str
    arguments: Mapping[str, Any]
    target: str | None
    """Id of the record it is about."""
    target_version: str | None
    """The record's version that was shown."""
    origins: Mapping[str, ArgumentOrigin] = field(default_factory=dict)
    """By argument name; every argument has one, but for plans in format 1, which have none."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done, for whom, under which rules."""

    tenant: str
    requester: str
    policy_digest: str
    calls: tuple[PlannedCall, ...]
    format: int = FORMAT

    def canonical(self) -> bytes:
        """RFC 8785 JSON: one byte sequence a plan."""
        return rfc8785.dumps(
            {
                "format": self.format,
                "tenant": self.tenant,
                "requester": self.requester,
                "policy": self.policy_digest,
                "calls": [_call_out(call, self.format) for call in self.calls],
            }
        )

    @classmethod
    def parse(cls, canonical: bytes) -> Plan:
        """The plan of its canonical bytes; raises ValueError for an unknown format."""
        value = json.loads(canonical)
        if value.get("format") not in (1, FORMAT):
            raise ValueError("a stored plan has an unknown format")
        return cls(
            value["tenant"],
            value["requester"],
            value["policy"],
            tuple(_call_in(call) for call in value["calls"]),
            value["format"],
        )


def _call_out(call: PlannedCall, written_format: int) -> dict[str, Any]:
    written = {
        "action": call.action,
        "action_version": call.action_version,
        "connector": call.connector,
        "arguments": dict(call.arguments),
        "target": call.target,
        "target_version": call.target_version,
    }
    if written_format >= 2:
        written["origins"] = {
            name: {"kind": origin.source.value, "messages": list(origin.messages)}
            for name, origin in call.origins.items()
        }
    return written


def _call_in(written: Mapping[str, Any]) -> PlannedCall:
    origins = {
        name: ArgumentOrigin(Source(origin["kind"]), tuple(origin["messages"]))
        for name, origin in written.get("origins", {}).items()
    }
    return PlannedCall(**{**written, "origins": origins})


def digest(canonical: bytes) -> str:
    """SHA-256 of the canonical bytes, in hexadecimal."""
    return hashlib.sha256(canonical).hexdigest()


@dataclass(frozen=True, slots=True)
class About:
    """What a card says around a plan; not signed, not executed."""

    title: str
    steps: tuple[str, ...]
    """One line a call: `Close TCK-12 (Printer on fire)`."""
    reason: str
    """Why the assistant proposes it, in its words; may be empty."""
    requester_name: str
    target_url: str
    risk: str
    """`destructive, can be undone by hand`."""


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A plan's row."""

    id: str
    request_id: str
    digest: str
    canonical: bytes
    about: About
    version: int
    """Grows with every transition of its approval or execution; a card that shows it is up to date."""

    def plan(self) -> Plan:
        """Raises ValueError when the stored bytes are not those of the digest."""
        if digest(self.canonical) != self.digest:
            raise ValueError(f"the plan {self.id} does not match its digest")
        return Plan.parse(self.canonical)


def store(tx: Transaction, *, plan_id: str, request_id: str, canonical: bytes, about: About) -> bool:
    """Keep a plan; False when the id is already held (the same request handled again)."""
    statement = tx.insert(plans)
    inserted = tx.execute(
        statement.values(
            id=plan_id,
            request_id=request_id,
            digest=digest(canonical),
            canonical=canonical,
            about={name: getattr(about, name) for name in About.__slots__},
            version=1,
            created_at=tx.now,
        )
        .on_conflict_do_nothing(index_elements=["id"])
        .returning(plans.c.id)
    )
    return inserted.first() is not None


def find(tx: Transaction, plan_id: str) -> StoredPlan | None:
    """One plan."""
    row = tx.execute(select(plans).where(plans.c.id == plan_id)).first()
    if row is None:
        return None
    about = About(**{**row.about, "steps": tuple(row.about["steps"])})
    return StoredPlan(row.id, row.request_id, row.digest, bytes(row.canonical), about, row.version)


def touch(tx: Transaction, plan_id: str) -> None:
    """Note a transition: every card of the plan is due to be redrawn."""
    tx.execute(update(plans).where(plans.c.id == plan_id).values(version=plans.c.version + 1))
    outbox.put(tx, outbox.PROJECT, plan_id)
