"""I7: at most one effect per plan, whatever crashes, races or comes twice; and none lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from actions import executions, plans
from actions.catalogue import Repeat
from actions.executions import FenceLost, State
from policies import approvals
from records import outbox
from records.database import Transaction
from tests.invariants.approval_world import LEASE, Crash, World, unreachable

REPEATS = [repeat.value for repeat in Repeat]


async def test_i07_a_crash_after_the_vote_commits_loses_nothing(world: World) -> None:
    """I7, fault point: after the vote commits. Nobody was woken; the sweep finds the order, and it runs once."""
    approval = await world.ask_for_signatures()

    def crash() -> None:
        raise Crash

    world.hints.on_send = crash
    with pytest.raises(Crash):
        await world.click(approval, "amir")
    world.hints.on_send = lambda: None
    assert (await world.approval(approval)).state is approvals.State.APPROVED
    world.let_pass(timedelta(seconds=5))
    assert await world.sweep.once() == 1
    assert await world.run(world.hints.sent[-1]) is State.DONE
    assert len(world.ledger.effects) == 1


async def test_i07_a_crash_after_the_outbox_row_leaves_no_half_of_a_decision(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I7, fault point: after the outbox row, before the commit. The click left nothing and can be repeated."""
    approval = await world.ask_for_signatures()
    real = outbox.put

    def crash_behind(tx: Transaction, topic: str, subject: str, *, delay: timedelta = timedelta()) -> None:
        real(tx, topic, subject, delay=delay)
        if topic == outbox.EXECUTE:
            raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(outbox, "put", crash_behind)
        with pytest.raises(Crash):
            await world.click(approval, "amir")
    standing = await world.approval(approval)
    assert (standing.state, standing.votes) == (approvals.State.PENDING, ())
    assert await world.execution_of(approval) is None
    assert [entry["kind"] for entry in await world.audited(approval.id)] == ["approval.requested"]
    outcome = await world.click(approval, "amir")
    assert outcome.execution_id is not None
    assert await world.run(outcome.execution_id) is State.DONE
    assert len(world.ledger.effects) == 1


@pytest.mark.parametrize("repeat", REPEATS)
@pytest.mark.parametrize("point", ["after_intent", "after_call", "before_done"])
async def test_i07_a_worker_that_dies_at_any_point_is_followed_by_one_that_ends_it_once(
    world: World, repeat: str, point: str
) -> None:
    """I7, fault points: after the intent, after the provider call, before done; each `Repeat` class."""
    _, execution_id = await world.approved(f"ledger.{repeat}")
    await world.crash_at(execution_id, point)
    reached = await world.run(execution_id)
    if repeat == Repeat.BLIND and point != "before_done":
        # Nobody can know; a person is asked, and it is never called a second time.
        assert reached is State.UNKNOWN
        assert "may or may not" in str((await world.execution(execution_id)).message)
        assert len(world.ledger.calls) == (0 if point == "after_intent" else 1)
    else:
        assert reached is State.DONE
        assert len(world.ledger.effects) == 1
    world.let_pass(LEASE)
    assert await world.run(execution_id) is None
    assert len(world.ledger.effects) <= 1


@pytest.mark.parametrize("repeat", REPEATS)
async def test_i07_a_worker_that_dies_again_and_again_still_acts_once(world: World, repeat: str) -> None:
    """I7: several crashes of one execution, one after the other."""
    _, execution_id = await world.approved(f"ledger.{repeat}")
    for point in ("after_intent", "after_call"):
        try:
            await world.crash_at(execution_id, point)
        except AssertionError:
            break
    await world.run(execution_id)
    assert len(world.ledger.effects) <= 1
    assert (await world.execution(execution_id)).state is (State.UNKNOWN if repeat == Repeat.BLIND else State.DONE)


@pytest.mark.parametrize("repeat", REPEATS)
@pytest.mark.parametrize("arrived", [True, False])
async def test_i07_a_lost_connection_is_treated_by_the_declared_class(world: World, repeat: str, arrived: bool) -> None:
    """I7: the call may or may not have arrived; trying again is safe or is not done."""
    _, execution_id = await world.approved(f"ledger.{repeat}")
    (world.ledger.after if arrived else world.ledger.before).append(unreachable)
    reached = await world.run(execution_id)
    if repeat == Repeat.BLIND:
        assert reached is State.UNKNOWN
        assert len(world.ledger.calls) == 1
        return
    assert reached is State.READY
    world.let_pass(timedelta(minutes=1))
    assert await world.run(execution_id) is State.DONE
    assert len(world.ledger.effects) == 1


async def test_i07_an_action_that_changed_while_its_call_was_out_is_not_called_not_done(world: World) -> None:
    """I7: what may have happened is never reported as not done."""
    _, execution_id = await world.approved()
    await world.crash_at(execution_id, "after_call")
    world.ledger.version = 2
    world.redeploy()
    assert await world.run(execution_id) is State.UNKNOWN
    assert "Nothing was done" not in str((await world.execution(execution_id)).message)


async def test_i07_a_stale_worker_changes_nothing(world: World) -> None:
    """I7: a worker taken for dead comes back with an old fence: every write of its is refused."""
    _, execution_id = await world.approved("ledger.check_then_act")
    frozen = await world.database.write(lambda tx: executions.claim(tx, execution_id, lease=LEASE))
    assert frozen is not None
    world.let_pass(LEASE)
    assert await world.run(execution_id) is State.DONE
    after = await world.execution(execution_id)
    entries = len(await world.audited())

    def writes(tx: Transaction) -> None:
        for write in (
            lambda: executions.about_to_send(tx, frozen, 0, lease=LEASE),
            lambda: executions.completed_call(tx, frozen, 0, {"record": "x", "text": "x", "url": "x"}),
            lambda: executions.finish(tx, frozen, State.FAILED, "x"),
            lambda: executions.try_later(tx, frozen, LEASE, "x"),
        ):
            with pytest.raises(FenceLost):
                write()

    await world.database.write(writes)
    assert await world.execution(execution_id) == after
    assert len(await world.audited()) == entries


