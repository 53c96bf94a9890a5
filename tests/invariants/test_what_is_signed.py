"""I4 to I6 and I8: one digest from card to execution, in time, decided once, and nothing without a decision."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from actions import executions, plans
from actions.execute import MAX_ATTEMPTS
from actions.executions import START_WITHIN
from actions.origins import ArgumentOrigin, Source
from actions.plans import PlannedCall, StoredPlan
from actions.signing import SignResult
from handlers import deliveries
from handlers.deliveries import DeliveryKind, Nonces
from handlers.turn import Place
from policies import approvals
from policies.approvals import Approval, State, VoteDecision
from records import outbox
from records.database import Transaction
from tests.invariants.approval_world import LEASE, LIFETIME, RULES, World, unreachable

SECOND = timedelta(seconds=1)


async def test_i04_card_vote_order_execution_and_audit_name_one_digest(world: World) -> None:
    """I4: the digest is the same in card, vote, execution and audit."""
    nonces = Nonces(b"k" * 32)

    def card(tx: Transaction, plan: StoredPlan, approval: Approval | None) -> None:
        place = Place("slack", "T1", "C1")
        deliveries.add(tx, nonces, plan_id=plan.id, digest=plan.digest, kind=DeliveryKind.CARD, place=place)

    approval = await world.ask_for_signatures(also=card)
    outcome = await world.click(approval, "amir")
    assert outcome.execution_id is not None
    await world.run(outcome.execution_id)

    stored = await world.plan(approval)
    digest = hashlib.sha256(stored.canonical).hexdigest()
    buttons = await world.database.read(lambda tx: tx.execute(deliveries.card_buttons.select()).all())
    votes = await world.database.read(lambda tx: tx.execute(approvals.votes.select()).all())
    assert {button.digest for button in buttons} == {digest}
    assert [vote.digest for vote in votes] == [digest]
    assert (await world.execution(outcome.execution_id)).digest == digest
    named: dict[str, set[str]] = {}
    for entry in await world.audited(approval.id, outcome.execution_id):
        details = entry["details"]
        named.setdefault(entry["kind"], set()).add(details.get("digest") or details.get("displayed_digest"))
    assert set(named) >= {
        "approval.requested", "approval.signed", "execution.ordered", "execution.sending", "execution.done",
    }  # fmt: skip
    assert set.union(*named.values()) == {digest}


def test_i04_every_part_of_a_plan_is_in_its_digest() -> None:
    """I4: the plan's bytes name action version, connector, target and its version, rules, tenant, requester."""
    typed, quoted = ArgumentOrigin(Source.TYPED), ArgumentOrigin(Source.THREAD, ("m1",))
    call = PlannedCall("ledger.pay", 1, "ledger", {"record": "A"}, "A", "1", {"record": typed})
    plan = plans.Plan("default", "rosa", "rules-1", (call,))
    changes: list[dict[str, Any]] = [
        {"action": "ledger.note"}, {"action_version": 2}, {"connector": "other"}, {"arguments": {}},
        {"target": "B"}, {"target_version": "2"}, {"target": None}, {"target_version": None},
        {"origins": {"record": quoted}}, {"origins": {"record": replace(quoted, messages=("m2",))}}, {"origins": {}},
    ]  # fmt: skip
    others = [
        replace(plan, tenant="other"),
        replace(plan, requester="amir"),
        replace(plan, policy_digest="rules-2"),
        replace(plan, calls=(call, call)),
        *(replace(plan, calls=(replace(call, **change),)) for change in changes),
    ]
    digests = {plans.digest(each.canonical()) for each in (plan, *others)}
    assert len(digests) == len(others) + 1
    assert plans.Plan.parse(plan.canonical()) == plan


