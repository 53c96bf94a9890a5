"""I13 and I14: every transition has its audit entry in its own transaction; what ended without a yes never runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from actions import executions
from actions.executions import START_WITHIN
from policies import approvals, audit
from policies.approvals import State, VoteDecision
from records.database import Transaction
from tests.invariants.approval_world import LEASE, LIFETIME, World, unreachable


class AuditAway(Exception):
    """The audit log cannot be written."""


Step = Callable[[World], Awaitable[None]]


async def _asked(world: World) -> None:
    await world.ask(request_id="recorded", record="A")


async def _voted(world: World) -> None:
    await _press(world, "amir", VoteDecision.APPROVE)


async def _denied(world: World) -> None:
    await _press(world, "amir", VoteDecision.DENY)


async def _refused(world: World) -> None:
    await _press(world, "omar", VoteDecision.APPROVE)


async def _cancelled(world: World) -> None:
    await world.road.cancel((await _only(world)).id, actor="rosa")


async def _swept_late(world: World) -> None:
    world.let_pass(LIFETIME)
    await world.sweep.once()


async def _stale(world: World) -> None:
    approval = await _only(world)
    await world.database.write(lambda tx: approvals.mark_stale(tx, approval.id, why="changed"))


async def _withdrawn(world: World) -> None:
    await _press(world, "noor", VoteDecision.DENY)


async def _claimed(world: World) -> None:
    execution = await _order(world)
    await world.database.write(lambda tx: executions.claim(tx, execution.id, lease=LEASE))


async def _about_to_send(world: World) -> None:
    held = await _order(world)
    await world.database.write(lambda tx: executions.about_to_send(tx, held, 0, lease=LEASE))


async def _put_off(world: World) -> None:
    held = await _order(world)
    await world.database.write(lambda tx: executions.try_later(tx, held, LEASE, "away"))


async def _finished(world: World) -> None:
    held = await _order(world)
    await world.database.write(lambda tx: executions.finish(tx, held, executions.State.DONE, "Done."))


async def _too_late(world: World) -> None:
    world.let_pass(START_WITHIN)
    await world.database.write(executions.expire_unstarted)


TRANSITIONS: dict[str, tuple[list[Step], Step, list[str]]] = {
    "request": ([], _asked, ["approval.requested"]),
    "approve": ([_asked], _voted, ["approval.signed", "execution.ordered"]),
    "deny": ([_asked], _denied, ["approval.denied"]),
    "refuse a click": ([_asked], _refused, ["approval.refused"]),
    "cancel": ([_asked], _cancelled, ["approval.cancelled"]),
    "expire": ([_asked], _swept_late, ["approval.expired"]),
    "stale": ([_asked], _stale, ["approval.stale"]),
    "withdraw": ([_asked, _voted], _withdrawn, ["execution.cancelled", "approval.denied"]),
    "claim": ([_asked, _voted], _claimed, ["execution.claimed"]),
    "intent": ([_asked, _voted, _claimed], _about_to_send, ["execution.sending"]),
    "put off": ([_asked, _voted, _claimed], _put_off, ["execution.deferred"]),
    "finish": ([_asked, _voted, _claimed], _finished, ["execution.done"]),
    "not started in time": ([_asked, _voted], _too_late, ["execution.expired"]),
}


@pytest.mark.parametrize("transition", TRANSITIONS)
async def test_i13_each_transition_writes_exactly_its_own_audit_entries(world: World, transition: str) -> None:
    """I13: every transition writes its audit entry, once, and nothing else does."""
    before, step, kinds = TRANSITIONS[transition]
    for each in before:
        await each(world)
    known = len(await world.audited())
    await step(world)
    assert [entry["kind"] for entry in (await world.audited())[known:]] == kinds


@pytest.mark.parametrize("transition", TRANSITIONS)
async def test_i13_a_transition_that_cannot_be_audited_does_not_happen(
    world: World, transition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I13: in the same transaction: when the entry cannot be written, the state has not moved."""
    before, step, _ = TRANSITIONS[transition]
    for each in before:
        await each(world)
    rows = await _rows(world)

    def away(*args: Any, **kwargs: Any) -> str:
        raise AuditAway

    with monkeypatch.context() as patched:
        patched.setattr(audit, "append", away)
        with pytest.raises(AuditAway):
            await step(world)
    assert await _rows(world) == rows


async def test_i13_a_vote_is_recorded_with_who_when_roles_digest_rules_decision_and_latency(world: World) -> None:
    """I13: who, when, roles then, digest of what was displayed, rule ids, decision, latency."""
    approval = await world.ask_for_signatures()
    world.let_pass(timedelta(minutes=3))
    await world.click(approval, "amir")
    world.change_person("amir", roles=["employee", "boss"])
    entry = next(e for e in await world.audited(approval.id) if e["kind"] == "approval.signed")
    details = entry["details"]
    assert entry["actor"] == "amir"
    assert entry["at"] > approval.created_at.isoformat()
    assert details["roles"] == ["employee"]
    assert details["displayed_digest"] == approval.digest
    assert details["rules"] == ["destructive-needs-an-approver"]
    assert details["policy"] == approval.policy_digest
    assert details["decision"] == "approve"
    assert details["decided"] == "approved"
    assert details["surface"] == "slack"
    assert 180_000 <= details["latency_ms"] < 240_000


