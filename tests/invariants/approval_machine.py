"""A model of the one road in plain Python, and a state machine that holds the product against it step by step."""

from __future__ import annotations

import asyncio
import hashlib
import random
import tempfile
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from actions import executions
from actions.catalogue import Repeat
from actions.executions import START_WITHIN
from actions.signing import SignResult
from policies import approvals, audit
from policies.approvals import Approval, VoteDecision
from records import outbox
from records.database import Transaction
from tests.invariants.approval_world import LEASE, LIFETIME, Crash, World, unreachable

T = TypeVar("T")

MOST_LIVE = 2
"""Requests under way at once: with more, none of them is ever brought to an end."""
GROUPS = {"amir": {"approvers", "finance"}, "noor": {"approvers", "finance"}, "lena": {"finance"}, "omar": set[str]()}
ACTIONS = {
    "ledger.idempotent_key": ("approvers", 1),
    "ledger.check_then_act": ("approvers", 1),
    "ledger.natural": ("approvers", 1),
    "ledger.blind": ("approvers", 1),
    "ledger.pay": ("finance", 2),
    "ledger.note": ("", 0),
}
ASKED_FOR = [*ACTIONS, *(f"ledger.{repeat}" for repeat in Repeat for _ in range(2))]
"""An action of each `Repeat` class comes up more often: that is where crashes matter."""
OLD_CLICKS = 2
"""Clicks on a card that cannot count; more of them only keep the machine from ending anything."""
OFTEN = {
    "ask": 6, "approve": 5, "click": 2, "deny": 3, "click on an old card": 1, "run": 3, "run later": 4, "crash": 6,
    "lose the connection": 2, "the record moves on": 1, "cancel": 1, "wait": 1, "wait for long": 1, "sweep": 1,
}  # fmt: skip
"""Biased towards ends: in an even machine hardly any request is ever executed."""
FINAL_APPROVALS = {"denied", "expired", "cancelled", "stale"}
FINAL_EXECUTIONS = {"done", "failed", "stale", "unknown", "cancelled", "expired"}


@dataclass
class Request:
    """What the model expects of one request."""

    record: str
    action: str
    plan_id: str
    approval: Approval | None
    execution_id: str | None
    signed: dict[str, str] = field(default_factory=dict)
    """Who signed what."""
    state: str = "pending"
    """The approval's state; `allowed` when the rules let it through."""
    run: str | None = None
    """The execution's state, `None` before it is ordered."""
    interrupted: bool = False
    changed: bool = False
    """The record moved on after it was shown."""
    may_be_unknown: bool = False
    """A call went out whose answer nobody saw."""

    useless_clicks: int = 0

    @property
    def over_and_clickable(self) -> bool:
        return not self.live and self.approval is not None and self.useless_clicks < OLD_CLICKS

    @property
    def live(self) -> bool:
        return self.state == "pending" or (self.run is not None and self.run not in FINAL_EXECUTIONS)