async def test_i04_a_plan_stored_by_an_earlier_version_is_what_is_signed_and_runs(world: World) -> None:
    """I4: bytes of format 1, which knew no origins, stay the plan that they were."""
    asked = await world.ask_for_signatures()
    stored = await world.plan(asked)
    value = json.loads(stored.canonical)
    value["format"] = 1
    for call in value["calls"]:
        del call["origins"]
    earlier = rfc8785.dumps(value)
    digest = hashlib.sha256(earlier).hexdigest()
    await world.change(plans.plans, plans.plans.c.id == stored.id, canonical=earlier, digest=digest)
    await world.change(approvals.approvals, approvals.approvals.c.id == asked.id, digest=digest)
    approval = await world.approval(asked)
    assert plans.Plan.parse(earlier).canonical() == earlier
    outcome = await world.click(approval, "amir")
    assert outcome.execution_id is not None
    assert await world.run(outcome.execution_id) is executions.State.DONE
    assert len(world.ledger.effects) == 1


async def test_i04_a_click_on_a_card_that_showed_something_else_is_refused(world: World) -> None:
    """I4: a vote names what was displayed; another digest is no vote."""
    approval = await world.ask_for_signatures()
    outcome = await world.click(approval, "amir", digest="0" * 64)
    assert outcome.result is SignResult.NOT_ENTITLED
    with pytest.raises(approvals.SignatureRefused) as refused:
        await world.database.write(
            lambda tx: approvals.sign(
                tx, approval.id, _signature("amir", "0" * 64), entitled=lambda person: frozenset({"approvers"})
            )
        )
    assert refused.value.why == "other_digest"
    assert (await world.approval(approval)).votes == ()
    assert await world.execution_of(approval) is None


async def test_i04_changed_plan_bytes_do_not_run(world: World) -> None:
    """I4: the stored bytes must be those of the digest, the digest that of the order, and that the one signed."""
    approval, execution_id = await world.approved(record="A")
    stored = await world.plan(approval)
    forged = stored.canonical.replace(b'"please"', b'"steal!"')
    assert forged != stored.canonical
    ours = plans.plans.c.id == stored.id
    await world.change(plans.plans, ours, canonical=forged)
    assert await world.run(execution_id) is executions.State.FAILED

    approval, execution_id = await world.approved(record="B")
    stored = await world.plan(approval)
    forged = stored.canonical.replace(b'"please"', b'"steal!"')
    ours = plans.plans.c.id == stored.id
    await world.change(plans.plans, ours, canonical=forged, digest=plans.digest(forged))
    assert await world.run(execution_id) is executions.State.FAILED

    approval, execution_id = await world.approved(record="C")
    stored = await world.plan(approval)
    forged = stored.canonical.replace(b'"please"', b'"steal!"')
    digest = plans.digest(forged)
    await world.change(plans.plans, plans.plans.c.id == stored.id, canonical=forged, digest=digest)
    await world.change(executions.executions, executions.executions.c.id == execution_id, digest=digest)
    assert await world.run(execution_id) is executions.State.CANCELLED
    assert world.ledger.calls == []


async def test_i04_a_new_version_of_the_action_is_another_plan(world: World) -> None:
    """I4: action versions."""
    approval, execution_id = await world.approved()
    world.ledger.version = 2
    world.redeploy()
    assert await world.run(execution_id) is executions.State.STALE
    assert world.ledger.calls == []
    assert (await world.approval(approval)).state is State.STALE
    assert (await world.ask_for_signatures(record="R1")).digest != approval.digest


async def test_i04_another_connector_under_the_same_action_name_is_another_plan(world: World) -> None:
    """I4: connector."""
    _, execution_id = await world.approved()
    world.ledger.name = "impostor"
    world.redeploy()
    assert await world.run(execution_id) is executions.State.STALE
    assert world.ledger.calls == []


async def test_i04_an_action_that_left_the_catalogue_does_not_run(world: World) -> None:
    """No entry, no run."""
    _, execution_id = await world.approved()
    world.ledger.lost.add("ledger.idempotent_key")
    world.redeploy()
    assert await world.run(execution_id) is executions.State.STALE
    assert world.ledger.calls == []


async def test_i04_a_target_that_changed_since_it_was_shown_is_not_acted_on(world: World) -> None:
    """I4: resource version."""
    approval, execution_id = await world.approved(record="A")
    world.ledger.versions["A"] = 2
    assert await world.run(execution_id) is executions.State.STALE
    assert world.ledger.calls == []
    assert (await world.approval(approval)).state is State.STALE


