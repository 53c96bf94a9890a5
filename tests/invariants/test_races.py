"""I7 with real processes: released together, they vote on the same approval and take the same execution, many times."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import tempfile
from collections import Counter
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from sqlalchemy import select

from actions import executions
from policies import approvals, audit
from policies.approvals import VoteDecision
from tests.invariants.approval_world import World

ROUNDS = 200 if os.environ.get("COUNTERSIGN_LONG_TESTS") else 30
PATIENCE_S = 60


def voter(url: str, who: str, decision: str, ids: list[str], barrier: Barrier, results: Any) -> None:
    """A process that clicks on each approval the moment all others do, and then runs what it ordered."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), url)
        told: list[str] = []
        effects: list[str] = []
        for approval_id in ids:
            approval = world.database.query(partial(approvals.find, approval_id=approval_id))
            assert approval is not None
            barrier.wait(PATIENCE_S)
            outcome = asyncio.run(world.click(approval, who, VoteDecision(decision)))
            told.append(str(outcome.result))
            barrier.wait(PATIENCE_S)
            execution = world.database.query(partial(executions.of_plan, plan_id=approval.plan_id))
            if execution is not None:
                asyncio.run(world.run(execution.id))
        effects += [record for _, record, _ in world.ledger.effects]
        world.close()
        results.put((told, effects))


def race(world: World, action: str, decisions: dict[str, str]) -> tuple[list[tuple[list[str], list[str]]], list[str]]:
    """Let one process a person loose on `ROUNDS` approvals; returns what each was told and did, and the approvals."""

    async def ask() -> list[str]:
        return [(await world.ask_for_signatures(action)).id for _ in range(ROUNDS)]

    ids = asyncio.run(ask())
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(len(decisions)), context.Queue()
    processes = [
        context.Process(target=voter, args=(world.database_url, who, decision, ids, barrier, results))
        for who, decision in decisions.items()
    ]
    for process in processes:
        process.start()
    told = [results.get(timeout=PATIENCE_S) for _ in processes]
    for process in processes:
        process.join(PATIENCE_S)
        assert process.exitcode == 0
    return told, ids


def states(world: World) -> tuple[Counter[str], Counter[str]]:
    """How the approvals and the executions ended."""
    read = world.database.query(
        lambda tx: (
            Counter(row.state for row in tx.execute(select(approvals.approvals.c.state))),
            Counter(row.state for row in tx.execute(select(executions.executions.c.state))),
        )
    )
    assert world.database.query(audit.verify) > 0
    return read


def test_i07_two_processes_that_approve_at_once_order_and_do_it_exactly_once(world: World) -> None:
    """I7: racing approvers, two workers: real processes, released by a barrier, every round."""
    outcomes, _ = race(world, "ledger.idempotent_key", {"amir": "approve", "noor": "approve"})
    told = Counter(tuple(sorted(pair)) for pair in zip(*(each[0] for each in outcomes), strict=True))
    assert told == {("approved", "decided"): ROUNDS}
    assert states(world) == (Counter(approved=ROUNDS), Counter(done=ROUNDS))
    effects = Counter(record for _, did in outcomes for record in did)
    assert len(effects) == ROUNDS
    assert set(effects.values()) == {1}


def test_i07_two_processes_whose_votes_are_both_needed_are_both_counted(world: World) -> None:
    """I7, I2: neither of two simultaneous votes overlooks the other, and the plan runs once."""
    outcomes, _ = race(world, "ledger.pay", {"amir": "approve", "noor": "approve"})
    told = Counter(tuple(sorted(pair)) for pair in zip(*(each[0] for each in outcomes), strict=True))
    assert told == {("approved", "signed"): ROUNDS}
    assert states(world) == (Counter(approved=ROUNDS), Counter(done=ROUNDS))
    effects = Counter(record for _, did in outcomes for record in did)
    assert set(effects.values()) == {1}
    assert len(effects) == ROUNDS


def test_i06_a_process_that_denies_at_the_same_moment_always_wins(world: World) -> None:
    """I6: a denial wins over a concurrent approval, between real processes too."""
    outcomes, _ = race(world, "ledger.blind", {"amir": "approve", "noor": "deny"})
    ended, ran = states(world)
    assert ended == Counter(denied=ROUNDS)
    assert set(ran) <= {"cancelled"}
    assert [did for _, did in outcomes] == [[], []]
