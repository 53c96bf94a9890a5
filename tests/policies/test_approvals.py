"""Approvals by themselves: what the state machine takes and refuses, without road or rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import approvals, audit
from policies.approvals import Approval, Signature, SignatureRefused, State, Vote, VoteDecision
from records.database import Database, Transaction
from records.schema import EPOCH, metadata

HOUR = timedelta(hours=1)
GROUPS: Mapping[str, frozenset[str]] = {
    "amir": frozenset({"finance"}),
    "noor": frozenset({"finance", "legal"}),
    "rosa": frozenset({"finance"}),
}


class Desk:
    """A database with one approval in it."""

    def __init__(self, folder: Path) -> None:
        self.shift = timedelta()
        self.database = Database(f"sqlite:///{folder / 'desk.db'}", clock_shift=lambda: self.shift)
        tables = [approvals.approvals, approvals.votes, audit.audit, audit.audit_head]
        metadata.create_all(self.database.engine, tables=tables)

    def create(self, **changes: Any) -> Approval:
        how: dict[str, Any] = {
            "approval_id": "a", "tenant": "default", "plan_id": "p", "digest": "d", "requester": "rosa",
            "requester_identities": ["slack:T1/U1"], "requirement": {"finance": 2}, "confirmation": False,
            "rule_ids": ["money"], "reasons": ["Money."], "policy_digest": "rules", "lifetime": HOUR, **changes,
        }  # fmt: skip
        return self.database.transact(lambda tx: approvals.create(tx, **how))

    def sign(
        self, person: str, decision: VoteDecision = VoteDecision.APPROVE, *, digest: str = "d", reason: str = ""
    ) -> Approval:
        signature = signed(person, decision, digest, reason)
        return self.database.transact(lambda tx: approvals.sign(tx, "a", signature, entitled=entitled))

    def find(self) -> Approval:
        found = self.database.query(lambda tx: approvals.find(tx, "a"))
        assert found is not None
        return found


def entitled(person: str) -> frozenset[str]:
    return GROUPS.get(person, frozenset())


def signed(
    person: str, decision: VoteDecision = VoteDecision.APPROVE, digest: str = "d", reason: str = ""
) -> Signature:
    return Signature(person, decision, tuple(sorted(entitled(person))), ("employee",), digest, "slack", reason)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    built = Desk(tmp_path)
    yield built
    built.database.close()


def test_asking_twice_under_one_id_finds_the_first_request_and_records_it_once(desk: Desk) -> None:
    first = desk.create()
    assert desk.create(requirement={"finance": 1}) == first
    entries = desk.database.query(lambda tx: list(audit.entries(tx)))
    assert [entry.entry["kind"] for entry in entries] == ["approval.requested"]


def test_a_second_request_for_one_plan_is_refused_by_the_database(desk: Desk) -> None:
    desk.create()
    with pytest.raises(Exception, match=r"(?i)unique"):
        desk.create(approval_id="b")


def test_a_requirement_is_met_by_the_last_signature_and_says_by_whom(desk: Desk) -> None:
    desk.create()
    assert desk.sign("amir").state is State.PENDING
    done = desk.sign("noor")
    assert (done.state, done.decided_by) == (State.APPROVED, "noor")
    assert done.signed_by("finance") == ("amir", "noor")
    assert done.signed_by("legal") == ("noor",)
    assert done.version == 3


def test_one_denial_ends_it_with_the_reason(desk: Desk) -> None:
    desk.create()
    desk.sign("amir")
    done = desk.sign("noor", VoteDecision.DENY, reason="too dear")
    assert (done.state, done.decided_by, done.remark) == (State.DENIED, "noor", "too dear")


def test_two_groups_each_need_their_own_and_one_person_may_stand_for_both(desk: Desk) -> None:
    desk.create(requirement={"finance": 2, "legal": 1})
    assert desk.sign("amir").state is State.PENDING
    assert desk.sign("noor").state is State.APPROVED


def test_a_confirmation_is_given_by_the_requester_only(desk: Desk) -> None:
    desk.create(requirement={}, confirmation=True)
    assert desk.sign("amir").state is State.PENDING
    assert desk.sign("rosa").state is State.APPROVED


@pytest.mark.parametrize(
    ("prepare", "digest", "why"),
    [
        (lambda desk: None, "d", "unknown"),
        (lambda desk: desk.create(), "e", "other_digest"),
        (lambda desk: desk.create(lifetime=timedelta()), "d", "expired"),
        (lambda desk: (desk.create(), desk.sign("amir")), "d", "already_signed"),
        (lambda desk: (desk.create(), desk.sign("noor", VoteDecision.DENY)), "d", "decided"),
    ],
)
def test_a_refused_vote_says_why_and_leaves_no_trace(
    desk: Desk, prepare: Callable[[Desk], object], digest: str, why: str
) -> None:
    prepare(desk)
    before = desk.database.query(everything)
    with pytest.raises(SignatureRefused) as refused:
        desk.sign("amir", digest=digest)
    assert refused.value.why == why
    assert desk.database.query(everything) == before


def test_a_vote_taken_back_by_its_transaction_leaves_the_version_alone(desk: Desk) -> None:
    desk.create()

    def fails(tx: Transaction) -> None:
        approvals.sign(tx, "a", signed("amir"), entitled=entitled)
        raise RuntimeError("the rest of the transaction failed")

    with pytest.raises(RuntimeError):
        desk.database.transact(fails)
    assert (desk.find().version, desk.find().votes) == (1, ())


def test_only_an_approved_request_can_be_withdrawn(desk: Desk) -> None:
    desk.create(requirement={"finance": 1})
    with pytest.raises(SignatureRefused):
        desk.database.transact(lambda tx: approvals.withdraw(tx, "a", signed("noor", VoteDecision.DENY)))
    desk.sign("amir")
    withdrawn = desk.database.transact(lambda tx: approvals.withdraw(tx, "a", signed("noor", VoteDecision.DENY)))
    assert (withdrawn.state, withdrawn.decided_by) == (State.DENIED, "noor")


def test_expiry_closes_what_is_due_and_nothing_else(desk: Desk) -> None:
    desk.create()
    assert desk.database.transact(approvals.expire_due) == []
    desk.shift += HOUR
    (closed,) = desk.database.transact(approvals.expire_due)
    assert (closed.state, closed.decided_by) == (State.EXPIRED, None)
    assert desk.database.transact(approvals.expire_due) == []


def test_cancelling_and_going_stale_happen_once(desk: Desk) -> None:
    desk.create()
    first = desk.database.transact(lambda tx: approvals.cancel(tx, "a", actor="rosa"))
    assert first is not None
    assert first.decided_by == "rosa"
    assert desk.database.transact(lambda tx: approvals.cancel(tx, "a", actor="rosa")) is None
    assert desk.database.transact(lambda tx: approvals.mark_stale(tx, "a", why="changed")) is None


PEOPLE = ("rosa", "amir", "noor", "lena")
VOTES = st.lists(
    st.builds(
        lambda person, decision, groups: Vote(person, decision, tuple(groups), EPOCH),
        st.sampled_from(PEOPLE),
        st.sampled_from(list(VoteDecision)),
        st.sets(st.sampled_from(["finance", "legal"])),
    ),
    unique_by=lambda vote: vote.person,
)
MEMBERSHIP = st.dictionaries(st.sampled_from(PEOPLE), st.frozensets(st.sampled_from(["finance", "legal"])))
REQUIREMENT = st.dictionaries(st.sampled_from(["finance", "legal"]), st.integers(-1, 3))


@given(cast=VOTES, groups=MEMBERSHIP, requirement=REQUIREMENT)
def test_what_counts_is_the_entitled_others_who_said_yes_and_every_group_needs_its_number(
    cast: list[Vote], groups: dict[str, frozenset[str]], requirement: dict[str, int]
) -> None:
    """The counting rule, against a plain restatement of it."""
    people = approvals.counted(cast, "rosa", lambda person: groups.get(person, frozenset()))
    yes = {vote.person for vote in cast if vote.decision is VoteDecision.APPROVE} - {"rosa"}
    for group in ("finance", "legal"):
        assert people.get(group, frozenset()) == {p for p in yes if group in groups.get(p, frozenset())}
    enough = bool(requirement) and all(
        n >= 1 and sum(group in groups.get(p, frozenset()) for p in yes) >= n for group, n in requirement.items()
    )
    assert approvals.satisfied(requirement, people) == enough


def everything(tx: Transaction) -> list[list[tuple[Any, ...]]]:
    tables = (approvals.approvals, approvals.votes, audit.audit)
    return [[tuple(row) for row in tx.execute(table.select()).all()] for table in tables]
