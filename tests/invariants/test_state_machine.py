"""The whole road against its model, over runs of eighty steps; and how often each ending was really reached.

`COUNTERSIGN_LONG_TESTS=1` makes many more runs.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from actions.catalogue import Repeat
from tests.invariants.approval_machine import ApprovalMachine

LONG = bool(os.environ.get("COUNTERSIGN_LONG_TESTS"))
RUNS = {"sqlite": 400 if LONG else 40, "postgresql": 80 if LONG else 10}
STEPS = 80

AT_LEAST = {
    "approved": 3.0,
    "denied": 0.5,
    "expired": 0.4,
    "executed": 2.0,
    "executed after an interruption": 1.0,
    "interrupted": 1.2,
    "stale": 0.4,
    "unknown": 0.15,
    "withdrawn": 0.1,
    "cancelled": 0.5,
    "put off": 0.2,
    "not started in time": 0.2,
    "clicks that did not count": 4.0,
    **{f"interrupted {point}": 0.25 for point in ("after_intent", "after_call", "before_done")},
    **{f"interrupted in ledger.{repeat}": 0.15 for repeat in Repeat},
}
"""Times a run, on average; below that, a green result would say little."""


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_eighty_random_steps_never_leave_the_model_and_reach_every_ending(
    dialect: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """At every step: one effect a plan at most, none without a yes, terminal states absorb, the audit log verifies."""
    url = request.getfixturevalue("postgres") if dialect == "postgresql" else None
    reached: Counter[str] = Counter()
    machine = type("Machine", (ApprovalMachine,), {"reached": reached, "database_url": url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=RUNS[dialect],
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=not LONG,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
    with capsys.disabled():
        shown = ", ".join(f"{what} {times}" for what, times in sorted(reached.items()))
        print(f"\n{dialect}: {RUNS[dialect]} runs of {STEPS} steps reached: {shown}")
    if dialect == "sqlite":
        short = {what: reached[what] for what, often in AT_LEAST.items() if reached[what] < often * RUNS[dialect]}
        assert short == {}, f"too seldom: {short} of {dict(reached)}"
    else:
        assert all(reached[what] for what in ("approved", "denied", "expired", "executed", "stale")), reached
