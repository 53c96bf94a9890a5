"""The approval card says everything a signer must know, completely, and its buttons only while they count."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions import executions, plans
from actions.executions import Execution
from actions.origins import ArgumentOrigin, Source
from actions.plans import About, Plan, PlannedCall, StoredPlan
from handlers.approval_card import PlanView, details, draw, how_decided, progress
from handlers.card import Facts, Heading, Text, TextStyle
from policies import approvals
from policies.approvals import Approval, Vote, VoteDecision
from policies.people import Person

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
AMIR = Person("amir", "Amir", "amir@example.com", frozenset(), frozenset({"approvers"}), (), True)


TYPED = ArgumentOrigin(Source.TYPED)
WORDED = ArgumentOrigin(Source.MODEL)


def stored(
    resolution: str = "solved",
    origins: Mapping[str, ArgumentOrigin] = MappingProxyType({"ticket": TYPED, "resolution": WORDED}),
    written_format: int = 2,
) -> StoredPlan:
    """A plan that closes TCK-7."""
    arguments = {"ticket": "TCK-7", "resolution": resolution}
    call = PlannedCall("ticketing.close", 1, "ticketing", arguments, "TCK-7", "3", origins)
    canonical = Plan("default", "rosa", "f" * 64, (call,), written_format).canonical()
    about = About(
        title="Close a ticket",
        steps=("Close a ticket: TCK-7 (Lamp)",),
        reason="You said it is solved.",
        requester_name="Rosa",
        target_url="https://tickets.example.com/TCK-7",
        risk="destructive, compensable",
    )
    return StoredPlan("a" * 32, "r" * 32, plans.digest(canonical), canonical, about, 1)


def approval(state: approvals.State = approvals.State.PENDING, **changes: Any) -> Approval:
    """A request for one signature from approvers."""
    basis = Approval(
        id="b" * 32,
        tenant="default",
        plan_id="a" * 32,
        digest=stored().digest,
        requester="rosa",
        requester_identities=(),
        requirement={"approvers": 1},
        confirmation=False,
        rule_ids=("destructive-needs-an-approver",),
        reasons=("Closing needs one other person from approvers.",),
        policy_digest="f" * 64,
        state=state,
        version=1,
        created_at=NOON,
        expires_at=NOON + timedelta(hours=24),
        decided_at=None,
        decided_by=None,
        remark=None,
        votes=(),
    )
    return replace(basis, **changes)


def view(approval: Approval | None, execution: Execution | None = None, plan: StoredPlan | None = None) -> PlanView:
    """What the card is drawn from."""
    return PlanView(plan or stored(), approval, execution, (AMIR,), lambda person: person.title())


def text_of(value: Any) -> str:
    """Every string of a card."""
    if isinstance(value, str):
        return value
    if is_dataclass(value):
        return "\n".join(text_of(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, tuple):
        return "\n".join(text_of(each) for each in value)
    return ""


def test_a_waiting_card_says_everything_a_signer_must_know() -> None:
    card = draw(view(approval()), lambda verb: f"nonce-{verb}")
    said = text_of(card)
    for needed in (
        "Close a ticket: TCK-7 (Lamp)",
        "ticketing.close (version 1)",
        "resolution: solved",
        "record TCK-7, version 3",
        "You said it is solved.",
        "the assistant",
        "Rosa",
        "Closing needs one other person from approvers.",
        "Amir",
        "0 of 1 signature from approvers",
        "destructive",
        "24 Nov 2026, 12:00 UTC",
        stored().digest[:12],
        "request aaaaaaaa",
    ):
        assert needed in said
    assert [button.verb for button in card.buttons] == ["approve", "deny", "details"]


@given(st.text(max_size=900))
def test_whatever_the_arguments_are_the_card_shows_all_of_them(resolution: str) -> None:
    plan = stored(resolution)
    said = text_of(draw(view(approval(), plan=plan), lambda verb: verb))
    assert resolution in said or json.dumps(resolution, ensure_ascii=False) in said


def warnings(plan: StoredPlan) -> list[str]:
    """The lines of a waiting card that stand out and speak of what was typed."""
    parts = draw(view(approval(), plan=plan), lambda verb: verb).parts
    return [part.text for part in parts if isinstance(part, Text) and "typed" in part.text]


def test_a_waiting_card_names_the_values_the_requester_did_not_type() -> None:
    quoted = ArgumentOrigin(Source.THREAD, ("m1",))
    assert warnings(stored(origins={"ticket": quoted, "resolution": WORDED})) == [
        "Not typed by Rosa: resolution (worded by the assistant), ticket (from a message of the thread). "
        "Please compare before you sign."
    ]


def test_a_waiting_card_is_silent_about_values_that_were_typed_or_filled_in_without_a_model() -> None:
    assert warnings(stored(origins={"ticket": TYPED, "resolution": ArgumentOrigin(Source.ASSISTANT)})) == []


@pytest.mark.parametrize("plan", [stored(written_format=1), stored(origins={"ticket": TYPED})])
def test_a_value_without_a_record_of_where_it_comes_from_is_warned_of(plan: StoredPlan) -> None:
    assert "resolution (not recorded)" in warnings(plan)[0]


def test_a_card_that_waits_for_nobody_warns_of_nothing() -> None:
    done = approval(approvals.State.DENIED, decided_by="amir", decided_at=NOON)
    assert "Not typed" not in text_of(draw(view(done), None))


def test_the_details_say_of_each_value_where_it_comes_from() -> None:
    quoted = ArgumentOrigin(Source.THREAD, ("m1", "m2"))
    plan = stored(origins={"ticket": TYPED, "resolution": quoted})
    parts = details(view(approval(), plan=plan)).parts
    heading = next(n for n, part in enumerate(parts) if isinstance(part, Heading) and "comes from" in part.text)
    assert parts[heading + 1 : heading + 3] == (
        Text("ticketing.close", TextStyle.STRONG),
        Facts((("resolution", "from 2 messages of the thread"), ("ticket", "typed by Rosa"))),
    )


@pytest.mark.parametrize("state", [state for state in approvals.State if state != approvals.State.PENDING])
def test_a_card_that_is_decided_has_no_buttons(state: approvals.State) -> None:
    card = draw(view(approval(state, decided_by="amir", decided_at=NOON)), lambda verb: verb)
    assert card.buttons == ()


def test_without_nonces_a_waiting_card_has_no_buttons() -> None:
    assert draw(view(approval()), None).buttons == ()


def test_an_expired_card_does_not_call_silence_a_denial() -> None:
    said = text_of(draw(view(approval(approvals.State.EXPIRED, decided_at=NOON)), None))
    assert "Nobody decided in time" in said
    assert "Denied" not in said


@pytest.mark.parametrize("state", list(executions.State))
def test_every_state_of_an_execution_has_a_headline(state: executions.State) -> None:
    execution = Execution(
        id="c" * 32,
        plan_id="a" * 32,
        approval_id="b" * 32,
        digest=stored().digest,
        tenant="default",
        requester="rosa",
        state=state,
        fence=1,
        step=1,
        sending=None,
        results=({"record": "TCK-7", "text": "Closed TCK-7", "url": "https://tickets.example.com/TCK-7"},),
        message="Closed TCK-7",
        attempts=1,
        due_at=NOON,
        start_before=NOON,
        lease_until=None,
        created_at=NOON,
        started_at=NOON,
        finished_at=NOON + timedelta(seconds=3.2),
    )
    signed = approval(
        approvals.State.APPROVED,
        decided_at=NOON,
        decided_by="amir",
        votes=(Vote("amir", VoteDecision.APPROVE, ("approvers",), NOON),),
    )
    card = draw(view(signed, execution), None)
    assert "Close a ticket" in card.title
    assert "3.2 s" in text_of(card)
    assert "Open TCK-7" in text_of(card)


def test_the_details_are_the_canonical_plan_with_the_rules() -> None:
    said = text_of(details(view(approval())))
    assert '"target_version": "3"' in said
    assert stored().digest in said
    assert "destructive-needs-an-approver" in said


def test_progress_counts_people_not_clicks() -> None:
    two = approval(requirement={"finance": 2}, votes=(Vote("amir", VoteDecision.APPROVE, ("finance",), NOON),))
    assert progress(two) == "1 of 2 signatures from finance"
    assert how_decided(view(approval(approvals.State.DENIED, decided_by="amir"))) == "denied by Amir"
