"""The one road to an effect: plan → rules → (approval) → execution order.

Invariant: an execution row is written only here, in the transaction that allows or approves its plan, with the audit
entry beside it. Nothing else in the product can order one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog

from actions import executions, plans, signing
from actions.catalogue import (
    ActionClass,
    ActionSpec,
    ArgumentsInvalid,
    Catalogue,
    Connector,
    Refused,
    Target,
    UnknownAction,
    Unreachable,
)
from actions.hints import Hints
from actions.judgement import Judgement
from actions.origins import filled_by_assistant, origins_of
from actions.plans import About, Plan, PlannedCall, StoredPlan
from actions.signing import Envelope, SignOutcome
from inference.model import Origin
from policies import approvals, audit
from policies.approvals import Approval, SignatureRefused, VoteDecision
from policies.people import Person
from policies.rules import Decision, Outcome
from records import trace
from records.database import Database, Transaction

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WantedCall:
    """One action call as it was asked for, not yet checked."""

    action: str
    arguments: Mapping[str, Any]
    origins: Mapping[str, Origin] = field(default_factory=dict)
    """Where each argument's value comes from, by name; one that is missing counts as the model's."""


class CannotPlan(Exception):
    """What was asked for cannot be planned; the message is for the person: why, and what to do."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of a plan."""

    decision: Decision
    plan: StoredPlan | None
    """None when the rules said no."""
    approval: Approval | None = None
    execution_id: str | None = None


Also = Callable[[Transaction, StoredPlan, Approval | None], None]
"""Written in the same transaction as the plan; the dialog records where its card will be."""


def nothing_else(tx: Transaction, plan: StoredPlan, approval: Approval | None) -> None:
    """An `Also` that writes nothing."""


