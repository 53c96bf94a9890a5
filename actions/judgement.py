"""Asks the rules about plans and clicks, in the words the rules understand.

One place translates catalogue entries, plans and approvals into the facts of `policies`, so that proposing, signing
and executing cannot ask three different questions.
"""

from __future__ import annotations

from collections.abc import Iterable

from actions.catalogue import Catalogue, UnknownAction
from actions.plans import Plan
from policies.approvals import Approval, VoteDecision
from policies.facts import ActionFacts, ApprovalFacts, PlanRequest, Verb
from policies.people import Directory, Identity, Person
from policies.rules import Decision, Rules, SignDecision


class Judgement:
    """The rules, asked about our plans and approvals."""

    def __init__(self, rules: Rules, directory: Directory, catalogue: Catalogue, *, tenant: str) -> None:
        self.tenant = tenant
        """The organisation this installation serves; requests of any other are refused."""
        self._rules = rules
        self._directory = directory
        self._catalogue = catalogue

    @property
    def policy_digest(self) -> str:
        """Identifies the rule files in force."""
        return self._rules.digest

    def decide(
        self,
        actions: Iterable[str],
        *,
        tenant: str,
        requester: Person | None,
        is_guest: bool,
        is_bot: bool,
        is_external: bool,
        place_internal: bool,
    ) -> Decision:
        """What a plan of these actions needs. Raises UnknownAction."""
        return self._rules.decide(
            PlanRequest(
                tenant=tenant,
                requester=requester,
                is_guest=is_guest,
                is_bot=is_bot,
                is_external=is_external,
                place_internal=place_internal,
                actions=tuple(self._facts(name) for name in actions),
            )
        )

    def may_sign(
        self,
        approval: Approval,
        voter: Person | None,
        *,
        decision: VoteDecision,
        displayed_digest: str,
        expired: bool,
        is_guest: bool,
        is_bot: bool,
        is_external: bool,
        place_internal: bool,
    ) -> SignDecision:
        """Whether a click on this approval counts."""
        verb = Verb.DENY if decision == VoteDecision.DENY else Verb.APPROVE
        if approval.confirmation:
            # Whoever may confirm may also call it off: it is their own request.
            verb = Verb.CONFIRM
        return self._rules.may_sign(
            voter,
            verb=verb,
            is_guest=is_guest,
            is_bot=is_bot,
            is_external=is_external,
            place_internal=place_internal,
            approval=self._approval_facts(
                approval, digest_matches=displayed_digest == approval.digest, expired=expired
            ),
        )

    def entitled(self, approval: Approval, person_id: str) -> frozenset[str]:
        """The required groups a person counts for now; none when they may not sign any more."""
        decision = self._rules.may_sign(
            self._directory.person(person_id),
            verb=Verb.APPROVE,
            is_guest=False,
            is_bot=False,
            is_external=False,
            place_internal=True,
            approval=self._approval_facts(approval, digest_matches=True, expired=False),
        )
        return frozenset(decision.groups)

    def may_run(self, plan: Plan, approval: Approval | None) -> str | None:
        """Why a plan must not run now, in a sentence for people; None when it may.

        Asks the question of the proposal again, with the signatures that still stand.
        """
        if plan.tenant != self.tenant:
            return "This plan belongs to another organisation. Nothing was done."
        if plan.policy_digest != self._rules.digest:
            return "The rules have changed since this was shown. Nothing was done; ask again."
        try:
            facts = tuple(self._facts(call.action) for call in plan.calls)
        except UnknownAction:
            return "This action is no longer in the catalogue. Nothing was done."
        requester = self._directory.person(plan.requester)
        votes: dict[str, int] = {}
        confirmed = False
        if approval is not None:
            signed = [vote.person for vote in approval.votes if vote.decision == VoteDecision.APPROVE]
            votes = self._rules.standing_votes(
                signed, self._approval_facts(approval, digest_matches=True, expired=False)
            )
            confirmed = approval.confirmation and plan.requester in signed
        request = PlanRequest(
            tenant=plan.tenant,
            requester=requester,
            is_guest=False,
            is_bot=False,
            is_external=False,
            place_internal=True,
            actions=facts,
        )
        decision = self._rules.may_execute(request, votes, confirmed=confirmed)
        if decision.allowed:
            return None
        return f"The rules do not allow it any more: {' '.join(decision.reasons)} Nothing was done."

    def signers(self, approval: Approval) -> tuple[Person, ...]:
        """Everyone who could sign, by name."""
        if approval.confirmation:
            requester = self._directory.person(approval.requester)
            return (requester,) if requester else ()
        people = {
            person.id: person
            for group in approval.requirement
            for person in self._directory.members(group)
            if person.id != approval.requester
        }
        return tuple(sorted(people.values(), key=lambda person: person.name))

    def _facts(self, name: str) -> ActionFacts:
        spec, connector = self._catalogue.find(name)
        return ActionFacts(
            name=spec.name,
            action_class=spec.action_class,
            reversibility=spec.reversibility,
            connector=connector.name,
            tool_version=str(spec.version),
        )

    def _approval_facts(self, approval: Approval, *, digest_matches: bool, expired: bool) -> ApprovalFacts:
        return ApprovalFacts(
            requester_id=approval.requester,
            requester_identities=tuple(map(_identity, approval.requester_identities)),
            groups=tuple(sorted(approval.requirement)),
            digest_matches=digest_matches,
            expired=expired,
            same_tenant=approval.tenant == self.tenant,
        )


def _identity(written: str) -> Identity:
    surface, _, account = written.partition(":")
    tenant, _, user = account.partition("/")
    return Identity(surface, tenant, user)
