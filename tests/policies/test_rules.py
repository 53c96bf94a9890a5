"""The shipped rules: what they stop, what they ask for, and whose click counts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policies.facts import SignRequest, run_question, sign_question
from policies.people import Directory, Identity
from policies.rules import GroupRequirement, Outcome, PlanRequest, Rules, Verb
from policies.ruleset import UnansweredError
from tests.policies.rule_cases import (
    CLOSE,
    GRANT,
    MAIL,
    OPEN,
    PAY,
    PEOPLE,
    READ,
    RULES,
    click,
    known,
    load,
    plan,
    signed,
    without_each_fact,
)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Directory, Rules]:
    return load(tmp_path_factory.mktemp("people"))


@pytest.fixture
def directory(loaded: tuple[Directory, Rules]) -> Directory:
    return loaded[0]


@pytest.fixture
def rules(loaded: tuple[Directory, Rules]) -> Rules:
    return loaded[1]


# -- every forbid stops something ---------------------------------------------------------------------------------

STOPPED_PLANS: Mapping[str, Callable[[Directory], PlanRequest]] = {
    "stranger": lambda people: plan(None, READ),
    "deactivated": lambda people: plan(known(people, "gone"), READ),
    "bot": lambda people: plan(known(people, "ada"), READ, is_bot=True),
    "guest": lambda people: plan(known(people, "ada"), READ, is_guest=True),
    "external": lambda people: plan(known(people, "ada"), READ, is_external=True),
    "shared-place": lambda people: plan(known(people, "ada"), READ, place_internal=False),
    "other-region": lambda people: plan(known(people, "ada"), READ, region="elsewhere"),
    "confirm-what-stays-visible": lambda people: plan(known(people, "ada"), MAIL),
    "destructive-needs-an-approver": lambda people: plan(known(people, "ada"), CLOSE),
    "money-needs-finance": lambda people: plan(known(people, "ada"), PAY),
    "identity-needs-security": lambda people: plan(known(people, "ada"), GRANT),
}


def pressed_by(voter: str | None, verb: Verb = Verb.APPROVE, **changes: Any) -> Callable[[Directory], SignRequest]:
    return lambda people: click(verb, known(people, voter) if voter else None, known(people, "ada"), **changes)


STOPPED_CLICKS: Mapping[str, Callable[[Directory], SignRequest]] = {
    "stranger": pressed_by(None),
    "deactivated": pressed_by("gone"),
    "bot": pressed_by("grace", is_bot=True),
    "guest": pressed_by("grace", is_guest=True),
    "external": pressed_by("grace", is_external=True),
    "shared-place": pressed_by("grace", place_internal=False),
    "own-request": pressed_by("grace", requester_id="grace"),
    "not-in-group": pressed_by("alan"),
    "not-the-requester": pressed_by("grace", Verb.CONFIRM),
    "other-tenant": pressed_by("grace", same_tenant=False),
    "expired": pressed_by("grace", expired=True),
    "stale": pressed_by("grace", digest_matches=False),
}


def test_the_cases_name_every_forbid_there_is(rules: Rules) -> None:
    forbids = {rule.id for rule in rules.ruleset.rules if not rule.permits and rule.file != "residency.cedar"}
    assert forbids == STOPPED_PLANS.keys() | STOPPED_CLICKS.keys()


@pytest.mark.parametrize("rule_id", STOPPED_PLANS)
def test_each_forbid_alone_stops_a_plan(directory: Directory, rules: Rules, rule_id: str) -> None:
    decision = rules.decide(STOPPED_PLANS[rule_id](directory))
    assert decision.outcome is not Outcome.ALLOW
    assert decision.rule_ids == (rule_id,)
    assert decision.reasons[0].endswith(".")
    assert decision.policy_digest == rules.digest


@pytest.mark.parametrize("rule_id", STOPPED_CLICKS)
def test_each_forbid_alone_stops_a_click(directory: Directory, rules: Rules, rule_id: str) -> None:
    decision = signed(rules, STOPPED_CLICKS[rule_id](directory))
    assert not decision.allowed
    assert decision.groups == ()
    assert decision.rule_ids == (rule_id,)
    assert decision.reason.endswith(".")


@pytest.mark.parametrize("rule_id", ["bot", "guest", "external", "shared-place", "other-tenant", "expired", "stale"])
@pytest.mark.parametrize("verb", Verb)
def test_a_click_that_must_not_count_counts_for_no_button(
    directory: Directory, rules: Rules, rule_id: str, verb: Verb
) -> None:
    voter = known(directory, "ada" if verb is Verb.CONFIRM else "grace")
    pressed = replace(STOPPED_CLICKS[rule_id](directory), verb=verb, voter=voter)
    assert signed(rules, pressed).rule_ids == (rule_id,)


def test_refusals_are_told_in_the_order_the_rules_are_written(directory: Directory, rules: Rules) -> None:
    flags = {"is_bot": True, "is_guest": True, "is_external": True, "place_internal": False}
    never = ("stranger", "bot", "guest", "external", "shared-place")
    assert rules.decide(plan(None, READ, region="elsewhere", **flags)).rule_ids == (*never, "other-region")
    late = click(Verb.APPROVE, None, known(directory, "ada"), expired=True, digest_matches=False, **flags)
    decision = signed(rules, late)
    assert decision.rule_ids == (*never, "expired", "stale")
    assert decision.reason == "You are not in this organisation's list of people."


# -- a missing fact is a no ---------------------------------------------------------------------------------------


def test_no_question_is_answered_yes_with_any_one_fact_missing(directory: Directory, rules: Rules) -> None:
    ada, grace = known(directory, "ada"), known(directory, "grace")
    questions = [run_question(plan(ada, action), action, frozenset()) for action in (READ, OPEN)]
    questions += [sign_question(click(verb, grace, ada)) for verb in (Verb.APPROVE, Verb.DENY)]
    questions += [sign_question(click(Verb.CONFIRM, ada, ada))]
    for question in questions:
        assert rules.ruleset.ask(question).allowed
        fewer = without_each_fact(question)
        assert len(fewer) >= 14
        for key, asked in fewer:
            try:
                answer = rules.ruleset.ask(asked)
            except UnansweredError:
                continue
            assert not answer.allowed, f"{question.action} without {key}"


@pytest.mark.parametrize(
    "broken",
    [
        {"is_guest": None},
        {"is_bot": 0},
        {"is_external": "false"},
        {"place_internal": None},
        {"tenant": None},
        {"region": None},
        {"actions": ()},
        {"actions": (replace(READ, action_class="harmless"),)},
        {"actions": (replace(READ, reversibility=""),)},
        {"actions": (READ, replace(READ, connector=None))},  # type: ignore[arg-type]
    ],
)
def test_a_fact_of_the_wrong_kind_is_a_no_by_the_engine(
    directory: Directory, rules: Rules, broken: dict[str, Any]
) -> None:
    request = plan(known(directory, "ada"), READ)
    assert rules.decide(request).outcome is Outcome.ALLOW
    for decision in (
        rules.decide(replace(request, **broken)),
        rules.may_execute(replace(request, **broken), {"finance": 9}, confirmed=True),
    ):
        assert decision.outcome is Outcome.DENY
        assert decision.rule_ids == ("engine",)


def test_a_click_with_a_missing_fact_is_a_no_by_the_engine(directory: Directory, rules: Rules) -> None:
    pressed = click(Verb.APPROVE, known(directory, "grace"), known(directory, "ada"), expired=None)
    assert signed(rules, pressed).rule_ids == ("engine",)


def test_an_approval_rule_that_errors_is_a_no_and_never_a_card(tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    shutil.copytree(RULES, folder)
    (folder / "local.cedar").write_text(
        """
        @id("overflows") @effect("approval") @group("finance") @n("1") @reason("Never reached.")
        forbid (principal, action == Action::"run", resource)
        when { resource.connector == "tickets" && 9223372036854775807 + 1 > 0 }
        unless { context.signed.contains("overflows") };
        """
    )
    directory, rules = load(tmp_path, rules=folder)
    ada = known(directory, "ada")
    for action in (READ, CLOSE):
        assert rules.decide(plan(ada, action)).rule_ids == ("engine",)
        assert rules.may_execute(plan(ada, action), {"finance": 2, "approvers": 1}).outcome is Outcome.DENY
    assert rules.decide(plan(ada, replace(READ, connector="mail"))).outcome is Outcome.ALLOW


# -- what a plan needs --------------------------------------------------------------------------------------------


def test_reading_and_opening_a_ticket_run_at_once(directory: Directory, rules: Rules) -> None:
    decision = rules.decide(plan(known(directory, "ada"), READ, OPEN))
    assert decision.allowed
    assert decision.rule_ids == ("read-and-own", "visible-to-others")


def test_the_requester_confirms_what_stays_visible_and_that_is_no_approval(directory: Directory, rules: Rules) -> None:
    request = plan(known(directory, "ada"), MAIL)
    decision = rules.decide(request)
    assert decision.outcome is Outcome.NEEDS_CONFIRMATION
    assert decision.requirement == ()
    assert rules.may_execute(request, {"finance": 2, "approvers": 2}).outcome is Outcome.NEEDS_CONFIRMATION
    assert rules.may_execute(request, {}, confirmed=True).allowed


def test_a_confirmation_never_stands_for_an_approval(directory: Directory, rules: Rules) -> None:
    request = plan(known(directory, "ada"), MAIL, CLOSE)
    assert rules.may_execute(request, {}, confirmed=True).outcome is Outcome.NEEDS_APPROVAL
    assert rules.may_execute(request, {"approvers": 1}).allowed


def test_a_plan_needs_what_its_strictest_actions_need_together(directory: Directory, rules: Rules) -> None:
    decision = rules.decide(plan(known(directory, "ada"), READ, PAY, CLOSE, PAY, MAIL))
    assert decision.outcome is Outcome.NEEDS_APPROVAL
    assert decision.requirement == (GroupRequirement("approvers", 1), GroupRequirement("finance", 2))
    assert set(decision.rule_ids) == {"money-needs-finance", "destructive-needs-an-approver"}


def test_two_rules_about_one_group_ask_for_the_larger_number(tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    shutil.copytree(RULES, folder)
    (folder / "local.cedar").write_text(
        """
        @id("one-from-finance") @effect("approval") @group("finance") @n("1") @reason("Paying needs finance.")
        forbid (principal, action == Action::"run", resource == Operation::"invoice.pay")
        unless { context.signed.contains("one-from-finance") };
        """
    )
    directory, rules = load(tmp_path, rules=folder)
    request = plan(known(directory, "ada"), PAY)
    assert rules.decide(request).requirement == (GroupRequirement("finance", 2),)
    assert rules.decide(request, satisfied={"finance": 1}).requirement == (GroupRequirement("finance", 2),)
    assert rules.decide(request, satisfied={"finance": 1}).rule_ids == ("money-needs-finance",)
    assert rules.decide(request, satisfied={"finance": 2}).allowed


def test_one_refused_action_refuses_the_plan(directory: Directory, rules: Rules) -> None:
    decision = rules.decide(plan(known(directory, "ada"), READ, PAY, replace(READ, region="elsewhere")))
    assert decision.outcome is Outcome.DENY
    assert decision.rule_ids == ("other-region",)
    assert decision.requirement == ()


def test_no_card_is_offered_where_signatures_would_not_help(directory: Directory, rules: Rules) -> None:
    for action in (PAY, CLOSE, MAIL):
        decision = rules.decide(plan(known(directory, "intern"), action))
        assert decision.outcome is Outcome.DENY
        assert decision.rule_ids == ("no-rule-allows",)


def test_no_card_is_offered_where_too_few_others_could_sign(directory: Directory, rules: Rules) -> None:
    # finance is grace and emmy: enough for ada, one short for emmy herself.
    assert rules.decide(plan(known(directory, "ada"), PAY)).outcome is Outcome.NEEDS_APPROVAL
    decision = rules.decide(plan(known(directory, "emmy"), PAY))
    assert decision.outcome is Outcome.DENY
    assert decision.rule_ids == ("nobody-may-sign", "money-needs-finance")
    assert decision.reasons[0].startswith("Nobody may sign this")


def test_a_group_that_empties_after_loading_means_no(tmp_path: Path) -> None:
    directory, rules = load(tmp_path)
    request = plan(known(directory, "ada"), CLOSE)
    assert rules.decide(request).outcome is Outcome.NEEDS_APPROVAL
    (tmp_path / "people.yaml").write_text(PEOPLE.replace("includes: [leads]", "includes: []"))
    assert directory.refresh()
    assert rules.decide(request).rule_ids[0] == "nobody-may-sign"
    assert rules.may_execute(request, {"approvers": 1}).outcome is Outcome.DENY


def test_the_requester_must_still_be_permitted_when_the_plan_runs(tmp_path: Path) -> None:
    directory, rules = load(tmp_path)
    request = plan(known(directory, "ada"), CLOSE)
    assert rules.may_execute(request, {"approvers": 1}).allowed
    (tmp_path / "people.yaml").write_text(PEOPLE.replace("teams: [a/1]", "active: false"))
    assert directory.refresh()
    assert rules.may_execute(request, {"approvers": 1}).rule_ids == ("deactivated",)
    (tmp_path / "people.yaml").write_text(PEOPLE.replace("{id: ada,", "{id: somebody-else,"))
    assert directory.refresh()
    assert rules.may_execute(request, {"approvers": 1}).rule_ids == ("stranger",)


# -- whose click counts -------------------------------------------------------------------------------------------


def test_a_vote_counts_for_the_groups_asked_that_the_voter_is_in(directory: Directory, rules: Rules) -> None:
    ada = known(directory, "ada")
    asked = ("approvers", "finance", "security-admins")
    assert signed(rules, click(Verb.APPROVE, known(directory, "grace"), ada, groups=asked)).groups == (
        "approvers",
        "finance",
    )
    assert signed(rules, click(Verb.DENY, known(directory, "alan"), ada, groups=asked)).groups == ("security-admins",)


def test_membership_through_a_nested_group_counts(directory: Directory, rules: Rules) -> None:
    grace = known(directory, "grace")
    decision = signed(rules, click(Verb.APPROVE, grace, known(directory, "ada"), groups=("approvers",)))
    assert decision.allowed
    assert decision.groups == ("approvers",)


@pytest.mark.parametrize("groups", [(), ("wizards",)])
def test_a_request_that_asks_nobody_or_an_unknown_group_can_be_signed_by_nobody(
    directory: Directory, rules: Rules, groups: tuple[str, ...]
) -> None:
    for voter in ("grace", "emmy", "alan"):
        pressed = click(Verb.APPROVE, known(directory, voter), known(directory, "ada"), groups=groups)
        assert signed(rules, pressed).rule_ids == ("not-in-group",)


def test_the_requester_may_not_approve_through_a_second_account(tmp_path: Path) -> None:
    people = PEOPLE.replace("groups: [leads, finance], slack: [T1/U2]", "groups: [finance], slack: [T1/U2, T2/X9]")
    people = people.replace("approvers: {includes: [leads]}", "approvers: {includes: [support]}")
    directory, rules = load(tmp_path, people)
    grace, second = directory.resolve("slack", "T1", "U2"), directory.resolve("slack", "T2", "X9")
    assert grace is not None
    assert signed(rules, click(Verb.APPROVE, second, grace)).rule_ids == ("own-request",)


def test_an_account_the_requester_had_then_does_not_approve_under_another_person_now(
    directory: Directory, rules: Rules
) -> None:
    # The people file has since moved ada's account U2 to grace.
    accounts = (Identity("slack", "T1", "U1"), Identity("slack", "T1", "U2"))
    pressed = click(Verb.APPROVE, known(directory, "grace"), known(directory, "ada"), requester_identities=accounts)
    assert signed(rules, pressed).rule_ids == ("own-request",)


def test_the_requester_may_say_no_but_only_as_one_of_the_group(directory: Directory, rules: Rules) -> None:
    grace, ada = known(directory, "grace"), known(directory, "ada")
    assert signed(rules, click(Verb.DENY, grace, grace)).allowed
    assert signed(rules, click(Verb.DENY, ada, ada)).rule_ids == ("not-in-group",)


def test_a_confirmation_is_the_requesters_and_counts_for_no_group(directory: Directory, rules: Rules) -> None:
    grace = known(directory, "grace")
    decision = signed(rules, click(Verb.CONFIRM, grace, grace))
    assert decision.allowed
    assert decision.groups == ()


def test_standing_votes_are_those_of_distinct_people_entitled_now(tmp_path: Path) -> None:
    directory, rules = load(tmp_path)
    ada = known(directory, "ada")
    approval = click(Verb.APPROVE, None, ada, groups=("approvers", "finance")).approval
    voters = ["grace", "grace", "emmy", "ada", "gone", "alan", "nobody-we-know"]
    assert rules.standing_votes(voters, approval) == {"approvers": 1, "finance": 2}
    assert rules.standing_votes(voters, replace(approval, requester_id="emmy")) == {"approvers": 1, "finance": 1}
    assert rules.standing_votes(voters, replace(approval, expired=True)) == {"approvers": 1, "finance": 2}
    assert rules.standing_votes(voters, replace(approval, digest_matches=False)) == {}
    (tmp_path / "people.yaml").write_text(PEOPLE.replace("groups: [leads, finance]", "groups: [finance]"))
    assert directory.refresh()
    assert rules.standing_votes(voters, approval) == {"finance": 2}