async def test_i07_a_stale_worker_sends_nothing_while_the_new_one_runs(world: World) -> None:
    """I7: the old worker thaws between the new one's claim and its end."""
    _, execution_id = await world.approved("ledger.check_then_act")
    old = await world.database.write(lambda tx: executions.claim(tx, execution_id, lease=LEASE))
    assert old is not None
    world.let_pass(LEASE)
    new = await world.database.write(lambda tx: executions.claim(tx, execution_id, lease=LEASE))
    assert new is not None
    assert new.fence == old.fence + 1
    with pytest.raises(FenceLost):
        await world.database.write(lambda tx: executions.about_to_send(tx, old, 0, lease=LEASE))


async def test_i07_a_worker_that_gave_it_back_changes_nothing(world: World) -> None:
    """I7: between two tries nobody holds it; the fence alone would still be the old worker's."""
    _, execution_id = await world.approved()
    held = await world.database.write(lambda tx: executions.claim(tx, execution_id, lease=LEASE))
    assert held is not None
    await world.database.write(lambda tx: executions.try_later(tx, held, LEASE, "away"))
    with pytest.raises(FenceLost):
        await world.database.write(lambda tx: executions.finish(tx, held, State.DONE, "x"))
    assert (await world.execution(execution_id)).state is State.READY


async def test_i07_a_call_is_covered_by_its_lease_however_long_the_check_before_it_took(world: World) -> None:
    """I7: a slow look at the target must not leave a second worker room to act while the first call is out."""
    _, execution_id = await world.approved("ledger.check_then_act")
    world.ledger.reading.append(lambda: world.let_pass(timedelta(seconds=25)))
    second: list[State | None] = []

    def intruder() -> None:
        world.let_pass(timedelta(seconds=15))
        claimed = world.database.transact(lambda tx: executions.claim(tx, execution_id, lease=LEASE))
        second.append(None if claimed is None else claimed.state)

    world.ledger.before.append(intruder)
    # The connector is asked on the event loop; its own transaction runs on the database's threads.
    assert await world.run(execution_id) is State.DONE
    assert second == [None]
    assert len(world.ledger.effects) == 1


@pytest.mark.parametrize("repeat", REPEATS)
async def test_i07_many_workers_with_the_same_hint_act_once(world: World, repeat: str) -> None:
    """I7: queue retries, two workers."""
    _, execution_id = await world.approved(f"ledger.{repeat}")
    reached = await asyncio.gather(*(world.run(execution_id) for _ in range(5)))
    assert sorted(filter(None, reached)) == [State.DONE]
    assert len(world.ledger.calls) == 1
    assert len(world.ledger.effects) == 1


async def test_i07_double_clicks_and_racing_approvers_order_it_once(world: World) -> None:
    """I7: double click, racing approvers."""
    approval = await world.ask_for_signatures("ledger.pay")
    clicks = [world.click(approval, who) for who in ("amir", "noor", "lena") * 2]
    outcomes = await asyncio.gather(*clicks)
    assert sum(outcome.execution_id is not None for outcome in outcomes) == 1
    assert await world.count(executions.executions) == 1
    execution = await world.execution_of(approval)
    assert execution is not None
    assert await world.run(execution.id) is State.DONE
    assert len(world.ledger.effects) == 1
    kinds = [entry["kind"] for entry in await world.audited(execution.id)]
    assert kinds.count("execution.ordered") == 1


async def test_i07_a_platforms_retry_of_the_request_makes_no_second_plan(world: World) -> None:
    """I7: platform retries, also of a request that needs nobody's click, also at once."""
    submissions = await asyncio.gather(*(world.ask("ledger.note", request_id="retried", record="A") for _ in range(4)))
    assert await world.count(plans.plans) == 1
    assert await world.count(executions.executions) == 1
    identity = next(s.execution_id for s in submissions if s.execution_id)
    await asyncio.gather(*(world.run(identity) for _ in range(3)))
    assert len(world.ledger.effects) == 1


async def test_i07_a_retried_click_after_the_end_changes_nothing(world: World) -> None:
    """I7: restart and redelivery after it is all over."""
    approval, execution_id = await world.approved()
    await world.run(execution_id)
    before = await world.execution(execution_id)
    assert (await world.click(approval, "amir")).execution_id is None
    assert (await world.click(approval, "noor")).execution_id is None
    assert await world.run(execution_id) is None
    assert await world.execution(execution_id) == before
    assert len(world.ledger.effects) == 1


async def test_the_real_ticketing_system_closes_a_ticket_once_over_every_crash(world: World) -> None:
    """The shipped connector dedupes by key: a crash after its call, then the same call again."""
    made = await world.ticketing.perform("ticketing.create", {"title": "A lamp"}, key="k", expected=None)
    _, execution_id = await world.approved("ticketing.close", ticket=made.record)
    for point in ("after_intent", "after_call", "before_done"):
        await world.crash_at(execution_id, point)
    assert await world.run(execution_id) is State.DONE
    ticket = await world.ticketing.ticket(made.record)
    assert (ticket.state, ticket.version) == ("closed", 2)