class ApprovalMachine(RuleBasedStateMachine):
    """Asks, signs, denies, waits, crashes and tampers; the model says what must come of it.

    Use it with `run_state_machine_as_test`; `reached` counts the endings it came to.
    """

    reached: ClassVar[Counter[str]] = Counter()
    database_url: ClassVar[str | None] = None
    """None is a new SQLite file for each run."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="machine-")
        folder = Path(self._folder.name)
        self.loop = asyncio.new_event_loop()
        self.world = World(folder, self.database_url or f"sqlite:///{folder / 'world.db'}")
        self.requests: list[Request] = []
        self.dice = ""
        self.ended: dict[str, tuple[Any, ...]] = {}

    def teardown(self) -> None:
        if self.database_url is not None:
            self.world.clear()
        self.world.close()
        self.loop.close()
        self._folder.cleanup()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def count(self, what: str) -> None:
        type(self).reached[what] += 1

    # -- what people and processes do ---------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self._ask(ASKED_FOR[0])

    @rule(seed=st.integers(0, 2**62))
    def something_happens(self, seed: int) -> None:
        """One rule that throws its own dice.

        Left to choose among rules and values, Hypothesis leaves some out of whole runs and repeats others: of ninety
        interruptions not one then fell behind a call that cannot be repeated.
        """
        # What was thrown before counts too: Hypothesis likes to repeat whole stretches of a run in another one.
        self.dice = hashlib.sha256(f"{self.dice}|{seed}".encode()).hexdigest()
        chance = random.Random(self.dice)
        step = chance.choices(list(OFTEN), list(OFTEN.values()))[0]
        action = chance.choice(ASKED_FOR)
        who = chance.choice(["amir", "noor", "lena", "omar", "rosa"])
        picked = chance.randrange(MOST_LIVE)
        point = chance.choice(["after_intent", "after_call", "before_done"])
        live = [request for request in self.requests if request.live]
        pending = [request for request in live if request.state == "pending"]
        ready = [request for request in live if request.run == "ready"]
        taken = [request for request in live if request.run in ("ready", "executing")]
        over = [request for request in self.requests if request.over_and_clickable]

        def one(of: list[Request]) -> Request:
            return of[picked % len(of)]

        match step:
            case "ask" if len(live) < MOST_LIVE:
                self._ask(action)
            case "approve" if pending:
                for each in ("amir", "noor"):
                    self._click(one(pending), each, VoteDecision.APPROVE)
            case "click" if live:
                self._click(one(live), who, VoteDecision.APPROVE)
            case "deny" if live:
                self._click(one(live), who, VoteDecision.DENY)
            case "click on an old card" if over:
                over[0].useless_clicks += 1
                self._click(over[0], who, chance.choice(list(VoteDecision)))
            case "run" if taken:
                self._run(one(taken))
            case "run later" if taken:
                self.world.let_pass(timedelta(minutes=3))
                self._run(one(taken))
            case "crash" if ready:
                self._run(one(ready), crash_at=point)
            case "lose the connection" if ready:
                faults = self.world.ledger.after if point == "after_call" else self.world.ledger.before
                faults.append(unreachable)
                self._run(one(ready), unreachable_once=True)
                faults.clear()
            case "the record moves on" if live:
                versions = self.world.ledger.versions
                versions[one(live).record] = versions.get(one(live).record, 1) + 1
                one(live).changed = True
            case "cancel" if pending:
                self._cancel(one(pending))
            case "wait":
                self.world.let_pass(timedelta(minutes=5))
            case "wait for long" if live:
                self.world.let_pass(START_WITHIN if any(request.run for request in live) else LIFETIME)
                self._sweep()
            case "sweep":
                self._sweep()
            case _ if not live:
                self._ask(action)

    # -- what the model expects ---------------------------------------------------------------------------------------

    def _ask(self, action: str) -> None:
        record = f"R{len(self.requests)}"
        submission = self.do(self.world.ask(action, record=record, note=f"note {record}"))
        assert submission.plan is not None
        group, _ = ACTIONS[action]
        request = Request(record, action, submission.plan.id, submission.approval, submission.execution_id)
        assert (submission.approval is None) == (not group)
        if not group:
            request.state, request.run = "allowed", "ready"
        self.requests.append(request)

    def _cancel(self, request: Request) -> None:
        assert request.approval is not None
        assert self.do(self.world.road.cancel(request.approval.id, actor="rosa"))
        request.state = "cancelled"
        self.count("cancelled")

    def _click(self, request: Request, who: str, decision: VoteDecision) -> None:
        if request.approval is None:
            return
        outcome = self.do(self.world.click(request.approval, who, decision))
        group, needed = ACTIONS[request.action]
        expired = request.state == "pending" and self._now() >= request.approval.expires_at
        if request.state == "pending" and not expired and group in GROUPS.get(who, ()):
            if who in request.signed:
                assert outcome.result is SignResult.ALREADY_SIGNED
                return
            request.signed[who] = decision
            if decision is VoteDecision.DENY:
                request.state = "denied"
                self.count("denied")
            elif sum(each is VoteDecision.APPROVE for each in request.signed.values()) >= needed:
                request.state, request.run = "approved", "ready"
                request.execution_id = outcome.execution_id
                assert outcome.execution_id is not None
                self.count("approved")
            expected = {"denied": SignResult.DENIED, "approved": SignResult.APPROVED, "pending": SignResult.SIGNED}
            assert outcome.result is expected[request.state]
            return
        if request.state == "approved" and decision is VoteDecision.DENY and group in GROUPS.get(who, ()):
            if outcome.result is SignResult.DENIED:
                assert request.run == "ready"
                assert not request.interrupted
                request.state, request.run = "denied", "cancelled"
                self.count("withdrawn")
            else:
                assert request.run != "ready" or request.interrupted
                assert outcome.result is SignResult.DECIDED
            return
        assert outcome.execution_id is None
        assert outcome.result in (
            SignResult.NOT_ENTITLED, SignResult.DECIDED, SignResult.EXPIRED, SignResult.STALE,
        )  # fmt: skip
        self.count("clicks that did not count")

    def _run(self, request: Request, *, crash_at: str | None = None, unreachable_once: bool = False) -> None:
        assert request.execution_id is not None
        before = self.do(self.world.execution(request.execution_id))
        begun = before.sending is not None or before.step > 0
        crashed = False

        def fault(point: str) -> None:
            if point == crash_at:
                raise Crash

        reached = None
        try:
            reached = self.do(self.world.run(request.execution_id, fault))
        except Crash:
            crashed = True
            self.count("interrupted")
            self.count(f"interrupted {crash_at}")
            self.count(f"interrupted in {request.action}")
        after = self.do(self.world.execution(request.execution_id))
        if request.state == "approved" and after.state == "stale":
            request.state = "stale"
        if reached is None and not crashed:
            # Not due, held by a dead worker, or too late: nothing was touched.
            assert after == before
            return
        request.run = str(after.state)
        request.interrupted = True
        request.may_be_unknown = request.may_be_unknown or crashed or unreachable_once
        if not begun and request.changed and before.sending is None:
            assert reached is executions.State.STALE or crashed, "acted on a record that had changed"
        match reached:
            case executions.State.STALE:
                assert request.changed
                self.count("stale")
            case executions.State.UNKNOWN:
                assert request.may_be_unknown
                self.count("unknown")
            case executions.State.DONE:
                self.count("executed")
                if begun:
                    self.count("executed after an interruption")
            case executions.State.READY:
                self.count("put off")

    def _sweep(self) -> None:
        for request in self.requests:
            if request.state == "pending" and request.approval and self._now() >= request.approval.expires_at:
                request.state = "expired"
                self.count("expired")
        self.do(self.world.sweep.once())
        for request in self.requests:
            if request.run in ("ready", "executing") and request.execution_id is not None:
                row = self.do(self.world.execution(request.execution_id))
                if row.state is executions.State.EXPIRED:
                    assert row.start_before <= self._now()
                    assert row.sending is None
                    assert row.step == 0
                    request.run = "expired"
                    self.count("not started in time")

    @invariant()
    def the_database_says_what_the_model_says(self) -> None:
        def read(tx: Transaction) -> tuple[dict[str, Any], dict[str, Any], int]:
            return (
                {row.plan_id: row for row in tx.execute(approvals.approvals.select()).all()},
                {row.plan_id: row for row in tx.execute(executions.executions.select()).all()},
                audit.verify(tx),
            )

        asked, ordered, _ = self.world.database.query(read)
        effects = Counter(record for _, record, _ in self.world.ledger.effects)
        for request in self.requests:
            approval, execution = asked.get(request.plan_id), ordered.get(request.plan_id)
            assert (approval.state if approval else "allowed") == request.state
            assert (execution.state if execution else None) == request.run
            happened = effects[request.record]
            assert happened <= 1, "an effect happened twice"
            if happened:
                assert request.state in ("approved", "allowed", "stale"), "an effect without a yes"
                assert request.run in ("done", "unknown", "executing", "ready")
            if request.run == "done":
                assert happened == 1, "done, and nothing happened"
            for row, final in ((approval, FINAL_APPROVALS), (execution, FINAL_EXECUTIONS)):
                if row is not None and row.state in final:
                    assert self.ended.setdefault(f"{row.id}", tuple(row)) == tuple(row), "a final state changed"
        assert set(effects) <= {request.record for request in self.requests}

    @invariant()
    def nothing_done_is_left_in_the_outbox(self) -> None:
        def read(tx: Transaction) -> list[str]:
            ended = [str(request.execution_id) for request in self.requests if request.run in FINAL_EXECUTIONS]
            return [each for each in ended if outbox.generation(tx, outbox.EXECUTE, each) is not None]

        assert self.world.database.query(read) == []

    def _now(self) -> Any:
        return self.world.database.query(lambda tx: tx.now)


assert timedelta(minutes=3) > LEASE, "a dead worker's lease runs out in one wait"
assert len(Repeat) == 4, "the machine knows an action of each class"
