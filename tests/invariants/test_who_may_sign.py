"""I1 to I3: whose signature counts, how many it takes, and whether it still counts when the plan runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from actions import executions
from actions.signing import SignResult
from policies import approvals
from policies.approvals import State, VoteDecision
from policies.rules import RulesError
from records.schema import EPOCH
from tests.invariants.approval_world import LIFETIME, RULES, World


async def test_i01_the_requester_never_counts_as_approver(world: World) -> None:
    """I1: the requester is never counted as an approver where the rule asks for another person."""
    approval = await world.ask_for_signatures(who="amir")
    outcome = await world.click(approval, "amir")
    assert outcome.result is SignResult.NOT_ENTITLED
    assert (await world.approval(approval)).state is State.PENDING
    assert await world.execution_of(approval) is None
    assert (await world.click(approval, "noor")).result is SignResult.APPROVED


async def test_i01_a_vote_of_the_requester_in_the_table_counts_for_nothing(world: World) -> None:
    """I1, at its last line: a vote row that names the requester, however it got there, satisfies nothing."""
    approval = await world.ask_for_signatures("ledger.pay", who="amir")
    await world.database.write(
        lambda tx: tx.execute(
            approvals.votes.insert().values(
                approval_id=approval.id, person="amir", decision="approve", groups=["finance"], digest=approval.digest,
                at=tx.now,
            )
        )
    )  # fmt: skip
    assert (await world.click(approval, "noor")).result is SignResult.SIGNED
    assert await world.execution_of(approval) is None
    counted = approvals.counted((await world.approval(approval)).votes, "amir", lambda person: frozenset({"finance"}))
    assert counted == {"finance": {"noor"}}


async def test_i01_an_account_the_requester_had_does_not_approve_under_another_name(world: World) -> None:
    """I1: not through a second account or a linked identity."""
    world.change_person("rosa", slack=["T1/UROSA", "T1/USECOND"])
    approval = await world.ask_for_signatures()
    world.change_person("rosa", slack=["T1/UROSA"])
    world.change_person("ruth", slack=["T1/USECOND"], groups=["approvers"])
    outcome = await world.click(approval, "ruth")
    assert outcome.result is SignResult.NOT_ENTITLED
    assert await world.execution_of(approval) is None


async def test_i01_a_bot_never_counts(world: World) -> None:
    """I1: not through a bot."""
    approval = await world.ask_for_signatures()
    assert (await world.click(approval, "amir", is_bot=True)).result is SignResult.NOT_ENTITLED
    assert (await world.approval(approval)).votes == ()


async def test_i01_a_confirmation_is_the_requesters_own_and_no_approval(world: World) -> None:
    """I1: a confirmation is a different thing: the requester's alone, whatever groups others are in."""
    approval = await world.ask_for_signatures("ledger.tell")
    assert approval.confirmation
    assert approval.requirement == {}
    assert (await world.click(approval, "amir")).result is SignResult.NOT_ENTITLED
    outcome = await world.click(approval, "rosa")
    assert outcome.execution_id is not None
    assert await world.run(outcome.execution_id) is executions.State.DONE


async def test_i02_one_person_counts_once_however_often_they_click(world: World) -> None:
    """I2: N distinct people per required group."""
    approval = await world.ask_for_signatures("ledger.pay")
    assert approval.requirement == {"finance": 2}
    assert (await world.click(approval, "amir")).result is SignResult.SIGNED
    assert (await world.click(approval, "amir")).result is SignResult.ALREADY_SIGNED
    assert (await world.approval(approval)).state is State.PENDING
    assert await world.execution_of(approval) is None
    assert (await world.click(approval, "noor")).result is SignResult.APPROVED


async def test_i02_two_accounts_of_one_person_are_one_person(world: World) -> None:
    """I2: distinct people, not distinct accounts."""
    world.change_person("amir", teams=["t/amir"])
    approval = await world.ask_for_signatures("ledger.pay")
    await world.click(approval, "amir")
    again = await world.click(approval, "amir", surface="teams", account="teams:t/amir")
    assert again.result is SignResult.ALREADY_SIGNED
    assert await world.execution_of(approval) is None


def test_i02_a_denial_is_nobodys_signature() -> None:
    """I2: only those who said yes are counted."""
    denial = approvals.Vote("amir", VoteDecision.DENY, ("finance",), EPOCH)
    assert approvals.counted([denial], "rosa", lambda person: frozenset({"finance"})) == {}


