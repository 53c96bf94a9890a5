"""The shipped rules give the answers that a plain reading of their comments gives, on random requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.facts import SignRequest
from policies.people import Directory
from policies.rules import ActionFacts, Decision, Outcome, PlanRequest, Rules, Verb
from tests.policies.rule_cases import click, known, load, signed


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Directory, Rules]:
    return load(tmp_path_factory.mktemp("people"))


NEEDS = {"destructive": ("approvers", 1), "money": ("finance", 2), "identity": ("security-admins", 2)}


def plainly_decided(
    directory: Directory, request: PlanRequest, votes: Mapping[str, int], *, confirmed: bool
) -> tuple[Outcome, dict[str, int]]:
    """Answer a plan by the rules as their comments state them, with none of the machinery."""
    person = request.requester
    if person is None or not person.active:
        return Outcome.DENY, {}
    if request.is_guest or request.is_bot or request.is_external or not request.place_internal:
        return Outcome.DENY, {}
    asked: dict[str, int] = {}
    confirmation = False
    for action in request.actions:
        if action.region != request.region:
            return Outcome.DENY, {}
        if action.action_class in ("read", "self"):
            continue
        if "employee" not in person.roles:
            return Outcome.DENY, {}
        if action.action_class == "external":
            confirmation |= action.reversibility != "reversible"
        else:
            group, count = NEEDS[action.action_class]
            asked[group] = count
    for group, count in asked.items():
        if sum(other.id != person.id for other in directory.members(group)) < count:
            return Outcome.DENY, {}
    missing = {group: count for group, count in asked.items() if votes.get(group, 0) < count}
    if missing:
        return Outcome.NEEDS_APPROVAL, missing
    if confirmation and not asked and not confirmed:
        return Outcome.NEEDS_CONFIRMATION, {}
    return Outcome.ALLOW, {}


def plainly_signed(pressed: SignRequest) -> bool:
    voter, approval = pressed.voter, pressed.approval
    if voter is None or not voter.active:
        return False
    if pressed.is_guest or pressed.is_bot or pressed.is_external or not pressed.place_internal:
        return False
    if approval.expired or not approval.digest_matches or not approval.same_tenant:
        return False
    if pressed.verb is Verb.CONFIRM:
        return voter.id == approval.requester_id
    own = voter.id == approval.requester_id or set(voter.identities) & set(approval.requester_identities)
    if pressed.verb is Verb.APPROVE and own:
        return False
    return any(group in voter.groups for group in approval.groups)


PERSON_IDS = ["ada", "grace", "emmy", "alan", "rosa", "intern", "gone"]
GROUPS = ["approvers", "finance", "security-admins", "leads", "wizards"]
rarely = st.sampled_from([False] * 9 + [True])
mostly = rarely.map(lambda value: not value)
actions = st.builds(
    ActionFacts,
    name=st.text(max_size=12),
    action_class=st.sampled_from(["read", "self", "external", "destructive", "money", "identity"]),
    reversibility=st.sampled_from(["reversible", "compensable", "irreversible"]),
    connector=st.text(max_size=5),
    tool_version=st.text(max_size=5),
    region=st.sampled_from(["local"] * 9 + ["elsewhere"]),
)


@st.composite
def plans(draw: st.DrawFn) -> tuple[str | None, PlanRequest]:
    request = PlanRequest(
        tenant=draw(st.text(max_size=5)),
        requester=None,
        is_guest=draw(rarely),
        is_bot=draw(rarely),
        is_external=draw(rarely),
        place_internal=draw(mostly),
        actions=tuple(draw(st.lists(actions, min_size=1, max_size=4))),
    )
    return draw(st.sampled_from([*PERSON_IDS, None])), request


@settings(max_examples=400, deadline=None)
@given(
    drawn=plans(),
    votes=st.dictionaries(st.sampled_from(GROUPS), st.integers(0, 3)),
    confirmed=st.booleans(),
)
def test_decisions_equal_a_plain_reading_of_the_rules(
    loaded: tuple[Directory, Rules],
    drawn: tuple[str | None, PlanRequest],
    votes: dict[str, int],
    confirmed: bool,
) -> None:
    directory, rules = loaded
    person_id, request = drawn
    request = replace(request, requester=directory.person(person_id) if person_id else None)

    def seen(decision: Decision) -> tuple[Outcome, dict[str, int]]:
        assert len(decision.rule_ids) == len(decision.reasons) > 0
        return decision.outcome, {needed.group: needed.count for needed in decision.requirement}

    assert seen(rules.decide(request)) == plainly_decided(directory, request, {}, confirmed=False)
    assert seen(rules.decide(request, satisfied=votes)) == plainly_decided(directory, request, votes, confirmed=False)
    assert seen(rules.may_execute(request, votes, confirmed=confirmed)) == plainly_decided(
        directory, request, votes, confirmed=confirmed
    )


@settings(max_examples=400, deadline=None)
@given(
    verb=st.sampled_from(Verb),
    voter_id=st.sampled_from([*PERSON_IDS, None]),
    requester_id=st.sampled_from(PERSON_IDS),
    flags=st.fixed_dictionaries(
        {
            **dict.fromkeys(["is_guest", "is_bot", "is_external", "expired"], rarely),
            **dict.fromkeys(["place_internal", "digest_matches", "same_tenant"], mostly),
            "groups": st.lists(st.sampled_from(GROUPS), unique=True, max_size=3).map(tuple),
        }
    ),
    moved_account=st.sampled_from([None, *PERSON_IDS]),
)
def test_clicks_count_as_in_a_plain_reading_of_the_rules(
    loaded: tuple[Directory, Rules],
    verb: Verb,
    voter_id: str | None,
    requester_id: str,
    flags: dict[str, Any],
    moved_account: str | None,
) -> None:
    directory, rules = loaded
    requester = known(directory, requester_id)
    if moved_account is not None:
        flags = {**flags, "requester_identities": known(directory, moved_account).identities}
    pressed = click(verb, directory.person(voter_id) if voter_id else None, requester, **flags)
    decision = signed(rules, pressed)
    assert decision.allowed == plainly_signed(pressed)
    if decision.allowed and verb is not Verb.CONFIRM:
        assert pressed.voter is not None
        assert set(decision.groups) == pressed.voter.groups & set(pressed.approval.groups)
    else:
        assert decision.groups == ()