@pytest.mark.parametrize("ending", ["denied", "withdrawn", "cancelled", "expired", "stale"])
async def test_i14_what_ended_without_a_yes_never_runs_even_from_a_tampered_row(world: World, ending: str) -> None:
    """I14: expired, denied and cancelled requests never run, also when an order for them appears ready again."""
    approval = await world.ask_for_signatures()
    stored = await world.plan(approval)
    match ending:
        case "denied":
            await world.click(approval, "amir", VoteDecision.DENY)
        case "withdrawn":
            await world.click(approval, "amir")
            await world.click(approval, "noor", VoteDecision.DENY)
        case "cancelled":
            await world.road.cancel(approval.id, actor="rosa")
        case "expired":
            world.let_pass(LIFETIME)
            await world.sweep.once()
        case "stale":
            await world.database.write(lambda tx: approvals.mark_stale(tx, approval.id, why="changed"))
    identity = await world.database.write(
        lambda tx: executions.order(tx, plan=stored, tenant="default", requester="rosa", approval_id=approval.id)
    )
    await world.change(
        executions.executions,
        executions.executions.c.id == identity,
        state=executions.State.READY,
        start_before=(await world.approval(approval)).created_at + timedelta(days=365),
    )
    assert await world.run(identity) is executions.State.CANCELLED
    assert await world.run(identity) is None
    assert world.ledger.calls == []
    assert (await world.approval(approval)).state in (State.DENIED, State.CANCELLED, State.EXPIRED, State.STALE)


@pytest.mark.parametrize("jump", [timedelta(days=365), timedelta(days=-365)])
async def test_i14_a_clock_that_jumps_revives_nothing(world: World, jump: timedelta) -> None:
    """I14: not after clock jumps."""
    expired = await world.ask_for_signatures()
    _, overdue = await world.approved()
    world.let_pass(LIFETIME)
    await world.sweep.once()
    world.let_pass(jump)
    await world.click(expired, "amir")
    assert (await world.approval(expired)).state is State.EXPIRED
    assert await world.run(overdue) is None
    await world.sweep.once()
    assert (await world.execution(overdue)).state is executions.State.EXPIRED
    assert world.ledger.calls == []


async def test_i14_a_restored_backup_does_not_repeat_what_was_done(world: World) -> None:
    """I14, I7: the row is as before the run, and so is the key: the system answers with the first result."""
    _, execution_id = await world.approved()
    before = await world.execution(execution_id)
    await world.run(execution_id)
    await world.change(
        executions.executions,
        executions.executions.c.id == execution_id,
        state=before.state,
        step=before.step,
        sending=before.sending,
        results=[],
        finished_at=None,
    )
    assert await world.run(execution_id) is executions.State.DONE
    assert len(world.ledger.effects) == 1


@pytest.mark.parametrize("ending", [executions.State.DONE, executions.State.FAILED, executions.State.UNKNOWN])
async def test_i14_a_redelivered_hint_finds_nothing_to_do(world: World, ending: executions.State) -> None:
    """I14: redelivery of what has ended."""
    _, execution_id = await world.approved("ledger.blind")
    if ending is executions.State.UNKNOWN:
        world.ledger.before.append(unreachable)
    elif ending is executions.State.FAILED:
        held = await world.database.write(lambda tx: executions.claim(tx, execution_id, lease=LEASE))
        assert held is not None
        await world.database.write(lambda tx: executions.finish(tx, held, ending, "No."))
    await world.run(execution_id)
    ended = await world.execution(execution_id)
    assert ended.state is ending
    world.let_pass(LEASE)
    for _ in range(3):
        assert await world.run(execution_id) is None
    assert await world.execution(execution_id) == ended


async def _only(world: World) -> approvals.Approval:
    identity = await world.database.read(lambda tx: tx.execute(approvals.approvals.select()).one().id)
    found = await world.database.read(lambda tx: approvals.find(tx, identity))
    assert found is not None
    return found


async def _order(world: World) -> executions.Execution:
    execution = await world.execution_of(await _only(world))
    assert execution is not None
    return execution


async def _press(world: World, who: str, decision: VoteDecision) -> None:
    await world.click(await _only(world), who, decision)


async def _rows(world: World) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that is stored about requests."""

    def read(tx: Transaction) -> dict[str, list[tuple[Any, ...]]]:
        tables = (approvals.approvals, approvals.votes, executions.executions, audit.audit, audit.audit_head)
        return {table.name: [tuple(row) for row in tx.execute(table.select()).all()] for table in tables}

    return await world.database.read(read)