class Road:
    """Where plans are proposed and signed.

    submission = await road.submit([WantedCall("ticketing.close", {"ticket": "TCK-1"})], asker=..., ...)
    outcome = await road.sign(approval_id, clicker=..., decision=VoteDecision.APPROVE, displayed_digest=...)
    """

    def __init__(
        self, database: Database, catalogue: Catalogue, judgement: Judgement, hints: Hints, *, lifetime: timedelta
    ) -> None:
        """`lifetime` is how long a card may be signed."""
        self._database = database
        self._catalogue = catalogue
        self._judgement = judgement
        self._hints = hints
        self._lifetime = lifetime

    async def submit(
        self,
        wanted: Sequence[WantedCall],
        *,
        asker: Envelope,
        request_id: str,
        reason: str,
        also: Also = nothing_else,
    ) -> Submission:
        """Propose a plan. The same request id again finds the plan it made before.

        Raises CannotPlan when an argument, a record or a system stands in the way.
        """
        planned = [await self._plan_call(call, asker) for call in wanted]
        tenant = self._judgement.tenant
        decision = self._decide([call.action for call, _, _ in planned], asker)
        if decision.outcome is Outcome.DENY or asker.person is None:
            await self._database.write(lambda tx: self._record_denial(tx, request_id, asker, decision, planned))
            return Submission(decision, None)
        plan = Plan(tenant, asker.person.id, decision.policy_digest, tuple(call for call, _, _ in planned))
        about = _about(planned, reason, asker.person)
        person = asker.person

        def propose(tx: Transaction) -> Submission:
            plan_id = hashlib.sha256(f"plan|{request_id}".encode()).hexdigest()[:32]
            made = plans.store(tx, plan_id=plan_id, request_id=request_id, canonical=plan.canonical(), about=about)
            stored = plans.find(tx, plan_id)
            assert stored is not None
            if not made:
                execution = executions.of_plan(tx, plan_id)
                return Submission(decision, stored, approvals.of_plan(tx, plan_id), execution.id if execution else None)
            trace.note(tx, request_id, "planned", f"{'; '.join(about.steps)} · digest {stored.digest[:12]}")
            if decision.outcome is Outcome.ALLOW:
                identity = executions.order(tx, plan=stored, tenant=tenant, requester=person.id, approval_id=None)
                self._record_allowed(tx, request_id, person, decision, stored, identity)
                also(tx, stored, None)
                plans.touch(tx, plan_id)
                return Submission(decision, stored, None, identity)
            approval = self._ask_for_signatures(tx, person, decision, stored)
            trace.note(
                tx,
                request_id,
                "decided",
                f"Needs {_needs(approval)} by {', '.join(decision.rule_ids)}",
                approval_id=approval.id,
            )
            also(tx, stored, approval)
            plans.touch(tx, plan_id)
            return Submission(decision, stored, approval)

        submission = await self._database.write(propose)
        await self._wake(submission.execution_id)
        return submission

    async def sign(
        self,
        approval_id: str,
        *,
        clicker: Envelope,
        decision: VoteDecision,
        displayed_digest: str,
        reason: str = "",
    ) -> SignOutcome:
        """Take a click. Exactly one of racing clicks decides; every click gets an outcome."""

        def take(tx: Transaction) -> SignOutcome:
            return signing.take_click(
                tx,
                self._judgement,
                approval_id,
                clicker=clicker,
                decision=decision,
                displayed_digest=displayed_digest,
                reason=reason,
            )

        try:
            try:
                outcome = await self._database.write(take)
            except SignatureRefused as refused:
                overtaken = refused.approval is not None and refused.approval.state == approvals.State.APPROVED
                if decision != VoteDecision.DENY or not overtaken:
                    raise
                # It was approved after we looked and before we voted: the denial has yet to be held against that.
                outcome = await self._database.write(take)
        except SignatureRefused as refused:
            return signing.refusal(refused)
        await self._wake(outcome.execution_id)
        return outcome

    async def read(self, action: str, arguments: Mapping[str, Any], *, asker: Envelope) -> Sequence[Target]:
        """Look something up, if the rules let this person. Raises CannotPlan."""
        try:
            spec, connector = self._catalogue.find(action)
            checked = self._catalogue.check_arguments(action, _filled_in(spec, arguments, asker))
        except (UnknownAction, ArgumentsInvalid) as error:
            raise CannotPlan(f"I can't look that up: {error}.") from error
        decision = self._decide([action], asker)
        if spec.action_class is not ActionClass.READ or not decision.allowed:
            raise CannotPlan(f"I may not look that up: {' '.join(decision.reasons)}")
        try:
            async with asyncio.timeout(spec.timeout.total_seconds()):
                return await connector.read(action, checked)
        except (Refused, Unreachable, TimeoutError) as error:
            raise CannotPlan(
                f"{error or 'The system did not answer in time.'} Please try again in a minute."
            ) from error

    async def cancel(self, approval_id: str, *, actor: str) -> bool:
        """Take a pending request back; False when it is no longer pending."""

        def work(tx: Transaction) -> bool:
            cancelled = approvals.cancel(tx, approval_id, actor=actor)
            if cancelled is not None:
                plans.touch(tx, cancelled.plan_id)
            return cancelled is not None

        return await self._database.write(work)

    def _decide(self, actions: Sequence[str], asker: Envelope) -> Decision:
        return self._judgement.decide(
            actions,
            tenant=self._judgement.tenant,
            requester=asker.person,
            is_guest=asker.is_guest,
            is_bot=asker.is_bot,
            is_external=asker.is_external,
            place_internal=asker.place_internal,
        )

    async def _wake(self, execution_id: str | None) -> None:
        if execution_id is not None and not await asyncio.to_thread(self._hints.send, execution_id):
            logger.warning("hint_not_sent", execution_id=execution_id)

    async def _plan_call(self, call: WantedCall, asker: Envelope) -> tuple[PlannedCall, ActionSpec, Target | None]:
        try:
            spec, connector = self._catalogue.find(call.action)
            arguments = self._catalogue.check_arguments(call.action, _filled_in(spec, call.arguments, asker))
        except UnknownAction as error:
            raise CannotPlan(f"I can't do that: {error}.") from error
        except ArgumentsInvalid as error:
            raise CannotPlan(f"I could not use what you gave me ({error}). Nothing was done.") from error
        target = await self._read_target(spec, connector, arguments)
        planned = PlannedCall(
            action=spec.name,
            action_version=spec.version,
            connector=connector.name,
            arguments=arguments,
            target=target.id if target else None,
            target_version=target.version if target else None,
            origins=origins_of(spec, call.arguments, call.origins, arguments),
        )
        return planned, spec, target

    async def _read_target(self, spec: ActionSpec, connector: Connector, arguments: Mapping[str, Any]) -> Target | None:
        if spec.target_argument is None:
            return None
        try:
            async with asyncio.timeout(spec.timeout.total_seconds()):
                return await connector.read_target(spec.name, str(arguments[spec.target_argument]))
        except Refused as error:
            raise CannotPlan(f"{error} Nothing was done.") from error
        except (Unreachable, TimeoutError) as error:
            raise CannotPlan(
                f"{error or 'The system did not answer in time.'} Nothing was done; please try again in a minute."
            ) from error

    def _ask_for_signatures(
        self, tx: Transaction, requester: Person, decision: Decision, stored: StoredPlan
    ) -> Approval:
        return approvals.create(
            tx,
            approval_id=hashlib.sha256(f"approval|{stored.id}|{stored.digest}".encode()).hexdigest()[:32],
            tenant=self._judgement.tenant,
            plan_id=stored.id,
            digest=stored.digest,
            requester=requester.id,
            requester_identities=[str(identity) for identity in requester.identities],
            requirement={needed.group: needed.count for needed in decision.requirement},
            confirmation=decision.outcome is Outcome.NEEDS_CONFIRMATION,
            rule_ids=decision.rule_ids,
            reasons=decision.reasons,
            policy_digest=decision.policy_digest,
            lifetime=self._lifetime,
        )

    def _record_allowed(
        self,
        tx: Transaction,
        request_id: str,
        person: Person,
        decision: Decision,
        stored: StoredPlan,
        execution_id: str,
    ) -> None:
        audit.append(
            tx,
            kind="plan.allowed",
            tenant=self._judgement.tenant,
            actor=person.id,
            subject=execution_id,
            details={
                "digest": stored.digest,
                "rules": list(decision.rule_ids),
                "policy": decision.policy_digest,
                "plan": stored.id,
            },
        )
        trace.note(
            tx,
            request_id,
            "decided",
            f"Allowed at once by {', '.join(decision.rule_ids)}",
            execution_id=execution_id,
        )

    def _record_denial(
        self,
        tx: Transaction,
        request_id: str,
        asker: Envelope,
        decision: Decision,
        planned: Sequence[tuple[PlannedCall, ActionSpec, Target | None]],
    ) -> None:
        audit.append(
            tx,
            kind="plan.refused",
            tenant=self._judgement.tenant,
            actor=asker.person.id if asker.person else asker.account,
            subject=request_id,
            details={
                "actions": [call.action for call, _, _ in planned],
                "rules": list(decision.rule_ids),
                "policy": decision.policy_digest,
            },
        )
        trace.note(tx, request_id, "decided", f"Refused by {', '.join(decision.rule_ids)}")


