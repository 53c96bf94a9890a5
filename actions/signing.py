"""What a click on an approval card does, within one transaction.

Invariant: the vote, the state it leads to, the order to execute and the audit entry commit together or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from actions import executions, plans
from actions.judgement import Judgement
from policies import approvals, audit
from policies.approvals import Approval, Signature, SignatureRefused, VoteDecision
from policies.people import Person
from records import trace
from records.database import Transaction


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the platform vouches for about whoever asks or clicks."""

    person: Person | None
    """None for somebody the people file does not know."""
    account: str
    """The account used, `surface:tenant/user`."""
    surface: str
    is_guest: bool
    is_bot: bool
    is_external: bool
    place_internal: bool


class SignResult(StrEnum):
    """What became of a click on a card."""

    SIGNED = "signed"
    """Recorded; more signatures are needed."""
    APPROVED = "approved"
    DENIED = "denied"
    TAKEN_BACK = "taken_back"
    """The requester withdrew the request."""
    NOT_ENTITLED = "not_entitled"
    """Not yours; nothing changed and the card stays live."""
    ALREADY_SIGNED = "already_signed"
    DECIDED = "decided"
    EXPIRED = "expired"
    STALE = "stale"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SignOutcome:
    """The result of a click, and the approval as it stands after it."""

    result: SignResult
    approval: Approval | None
    reason: str = ""
    """The rule's sentence when the click did not count."""
    execution_id: str | None = None


def take_click(
    tx: Transaction,
    judgement: Judgement,
    approval_id: str,
    *,
    clicker: Envelope,
    decision: VoteDecision,
    displayed_digest: str,
    reason: str,
) -> SignOutcome:
    """Judge a click and record it; the vote that completes an approval orders its execution in this transaction.

    Raises SignatureRefused when another click came first.
    """
    approval = approvals.find(tx, approval_id)
    if approval is None:
        return SignOutcome(SignResult.UNKNOWN, None)
    stored = plans.find(tx, approval.plan_id)
    assert stored is not None
    open_states = (approvals.State.PENDING, approvals.State.APPROVED)
    if approval.state == approvals.State.PENDING and approval.policy_digest != judgement.policy_digest:
        stale = approvals.mark_stale(tx, approval_id, why="The rules have changed since this was shown.")
        plans.touch(tx, approval.plan_id)
        return SignOutcome(SignResult.STALE, stale or approval)
    if approval.state not in open_states:
        return SignOutcome(_CLOSED.get(approval.state, SignResult.DECIDED), approval)
    verdict = judgement.may_sign(
        approval,
        clicker.person,
        decision=decision,
        displayed_digest=displayed_digest,
        expired=approval.state == approvals.State.PENDING and approval.expires_at <= tx.now,
        is_guest=clicker.is_guest,
        is_bot=clicker.is_bot,
        is_external=clicker.is_external,
        place_internal=clicker.place_internal,
    )
    if not verdict.allowed or clicker.person is None:
        audit.append(
            tx,
            kind="approval.refused",
            tenant=approval.tenant,
            actor=clicker.person.id if clicker.person else clicker.account,
            subject=approval_id,
            details={
                "decision": decision,
                "rules": list(verdict.rule_ids),
                "displayed_digest": displayed_digest,
                "policy": verdict.policy_digest,
                "surface": clicker.surface,
            },
        )
        trace.note(tx, stored.request_id, "refused", f"A click did not count: {', '.join(verdict.rule_ids)}")
        expired = approval.state == approvals.State.PENDING and approval.expires_at <= tx.now
        if approval.state == approvals.State.APPROVED:
            return SignOutcome(SignResult.DECIDED, approval)
        return SignOutcome(SignResult.EXPIRED if expired else SignResult.NOT_ENTITLED, approval, reason=verdict.reason)
    signature = Signature(
        person=clicker.person.id,
        decision=decision,
        groups=verdict.groups,
        roles=tuple(sorted(clicker.person.roles)),
        displayed_digest=displayed_digest,
        surface=clicker.surface,
        reason=reason,
    )
    if approval.state == approvals.State.APPROVED:
        if decision != VoteDecision.DENY or not executions.stop_unstarted(tx, approval_id):
            return SignOutcome(SignResult.DECIDED, approval)
        after = approvals.withdraw(tx, approval_id, signature)
    else:
        after = approvals.sign(tx, approval_id, signature, entitled=lambda person: judgement.entitled(approval, person))
    execution_id = None
    if after.state == approvals.State.APPROVED:
        execution_id = executions.order(
            tx, plan=stored, tenant=approval.tenant, requester=approval.requester, approval_id=approval_id
        )
    plans.touch(tx, approval.plan_id)
    trace.note(
        tx,
        stored.request_id,
        "signed",
        f"{clicker.person.name} {'denied' if decision == VoteDecision.DENY else 'approved'} on {clicker.surface}",
        approval_id=approval_id,
        execution_id=execution_id,
    )
    return SignOutcome(_RESULTS[after.state], after, execution_id=execution_id)


def refusal(refused: SignatureRefused) -> SignOutcome:
    """The outcome of a click that another one overtook."""
    return SignOutcome(_REFUSALS[refused.why], refused.approval)


_REFUSALS = {
    "unknown": SignResult.UNKNOWN,
    "decided": SignResult.DECIDED,
    "expired": SignResult.EXPIRED,
    "other_digest": SignResult.STALE,
    "already_signed": SignResult.ALREADY_SIGNED,
}
_CLOSED = {approvals.State.EXPIRED: SignResult.EXPIRED, approvals.State.STALE: SignResult.STALE}
_RESULTS = {
    approvals.State.PENDING: SignResult.SIGNED,
    approvals.State.APPROVED: SignResult.APPROVED,
    approvals.State.DENIED: SignResult.DENIED,
}
