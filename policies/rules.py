"""The answers of the rules: may this plan run, whose signatures does it need, does this click count, may this be sent
to that model.

Everything that is not a clean yes is a no: a rule that errors, a missing fact, a group in which nobody may sign.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

import structlog

from policies.facts import (
    ActionFacts,
    ApprovalFacts,
    ModelRequest,
    PlanRequest,
    SignRequest,
    Verb,
    model_question,
    run_question,
    sign_question,
)
from policies.people import Directory, Person
from policies.ruleset import Effect, Rule, RulesError, RuleSet

__all__ = [
    "ActionFacts",
    "ApprovalFacts",
    "Decision",
    "GroupRequirement",
    "ModelDecision",
    "ModelRequest",
    "Outcome",
    "PlanRequest",
    "Rules",
    "RulesError",
    "SignDecision",
    "Verb",
]

log = structlog.get_logger(__name__)

NO_VOTES: Mapping[str, int] = MappingProxyType({})

ENGINE = ("engine", "The rules could not be evaluated, so the answer is no.")
NO_RULE_ALLOWS = ("no-rule-allows", "No rule allows this.")
NOBODY_MAY_SIGN = "nobody-may-sign"


class Outcome(StrEnum):
    """What the rules say to a plan, from the mildest to the strictest."""

    ALLOW = "allow"
    NEEDS_CONFIRMATION = "needs_confirmation"
    """The requester clicks their own card. Not an approval: nobody else has agreed to anything."""
    NEEDS_APPROVAL = "needs_approval"
    DENY = "deny"


_STRICTNESS = {outcome: rank for rank, outcome in enumerate(Outcome)}


@dataclass(frozen=True, slots=True, order=True)
class GroupRequirement:
    """Signatures of `count` distinct people of a group, none of them the requester."""

    group: str
    count: int


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a plan."""

    outcome: Outcome
    requirement: tuple[GroupRequirement, ...]
    """All signatures the plan needs in all, by group; empty unless the outcome is `needs_approval`."""
    rule_ids: tuple[str, ...]
    """The rules that made the outcome. Beside those of the files: `engine` (could not be evaluated),
    `no-rule-allows`, and `nobody-may-sign` (too few people are left to sign)."""
    reasons: tuple[str, ...]
    """One sentence for people per rule id, in the same order."""
    policy_digest: str

    @property
    def allowed(self) -> bool:
        return self.outcome is Outcome.ALLOW


@dataclass(frozen=True, slots=True)
class SignDecision:
    """Whether a click counts."""

    allowed: bool
    groups: tuple[str, ...]
    """Which of the groups asked for the person signs as, sorted; none for a confirmation."""
    rule_ids: tuple[str, ...]
    reason: str
    """One sentence for people: why, by the first of the rules."""
    policy_digest: str


@dataclass(frozen=True, slots=True)
class ModelDecision:
    """Whether something may be sent to a model."""

    allowed: bool
    rule_ids: tuple[str, ...]
    reason: str
    """One sentence for people: why, by the first of the rules."""
    answered: bool
    """False when the rules could not be evaluated, which is a no that may be asked again."""