async def test_i04_a_target_that_changes_between_the_check_and_the_call_is_not_acted_on(world: World) -> None:
    """I4: the version goes along with the call, for the system itself to refuse."""
    approval, execution_id = await world.approved(record="A")
    world.ledger.before.append(lambda: world.ledger.versions.update(A=2))
    assert await world.run(execution_id) is executions.State.STALE
    assert world.ledger.effects == []
    assert (await world.approval(approval)).state is State.STALE


async def test_i04_other_rules_void_open_cards_and_orders(world: World, tmp_path: Path) -> None:
    """I4: policy-set digest; old cards are void and say so."""
    waiting = await world.ask_for_signatures()
    ordered, execution_id = await world.approved()
    folder = tmp_path / "rules"
    folder.mkdir()
    for path in RULES.iterdir():
        (folder / path.name).write_text(path.read_text() + "\n// another edition\n")
    world.use_rules(folder)
    assert (await world.click(waiting, "amir")).result is SignResult.STALE
    assert (await world.click(waiting, "noor")).result is SignResult.STALE
    assert (await world.approval(waiting)).votes == ()
    assert await world.run(execution_id) is executions.State.STALE
    assert (await world.approval(ordered)).state is State.STALE
    assert world.ledger.calls == []


async def test_i04_a_plan_of_another_organisation_does_not_run_here(world: World) -> None:
    """I4: tenant, also for a plan that needed no signature."""
    submission = await world.ask("ledger.note")
    assert submission.plan is not None
    assert submission.execution_id is not None
    foreign = submission.plan.canonical.replace(b'"tenant":"default"', b'"tenant":"another"')
    assert foreign != submission.plan.canonical
    digest = plans.digest(foreign)
    await world.change(plans.plans, plans.plans.c.id == submission.plan.id, canonical=foreign, digest=digest)
    ours = executions.executions.c.id == submission.execution_id
    await world.change(executions.executions, ours, digest=digest, tenant="another")
    assert await world.run(submission.execution_id) is executions.State.STALE
    assert world.ledger.calls == []


async def test_i04_the_same_request_again_finds_its_plan_and_asks_nobody_twice(world: World) -> None:
    """A platform's retry of the request is the same request."""
    first = await world.ask(request_id="same", record="A")
    again = await world.ask(request_id="same", record="A")
    assert first.approval is not None
    assert again.approval is not None
    assert (again.approval.id, again.approval.digest) == (first.approval.id, first.approval.digest)
    assert await world.count(approvals.approvals) == 1
    assert [e["kind"] for e in await world.audited(first.approval.id)] == ["approval.requested"]


async def test_i05_a_vote_is_taken_only_before_expiry_by_the_databases_clock(world: World) -> None:
    """I5: a vote is taken only before expiry; the clock is the database's."""
    early, late = await world.ask_for_signatures(), await world.ask_for_signatures()
    world.let_pass(LIFETIME - 5 * SECOND)
    assert (await world.click(early, "amir")).result is SignResult.APPROVED
    world.let_pass(6 * SECOND)
    assert (await world.click(late, "amir")).result is SignResult.EXPIRED
    assert (await world.approval(late)).votes == ()
    assert await world.execution_of(late) is None


async def test_i05_the_vote_itself_refuses_a_late_click(world: World) -> None:
    """I5, at the arbiter: whatever was decided before it, the conditional update does not match an expired row."""
    approval = await world.ask_for_signatures()
    world.let_pass(LIFETIME)
    with pytest.raises(approvals.SignatureRefused) as refused:
        await world.database.write(
            lambda tx: approvals.sign(
                tx, approval.id, _signature("amir", approval.digest), entitled=lambda person: frozenset({"approvers"})
            )
        )
    assert refused.value.why == "expired"
    assert (await world.approval(approval)).votes == ()


async def test_i05_an_execution_starts_only_before_its_deadline(world: World) -> None:
    """I5: an execution starts only before its own deadline."""
    _, execution_id = await world.approved()
    world.let_pass(START_WITHIN)
    assert await world.run(execution_id) is None
    await world.sweep.once()
    assert (await world.execution(execution_id)).state is executions.State.EXPIRED
    assert await world.run(execution_id) is None
    assert world.ledger.calls == []