@pytest.mark.parametrize("requirement", [{}, {"": 1}, {"approvers": 0}, {"approvers": -1}, {"approvers": 1, "x": 0}])
async def test_i02_a_request_for_nobodys_signature_cannot_be_made(world: World, requirement: dict[str, int]) -> None:
    """I2: N is at least one, of a named group."""
    with pytest.raises(ValueError, match="at least one person"):
        await world.database.write(
            lambda tx: approvals.create(
                tx,
                approval_id="a",
                tenant="default",
                plan_id="p",
                digest="d",
                requester="rosa",
                requester_identities=[],
                requirement=requirement,
                confirmation=False,
                rule_ids=[],
                reasons=[],
                policy_digest="d",
                lifetime=LIFETIME,
            )
        )
    assert await world.count(approvals.approvals) == 0
    assert not approvals.satisfied(requirement, {"approvers": frozenset({"amir"})})


@pytest.mark.parametrize("count", ["0", "-1", "", "many"])
def test_i02_a_rule_that_asks_for_nobody_is_not_loaded(world: World, tmp_path: Path, count: str) -> None:
    """I2: N ≥ 1 is validated when the rule is loaded."""
    folder = _rules(tmp_path, '@n("1")', f'@n("{count}")')
    with pytest.raises(RulesError, match="at least 1"):
        world.use_rules(folder)


def test_i02_a_rule_of_a_group_without_people_is_not_loaded(world: World, tmp_path: Path) -> None:
    """I2: an unknown group means no."""
    folder = _rules(tmp_path, '@group("approvers")', '@group("approverz")')
    with pytest.raises(RulesError, match="nobody active is in group approverz"):
        world.use_rules(folder)


async def test_i02_a_group_that_has_become_empty_means_no(world: World) -> None:
    """I2: an empty group means no: neither the request nor a vote cast before gets through."""
    before, execution_id = await world.approved()
    for person in ("amir", "noor"):
        world.change_person(person, groups=["finance"])
    assert (await world.ask()).plan is None, "nobody could sign, so nobody is asked"
    assert await world.run(execution_id) is executions.State.STALE
    assert world.ledger.effects == []
    assert (await world.approval(before)).state is State.STALE


@pytest.mark.parametrize(
    ("who", "change"),
    [
        ("amir", {"groups": ["finance"]}),
        ("amir", {"active": False}),
        ("rosa", {"active": False}),
        ("rosa", {"roles": []}),
    ],
)
async def test_i03_votes_count_only_if_voter_and_requester_are_entitled_at_execution(
    world: World, who: str, change: dict[str, object]
) -> None:
    """I3: votes count only if the voter is entitled at execution; the requester must still be permitted too."""
    approval, execution_id = await world.approved()
    world.change_person(who, **change)
    assert await world.run(execution_id) is executions.State.STALE
    assert world.ledger.calls == []
    assert (await world.approval(approval)).state is State.STALE
    assert [entry["kind"] for entry in await world.audited(approval.id)][-1] == "approval.stale"


async def test_i03_a_first_vote_that_lost_its_entitlement_does_not_help_the_second(world: World) -> None:
    """I3, when the deciding vote is cast: earlier voters are asked again."""
    approval = await world.ask_for_signatures("ledger.pay")
    await world.click(approval, "amir")
    world.change_person("amir", groups=["approvers"])
    assert (await world.click(approval, "noor")).result is SignResult.SIGNED
    assert await world.execution_of(approval) is None
    assert (await world.click(approval, "lena")).result is SignResult.APPROVED


async def test_i03_a_person_who_left_and_came_back_counts_again(world: World) -> None:
    """I3: what counts is how things stand at execution, not a trace of how they stood in between."""
    _, execution_id = await world.approved()
    world.change_person("amir", active=False)
    world.change_person("amir", active=True)
    assert await world.run(execution_id) is executions.State.DONE


async def test_i03_one_voter_leaving_undoes_a_decision_of_two(world: World) -> None:
    """I3: of two signatures that were needed, one no longer counts."""
    _, execution_id = await world.approved("ledger.pay")
    world.change_person("noor", groups=["approvers"])
    assert await world.run(execution_id) is executions.State.STALE
    assert world.ledger.effects == []


async def test_a_person_outside_the_group_may_neither_approve_nor_deny(world: World) -> None:
    """A click that does not count changes nothing and leaves the request open for those who may."""
    approval = await world.ask_for_signatures()
    for decision in VoteDecision:
        outcome = await world.click(approval, "omar", decision)
        assert outcome.result is SignResult.NOT_ENTITLED
        assert outcome.reason
    assert (await world.approval(approval)).state is State.PENDING


def _rules(tmp_path: Path, old: str, new: str) -> Path:
    """The shipped rules with one line changed."""
    folder = tmp_path / "rules"
    folder.mkdir()
    for path in RULES.iterdir():
        text = path.read_text()
        if path.name == "countersign.cedar":
            # The first rule that is no comment.
            head, rule, rest = text.partition('@id("destructive-needs-an-approver")')
            assert old in rest
            text = head + rule + rest.replace(old, new, 1)
        (folder / path.name).write_text(text)
    return folder