_BY_RISK = tuple(ActionClass)
"""Classes are declared from the mildest to the gravest."""


def _filled_in(spec: ActionSpec, arguments: Mapping[str, Any], asker: Envelope) -> dict[str, Any]:
    """Arguments the assistant fills in itself (`x-filled-by: assistant`): never taken from words or a model."""
    return {
        **arguments,
        **dict.fromkeys(filled_by_assistant(spec), asker.person.id if asker.person else ""),
    }


def _about(planned: Sequence[tuple[PlannedCall, ActionSpec, Target | None]], reason: str, requester: Person) -> About:
    steps = tuple(
        f"{spec.title}: {target.id} ({target.title})" if target else f"{spec.title}: {_first_words(call)}"
        for call, spec, target in planned
    )
    first_target = next((target for _, _, target in planned if target), None)
    worst = max((spec for _, spec, _ in planned), key=lambda spec: _BY_RISK.index(spec.action_class))
    return About(
        title=planned[0][1].title if len(planned) == 1 else f"{len(planned)} actions",
        steps=steps,
        reason=reason,
        requester_name=requester.name,
        target_url=first_target.url if first_target else "",
        risk=f"{worst.action_class}, {worst.reversibility}",
    )


def _first_words(call: PlannedCall) -> str:
    return next((str(value) for value in call.arguments.values() if value), call.action)


def _needs(approval: Approval) -> str:
    if approval.confirmation:
        return "the requester's confirmation"
    return ", ".join(f"{count} from {group}" for group, count in sorted(approval.requirement.items()))