async def test_i05_a_run_that_died_before_sending_is_not_taken_up_after_the_deadline(world: World) -> None:
    """I5: nothing was sent, so taking it up again would be a start; after the deadline it is closed instead."""
    _, execution_id = await world.approved()
    await world.database.write(lambda tx: executions.claim(tx, execution_id, lease=LEASE))
    world.let_pass(START_WITHIN)
    assert await world.run(execution_id) is None
    await world.sweep.once()
    ended = await world.execution(execution_id)
    assert ended.state is executions.State.EXPIRED
    assert world.ledger.calls == []
    assert await world.count(outbox.outbox) == 1, "only the card is still due"


async def test_i05_a_call_that_may_have_been_sent_is_brought_to_an_end_after_the_deadline(world: World) -> None:
    """I5 is about starting: what was begun in time is not left hanging when the system was away for long."""
    _, execution_id = await world.approved("ledger.check_then_act")
    world.ledger.after.append(unreachable)
    assert await world.run(execution_id) is executions.State.READY
    world.let_pass(START_WITHIN)
    await world.sweep.once()
    assert (await world.execution(execution_id)).state is executions.State.READY
    assert await world.run(execution_id) is executions.State.DONE
    assert len(world.ledger.effects) == 1


async def test_i06_a_denial_wins_over_an_approval_while_nothing_started(world: World) -> None:
    """I6: a denial wins over a concurrent approval."""
    approval, execution_id = await world.approved()
    outcome = await world.click(approval, "noor", VoteDecision.DENY)
    assert outcome.result is SignResult.DENIED
    assert (await world.approval(approval)).state is State.DENIED
    assert (await world.execution(execution_id)).state is executions.State.CANCELLED
    assert await world.run(execution_id) is None
    assert world.ledger.calls == []


async def test_i06_racing_clicks_end_in_a_denial_whoever_comes_first(world: World) -> None:
    """I6: both clicks at once, in whatever order the database takes them."""
    for _ in range(8):
        approval = await world.ask_for_signatures()
        clicks = await asyncio.gather(world.click(approval, "amir"), world.click(approval, "noor", VoteDecision.DENY))
        assert clicks[1].result is SignResult.DENIED
        assert (await world.approval(approval)).state is State.DENIED
        execution = await world.execution_of(approval)
        assert execution is None or execution.state is executions.State.CANCELLED
        if execution is not None:
            assert await world.run(execution.id) is None
    assert world.ledger.calls == []


async def test_i06_a_denial_after_the_start_comes_too_late_and_is_told_so(world: World) -> None:
    """I6: once begun, the approval stands; the click gets that answer."""
    approval, execution_id = await world.approved()
    await world.crash_at(execution_id, "after_intent")
    assert (await world.click(approval, "noor", VoteDecision.DENY)).result is SignResult.DECIDED
    assert await world.run(execution_id) is executions.State.DONE
    assert len(world.ledger.effects) == 1


async def test_i06_a_denial_between_two_tries_comes_too_late(world: World) -> None:
    """I6: a call may be out there, so what happens to it is no longer a person's to stop."""
    approval, execution_id = await world.approved()
    world.ledger.after.append(unreachable)
    assert await world.run(execution_id) is executions.State.READY
    assert (await world.click(approval, "noor", VoteDecision.DENY)).result is SignResult.DECIDED
    assert (await world.execution(execution_id)).state is executions.State.READY