class Rules:
    """The rule files and the people they speak of.

        decision = rules.decide(request)                       # when the plan is proposed
        vote = rules.may_sign(voter, verb=Verb.APPROVE, ...)   # when somebody clicks
        votes = rules.standing_votes(voter_ids, approval)      # when it is about to run
        if rules.may_execute(request, votes).allowed: ...

    Answers take well under a millisecond per action and touch no disk.
    """

    def __init__(self, ruleset: RuleSet, directory: Directory) -> None:
        self.ruleset = ruleset
        self._directory = directory

    @classmethod
    def load(cls, folder: Path, directory: Directory) -> Rules:
        """Read and check the rule files. Blocks on the disk.

        Raises RulesError when they cannot be used, or ask for signatures of a group with no active member.
        """
        ruleset = RuleSet.load(folder)
        for rule in ruleset.rules:
            if rule.effect is Effect.APPROVAL and not directory.members(rule.group):
                raise RulesError(
                    f"{folder / rule.file}: {rule.id}: nobody active is in group {rule.group}, so nobody could sign; "
                    "add people to it in the people file"
                )
        return cls(ruleset, directory)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the rule files and the schema."""
        return self.ruleset.digest

    def decide(self, request: PlanRequest, *, satisfied: Mapping[str, int] = NO_VOTES) -> Decision:
        """Say what a plan needs, given how many distinct people of each group have signed it. Never raises.

        The strictest answer to any of the plan's actions is the answer to the plan.
        """
        return self._answer(request, satisfied, confirmed=False)

    def may_execute(self, request: PlanRequest, votes: Mapping[str, int], *, confirmed: bool = False) -> Decision:
        """Ask the same question again when the plan is about to run; only `allow` means run. Never raises.

        The requester must still be permitted: they are looked up again, as they are now. `votes` comes from
        `standing_votes`, which does the same for the voters; `confirmed` says that the requester confirmed.
        """
        requester = self._directory.person(request.requester.id) if request.requester else None
        return self._answer(replace(request, requester=requester), votes, confirmed=confirmed)

    def may_sign(
        self,
        voter: Person | None,
        *,
        verb: Verb,
        is_guest: bool,
        is_bot: bool,
        is_external: bool,
        place_internal: bool,
        approval: ApprovalFacts,
    ) -> SignDecision:
        """Say whether a click counts, and for which groups. Never raises."""
        request = SignRequest(
            verb=verb,
            voter=voter,
            is_guest=is_guest,
            is_bot=is_bot,
            is_external=is_external,
            place_internal=place_internal,
            approval=approval,
        )
        try:
            answer = self.ruleset.ask(sign_question(request))
        except Exception as error:
            self._log_failure(error)
            return SignDecision(False, (), (ENGINE[0],), ENGINE[1], self.digest)
        told = _told(answer.rules)
        groups: frozenset[str] = frozenset()
        if answer.allowed and voter is not None and verb is not Verb.CONFIRM:
            groups = voter.groups & frozenset(approval.groups)
        return SignDecision(answer.allowed, tuple(sorted(groups)), _ids(told), told[0][1], self.digest)

    def may_ask_model(self, request: ModelRequest) -> ModelDecision:
        """Say whether something may be sent to a model. Never raises."""
        try:
            answer = self.ruleset.ask(model_question(request))
        except Exception as error:
            self._log_failure(error)
            return ModelDecision(False, (ENGINE[0],), ENGINE[1], answered=False)
        told = _told(answer.rules)
        return ModelDecision(answer.allowed, _ids(told), told[0][1], answered=True)

    def standing_votes(self, voter_ids: Iterable[str], approval: ApprovalFacts) -> dict[str, int]:
        """Count, by group, the distinct people whose approval still stands: entitled now, not only when they clicked.

        How each of them came to click, and that it was in time, was decided by `may_sign` when they did. A plan or
        card that has changed since (`digest_matches` false) leaves no vote standing.
        """
        counts: dict[str, int] = {}
        for voter_id in set(voter_ids):
            vote = self.may_sign(
                self._directory.person(voter_id),
                verb=Verb.APPROVE,
                is_guest=False,
                is_bot=False,
                is_external=False,
                place_internal=True,
                approval=replace(approval, expired=False),
            )
            for group in vote.groups:
                counts[group] = counts.get(group, 0) + 1
        return counts

    def _answer(self, request: PlanRequest, votes: Mapping[str, int], *, confirmed: bool) -> Decision:
        try:
            asked = self._judge(request, frozenset())
            if asked.outcome in (Outcome.ALLOW, Outcome.DENY):
                return asked
            # Where others must approve the very plan the card shows, that stands for the requester's confirmation.
            confirmed = confirmed or asked.outcome is Outcome.NEEDS_APPROVAL
            return self._judge(request, self._met(votes, confirmed=confirmed))
        except Exception as error:
            self._log_failure(error)
            return self._decision(Outcome.DENY, [ENGINE])

    def _judge(self, request: PlanRequest, signed: frozenset[str]) -> Decision:
        if not request.actions:
            raise ValueError("a plan has at least one action")
        answers = [self._judge_action(request, action, signed) for action in request.actions]
        strictest = max((outcome for outcome, _ in answers), key=_STRICTNESS.__getitem__)
        rules = tuple(dict.fromkeys(rule for outcome, rules in answers if outcome is strictest for rule in rules))
        if strictest is not Outcome.NEEDS_APPROVAL:
            return self._decision(strictest, _told(rules))
        requirement = _requirement(rules)
        requester_id = request.requester.id if request.requester else None
        for needed in requirement:
            others = [person for person in self._directory.members(needed.group) if person.id != requester_id]
            if len(others) < needed.count:
                nobody = (
                    f"Nobody may sign this: it needs {needed.count} from {needed.group}, "
                    f"where {len(others)} could sign beside the requester."
                )
                return self._decision(Outcome.DENY, [(NOBODY_MAY_SIGN, nobody), *_told(rules)])
        return self._decision(strictest, _told(rules), requirement)

    def _judge_action(
        self, request: PlanRequest, action: ActionFacts, signed: frozenset[str]
    ) -> tuple[Outcome, tuple[Rule, ...]]:
        answer = self.ruleset.ask(run_question(request, action, signed))
        if answer.allowed:
            return Outcome.ALLOW, answer.rules
        if final := tuple(rule for rule in answer.rules if rule.effect is None):
            return Outcome.DENY, final
        demands = answer.rules
        # Asked again as if signed: a card is only offered when it can succeed.
        then = self.ruleset.ask(run_question(request, action, signed | {rule.id for rule in demands}))
        if not then.allowed:
            return Outcome.DENY, then.rules
        if any(rule.effect is Effect.APPROVAL for rule in demands):
            return Outcome.NEEDS_APPROVAL, demands
        return Outcome.NEEDS_CONFIRMATION, demands

    def _met(self, votes: Mapping[str, int], *, confirmed: bool) -> frozenset[str]:
        return frozenset(
            rule.id
            for rule in self.ruleset.rules
            if (rule.effect is Effect.APPROVAL and votes.get(rule.group, 0) >= rule.n)
            or (rule.effect is Effect.CONFIRMATION and confirmed)
        )

    def _decision(
        self, outcome: Outcome, told: list[tuple[str, str]], requirement: tuple[GroupRequirement, ...] = ()
    ) -> Decision:
        return Decision(outcome, requirement, _ids(told), tuple(reason for _, reason in told), self.digest)

    def _log_failure(self, error: Exception) -> None:
        # The kind of error only: its text may quote the question's values.
        log.error("rules_not_evaluated", error=type(error).__name__, policy_digest=self.digest)


def _requirement(rules: Iterable[Rule]) -> tuple[GroupRequirement, ...]:
    counts: dict[str, int] = {}
    for rule in rules:
        if rule.effect is Effect.APPROVAL:
            counts[rule.group] = max(rule.n, counts.get(rule.group, 0))
    return tuple(GroupRequirement(group, count) for group, count in sorted(counts.items()))


def _told(rules: Iterable[Rule]) -> list[tuple[str, str]]:
    return [(rule.id, rule.reason) for rule in rules] or [NO_RULE_ALLOWS]


def _ids(told: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(rule_id for rule_id, _ in told)
