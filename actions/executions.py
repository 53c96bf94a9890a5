"""Executions: the run of an approved (or allowed) plan, as rows.

Invariant: whoever runs holds the fence. Every write names the fence it claimed with, so a worker that was taken for
dead can change nothing when it comes back. "About to send" is committed before each call; a row found in that state
after a crash is treated by the action's declared `Repeat` class, never by hope.

    ready ──claim──▶ executing ──▶ done | failed | stale | unknown | cancelled
      │                  ├──unreachable──▶ ready (later, the same key)
      │                  └──worker gone, nothing sent, too late──▶ expired
      └──▶ cancelled | expired
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, ColumnElement, Index, Integer, Row, Table, Text, and_, not_, or_, select, update

from actions import plans
from policies import audit
from records import outbox
from records.database import Transaction
from records.schema import Id, Json, Moment, Name, metadata

LEASE_MARGIN = timedelta(seconds=10)
"""How much longer than the connector's timeout a claim lasts."""
START_WITHIN = timedelta(minutes=30)
"""An approved plan that nobody could start for so long is not started any more."""
HINT_GRACE = timedelta(milliseconds=800)
"""How long the direct hint has before the sweep sends another."""

executions = Table(
    "executions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("plan_id", Id, nullable=False, unique=True),
    Column("approval_id", Id),
    Column("digest", Id, nullable=False),
    Column("tenant", Name, nullable=False),
    Column("requester", Name, nullable=False),
    Column("state", Name, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("sending", Integer),
    Column("results", Json, nullable=False),
    Column("message", Text),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("start_before", Moment, nullable=False),
    Column("lease_until", Moment),
    Column("created_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Index("executions_due", "state", "due_at"),
)


class State(StrEnum):
    """Where an execution stands; `ready` and `executing` are the open ones."""

    READY = "ready"
    EXECUTING = "executing"
    DONE = "done"
    FAILED = "failed"
    STALE = "stale"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution's row."""

    id: str
    """Also the idempotency key; calls use `<id>:<step>`."""
    plan_id: str
    approval_id: str | None
    """None when the rules allowed the plan without a signature."""
    digest: str
    tenant: str
    requester: str
    state: State
    fence: int
    step: int
    """Calls completed."""
    sending: int | None
    """The call that was about to be sent; None between calls."""
    results: tuple[Mapping[str, Any], ...]
    message: str | None
    attempts: int
    due_at: datetime
    start_before: datetime
    lease_until: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class FenceLost(Exception):
    """Another worker has taken over; this one must not touch the row or send anything."""


def execution_id(approval_or_plan_id: str, digest: str) -> str:
    """The idempotency key: one a (approval, plan), however often either is asked for."""
    return hashlib.sha256(f"execution|{approval_or_plan_id}|{digest}".encode()).hexdigest()[:32]


def order(tx: Transaction, *, plan: plans.StoredPlan, tenant: str, requester: str, approval_id: str | None) -> str:
    """Write the order to execute, with its audit entry and outbox row; returns the execution's id. Idempotent."""
    identity = execution_id(approval_id or plan.id, plan.digest)
    statement = tx.insert(executions)
    inserted = tx.execute(
        statement.values(
            id=identity,
            plan_id=plan.id,
            approval_id=approval_id,
            digest=plan.digest,
            tenant=tenant,
            requester=requester,
            state=State.READY,
            fence=0,
            step=0,
            results=[],
            attempts=0,
            due_at=tx.now,
            start_before=tx.now + START_WITHIN,
            created_at=tx.now,
        )
        .on_conflict_do_nothing()
        .returning(executions.c.id)
    )
    if inserted.first() is not None:
        outbox.put(tx, outbox.EXECUTE, identity, delay=HINT_GRACE)
        _record(tx, "execution.ordered", tenant, requester, identity, {"digest": plan.digest, "plan": plan.id})
    return identity


def claim(tx: Transaction, identity: str, *, lease: timedelta) -> Execution | None:
    """Take an execution that is due or whose worker is gone; None when there is nothing to do.

    After its deadline only what has begun is taken: a call may be out there, and somebody has to find out.
    """
    row = tx.execute(
        update(executions)
        .where(executions.c.id == identity, _free(tx), or_(executions.c.start_before > tx.now, _BEGUN))
        .values(
            state=State.EXECUTING,
            fence=executions.c.fence + 1,
            attempts=executions.c.attempts + 1,
            lease_until=tx.now + lease,
            started_at=tx.now,
        )
        .returning(executions)
    ).first()
    if row is None:
        return None
    held = _execution(row)
    _record(tx, "execution.claimed", held.tenant, "worker", identity, {"fence": held.fence, "digest": held.digest})
    return held


def about_to_send(tx: Transaction, held: Execution, step: int, *, lease: timedelta) -> None:
    """Commit the intent to make call number `step`, and hold the row for as long as that call may take.

    Raises FenceLost when the lease is gone.
    """
    _fenced(tx, held, {"sending": step, "lease_until": tx.now + lease}, executions.c.lease_until > tx.now)
    _record(
        tx,
        "execution.sending",
        held.tenant,
        "worker",
        held.id,
        {"step": step, "fence": held.fence, "digest": held.digest},
    )


def completed_call(tx: Transaction, held: Execution, step: int, result: Mapping[str, Any]) -> Execution:
    """Record what call number `step` did."""
    row = _fenced(tx, held, {"step": step + 1, "sending": None, "results": [*held.results, dict(result)]})
    return _execution(row)


def finish(tx: Transaction, held: Execution, state: State, message: str) -> Execution:
    """End the run, with audit entry, and take it off the outbox."""
    row = _fenced(tx, held, {"state": state, "message": message, "finished_at": tx.now, "lease_until": None})
    _closed(tx, row, actor="worker")
    return _execution(row)


def try_later(tx: Transaction, held: Execution, delay: timedelta, message: str) -> None:
    """Give it back: due again after `delay`, with the call that was about to be sent still marked."""
    _fenced(tx, held, {"state": State.READY, "due_at": tx.now + delay, "lease_until": None, "message": message})
    outbox.put(tx, outbox.EXECUTE, held.id, delay=delay)
    _record(tx, "execution.deferred", held.tenant, "worker", held.id, {"attempt": held.attempts})


def stop_unstarted(tx: Transaction, approval_id: str) -> bool:
    """Cancel the execution of an approval if no attempt ever began; False when it is too late."""
    row = tx.execute(
        update(executions)
        .where(executions.c.approval_id == approval_id, executions.c.state == State.READY, executions.c.attempts == 0)
        .values(state=State.CANCELLED, finished_at=tx.now, fence=executions.c.fence + 1)
        .returning(executions)
    ).first()
    if row is None:
        return False
    _closed(tx, row, actor="denial")
    return True


def expire_unstarted(tx: Transaction, *, limit: int = 50) -> list[Execution]:
    """Close orders past their start deadline; those with a call that may have been sent are left to a worker."""
    overdue = and_(_free(tx), executions.c.start_before <= tx.now, not_(_BEGUN))
    due = select(executions.c.id).where(overdue).limit(limit).with_for_update(skip_locked=True)
    closed = []
    for (identity,) in tx.execute(due).all():
        row = tx.execute(
            update(executions)
            .where(executions.c.id == identity, overdue)
            .values(
                state=State.EXPIRED,
                finished_at=tx.now,
                lease_until=None,
                fence=executions.c.fence + 1,
                message="No worker could start it in time. Nothing was done.",
            )
            .returning(executions)
        ).first()
        if row is not None:
            _closed(tx, row, actor="clock")
            closed.append(_execution(row))
    return closed


def find(tx: Transaction, identity: str) -> Execution | None:
    """One execution."""
    row = tx.execute(select(executions).where(executions.c.id == identity)).first()
    return None if row is None else _execution(row)


def of_plan(tx: Transaction, plan_id: str) -> Execution | None:
    """The execution of a plan, None while it waits or was refused."""
    row = tx.execute(select(executions).where(executions.c.plan_id == plan_id)).first()
    return None if row is None else _execution(row)


_BEGUN = or_(executions.c.sending.is_not(None), executions.c.step > 0)
"""A call has been made, or may have been."""


def _free(tx: Transaction) -> ColumnElement[bool]:
    """Nobody is working on it: it waits and is due, or its worker's lease has run out."""
    return or_(
        and_(executions.c.state == State.READY, executions.c.due_at <= tx.now),
        and_(executions.c.state == State.EXECUTING, executions.c.lease_until <= tx.now),
    )


def _fenced(tx: Transaction, held: Execution, values: Mapping[str, Any], *conditions: Any) -> Row[Any]:
    row = tx.execute(
        update(executions)
        .where(
            executions.c.id == held.id,
            executions.c.state == State.EXECUTING,
            executions.c.fence == held.fence,
            *conditions,
        )
        .values(**values)
        .returning(executions)
    ).first()
    if row is None:
        raise FenceLost(f"the execution {held.id} is no longer ours (fence {held.fence})")
    return row


def _closed(tx: Transaction, row: Row[Any], *, actor: str) -> None:
    outbox.finish(tx, outbox.EXECUTE, row.id)
    _record(
        tx,
        f"execution.{row.state}",
        row.tenant,
        actor,
        row.id,
        {"digest": row.digest, "fence": row.fence, "records": [str(result["record"]) for result in row.results]},
    )
    plans.touch(tx, row.plan_id)


def _record(tx: Transaction, kind: str, tenant: str, actor: str, identity: str, details: Mapping[str, Any]) -> None:
    audit.append(tx, kind=kind, tenant=tenant, actor=actor, subject=identity, details=details)


def _execution(row: Row[Any]) -> Execution:
    values = dict(row._mapping)
    values["state"] = State(values["state"])
    values["results"] = tuple(values["results"])
    return Execution(**values)