@pytest.mark.parametrize("ending", ["denied", "expired", "cancelled", "stale"])
async def test_i06_terminal_states_absorb(world: World, ending: str) -> None:
    """I6: no transition leaves a final state, nor writes to it."""
    approval = await world.ask_for_signatures()
    match ending:
        case "denied":
            await world.click(approval, "amir", VoteDecision.DENY)
        case "expired":
            world.let_pass(LIFETIME)
            await world.sweep.once()
        case "cancelled":
            assert await world.road.cancel(approval.id, actor="rosa")
        case "stale":
            await world.database.write(lambda tx: approvals.mark_stale(tx, approval.id, why="changed"))
    closed = await world.approval(approval)
    assert closed.state == ending
    entries = len(await world.audited(approval.id))
    for decision in VoteDecision:
        outcome = await world.click(approval, "noor", decision)
        assert outcome.result.value in ("decided", "expired", "stale")
    assert not await world.road.cancel(approval.id, actor="rosa")
    assert await world.database.write(lambda tx: approvals.mark_stale(tx, approval.id, why="again")) is None
    await world.sweep.once()
    with pytest.raises(approvals.SignatureRefused):
        await world.database.write(
            lambda tx: approvals.sign(
                tx, approval.id, _signature("noor", approval.digest), entitled=lambda person: frozenset({"approvers"})
            )
        )
    with pytest.raises(approvals.SignatureRefused):
        await world.database.write(
            lambda tx: approvals.withdraw(tx, approval.id, _signature("noor", approval.digest, VoteDecision.DENY))
        )
    assert await world.approval(approval) == closed
    assert len(await world.audited(approval.id)) == entries
    assert await world.execution_of(approval) is None


async def test_i06_silence_is_not_a_denial(world: World) -> None:
    """Nobody's silence is reported as a decision: an expired request names nobody who decided."""
    approval = await world.ask_for_signatures()
    world.let_pass(LIFETIME)
    await world.sweep.once()
    closed = await world.approval(approval)
    assert (closed.state, closed.decided_by) == (State.EXPIRED, None)


async def test_i08_nothing_runs_without_a_committed_approval(world: World) -> None:
    """I8: no effect without a committed approval: an order that somebody wrote by hand is refused."""
    approval = await world.ask_for_signatures()
    stored = await world.plan(approval)
    identity = await world.database.write(
        lambda tx: executions.order(
            tx, plan=stored, tenant="default", requester=approval.requester, approval_id=approval.id
        )
    )
    assert await world.run(identity) is executions.State.CANCELLED
    assert world.ledger.calls == []


async def test_i08_an_order_that_names_no_approval_is_judged_by_the_rules_alone(world: World) -> None:
    """I8: leaving the approval out does not make a risky plan one that the rules allowed."""
    approval = await world.ask_for_signatures()
    stored = await world.plan(approval)
    identity = await world.database.write(
        lambda tx: executions.order(tx, plan=stored, tenant="default", requester="rosa", approval_id=None)
    )
    assert await world.run(identity) is executions.State.STALE
    assert world.ledger.calls == []


async def test_i08_what_the_rules_allow_runs_at_once_and_the_rules_are_recorded(world: World) -> None:
    """I8: or a rule that allowed it, recorded."""
    submission = await world.ask("ledger.note")
    assert submission.execution_id is not None
    assert submission.approval is None
    assert await world.run(submission.execution_id) is executions.State.DONE
    allowed = next(e for e in await world.audited(submission.execution_id) if e["kind"] == "plan.allowed")
    assert allowed["details"]["rules"] == ["visible-to-others"]
    assert len(world.ledger.effects) == 1


async def test_i08_a_refused_plan_leaves_no_order_and_is_recorded(world: World) -> None:
    """I8: a no is a no, with its rules in the audit log."""
    world.change_person("rosa", roles=[])
    submission = await world.ask(request_id="refused")
    assert submission.plan is None
    assert await world.count(executions.executions) == 0
    (entry,) = await world.audited("refused")
    assert entry["kind"] == "plan.refused"
    assert entry["details"]["rules"] == ["no-rule-allows"]


async def test_a_system_that_stays_away_before_anything_was_sent_is_reported_as_not_done(world: World) -> None:
    """Unreachable before the first call means that nothing happened, and that is what people are told."""
    _, execution_id = await world.approved()
    state: executions.State | None = executions.State.READY
    world.ledger.reading.extend([unreachable] * MAX_ATTEMPTS)
    for _ in range(MAX_ATTEMPTS):
        state = await world.run(execution_id)
        world.let_pass(timedelta(minutes=3))
    assert state is executions.State.FAILED
    assert "Nothing was done" in str((await world.execution(execution_id)).message)
    assert world.ledger.calls == []


def _signature(person: str, digest: str, decision: VoteDecision = VoteDecision.APPROVE) -> approvals.Signature:
    return approvals.Signature(person, decision, ("approvers",), ("employee",), digest, "slack")
