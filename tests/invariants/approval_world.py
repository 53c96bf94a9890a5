"""A small world for the invariants: the real store, rules and road, with connectors whose faults are switched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Table, func, select

# Every module of tables, so that `metadata` is whole.
import bot.teams.conversations
import handlers.deliveries
import records.inbox
from actions import executions, plans
from actions.catalogue import (
    ActionClass,
    ActionSpec,
    Catalogue,
    Effect,
    Refused,
    Repeat,
    Reversibility,
    Target,
    TargetChanged,
    Unreachable,
)
from actions.connectors.sandbox_ticketing import SandboxTicketing
from actions.execute import Executor, FaultPoint, no_fault
from actions.executions import Execution
from actions.hints import Hints
from actions.judgement import Judgement
from actions.road import Also, Road, Submission, WantedCall, nothing_else
from actions.signing import Envelope, SignOutcome
from actions.sweep import Sweep
from policies import approvals, audit
from policies.approvals import Approval, VoteDecision
from policies.people import Directory
from policies.rules import Rules
from records.database import Database, Transaction
from records.schema import metadata

TABLES = (bot.teams.conversations, handlers.deliveries, records.inbox)
RULES = Path(__file__).parents[2] / "policies" / "rules"
TENANT = "default"
LIFETIME = timedelta(hours=24)
LEASE = timedelta(seconds=40)
"""Longer than any claim lasts here."""

PEOPLE: dict[str, dict[str, Any]] = {
    "rosa": {"groups": ["support"]},
    "amir": {"groups": ["approvers", "finance"]},
    "noor": {"groups": ["approvers", "finance"]},
    "lena": {"groups": ["finance", "security-admins"]},
    "omar": {"groups": ["support", "security-admins"]},
}
"""Rosa asks. Amir and Noor sign for approvers, with Lena for finance. Omar may sign neither."""


class Crash(BaseException):
    """A process that dies: nothing in the product may catch it."""


class Record(BaseModel):
    """Arguments of the ledger's actions."""

    model_config = ConfigDict(extra="forbid")

    record: str
    note: str = ""


Fault = Callable[[], None]


def unreachable() -> None:
    """A connection that breaks."""
    raise Unreachable("The ledger does not answer.")


@dataclass
class Ledger:
    """A connector of one action a `Repeat` class, and one a risk; counts what it did to the world."""

    name: str = "ledger"
    version: int = 1
    lost: set[str] = field(default_factory=set)
    """Actions that are no longer offered."""
    versions: dict[str, int] = field(default_factory=dict)
    """Version of each record; 1 when it was never changed."""
    effects: list[tuple[str, str, str]] = field(default_factory=list)
    """(action, record, key), one for each time the world changed."""
    calls: list[str] = field(default_factory=list)
    """Keys of all calls that arrived."""
    before: list[Fault] = field(default_factory=list)
    """Taken one a call, before it acts."""
    after: list[Fault] = field(default_factory=list)
    """Taken one a call, when it has acted and before it answers."""
    reading: list[Fault] = field(default_factory=list)
    """Taken one a look at a target."""
    _values: dict[str, str] = field(default_factory=dict)

    @property
    def actions(self) -> tuple[ActionSpec, ...]:
        def spec(name: str, action_class: ActionClass, repeat: Repeat, reversibility: Reversibility) -> ActionSpec:
            return ActionSpec(
                name=f"ledger.{name}",
                version=self.version,
                title=name.capitalize(),
                description=name,
                arguments=Record,
                action_class=action_class,
                reversibility=reversibility,
                repeat=repeat,
                owner="finance",
                target_argument="record",
                timeout=timedelta(seconds=20),
            )

        risky = (ActionClass.DESTRUCTIVE, Reversibility.COMPENSABLE)
        offered = [
            spec(repeat.value, risky[0], repeat, risky[1])
            for repeat in (Repeat.IDEMPOTENT_KEY, Repeat.CHECK_THEN_ACT, Repeat.NATURAL, Repeat.BLIND)
        ]
        offered.append(spec("pay", ActionClass.MONEY, Repeat.IDEMPOTENT_KEY, Reversibility.IRREVERSIBLE))
        offered.append(spec("note", ActionClass.EXTERNAL, Repeat.IDEMPOTENT_KEY, Reversibility.REVERSIBLE))
        offered.append(spec("tell", ActionClass.EXTERNAL, Repeat.IDEMPOTENT_KEY, Reversibility.IRREVERSIBLE))
        return tuple(spec for spec in offered if spec.name not in self.lost)

    async def read_target(self, action: str, record: str) -> Target:
        if self.reading:
            self.reading.pop(0)()
        return Target(record, f"Record {record}", str(self.versions.get(record, 1)), f"https://ledger.example/{record}")

    async def read(self, action: str, arguments: Mapping[str, Any]) -> Sequence[Target]:
        raise Refused("The ledger has nothing to look up.")

    async def perform(self, action: str, arguments: Mapping[str, Any], *, key: str, expected: str | None) -> Effect:
        self.calls.append(key)
        if self.before:
            self.before.pop(0)()
        record = str(arguments["record"])
        known = any(effect[2] == key for effect in self.effects)
        repeat = next(spec.repeat for spec in self.actions if spec.name == action)
        if not (known and repeat is Repeat.IDEMPOTENT_KEY):
            if expected not in (None, str(self.versions.get(record, 1))) and not known:
                raise TargetChanged(f"{record} was changed by someone else.")
            # Setting the same value twice changes the world once.
            if not (repeat is Repeat.NATURAL and self._values.get(record) == str(arguments["note"])):
                self.effects.append((action, record, key))
            self._values[record] = str(arguments["note"])
        if self.after:
            self.after.pop(0)()
        return Effect(record, f"Did {action} to {record}.", f"https://ledger.example/{record}")

    async def find_effect(self, action: str, key: str) -> Effect | None:
        found = next((effect for effect in self.effects if effect[2] == key), None)
        return found and Effect(found[1], f"Did {action} to {found[1]}.", f"https://ledger.example/{found[1]}")

    async def close(self) -> None:
        """Nothing to release."""


class HeldHints(Hints):
    """Hints that are kept in a list; with `away`, as if Redis did not answer."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.away = False
        self.on_send: Callable[[], None] = lambda: None

    def send(self, execution_id: str) -> bool:
        self.on_send()
        if self.away:
            return False
        self.sent.append(execution_id)
        return True

    def room(self) -> int:
        return 0 if self.away else 40


class World:
    """One installation without surfaces.

    submission = await world.ask("ledger.blind", record="A")
    outcome = await world.click(submission.approval, "amir")
    await world.run(outcome.execution_id)
    """

    def __init__(self, folder: Path, database_url: str, *, rules: Path = RULES) -> None:
        self.folder = folder
        self.database_url = database_url
        self.shift = timedelta()
        self.people = {name: {**entry} for name, entry in PEOPLE.items()}
        self._write_people()
        self.database = Database(database_url, clock_shift=lambda: self.shift)
        metadata.create_all(self.database.engine)
        self.directory = Directory.load(folder / "people.yaml")
        self.ledger = Ledger()
        self.ticketing = SandboxTicketing(folder / "ticketing.db", "https://tickets.example")
        self.hints = HeldHints()
        self._requests = 0
        self.use_rules(rules)

    def use_rules(self, folder: Path) -> None:
        """Put other rule files in force, as a restart would."""
        self.rules = Rules.load(folder, self.directory)
        self.redeploy()

    def redeploy(self) -> None:
        """Build everything above the store again, from the connectors as they are now."""
        self.catalogue = Catalogue([self.ledger, self.ticketing])
        self.judgement = Judgement(self.rules, self.directory, self.catalogue, tenant=TENANT)
        self.road = Road(self.database, self.catalogue, self.judgement, self.hints, lifetime=LIFETIME)
        self.sweep = Sweep(self.database, self.hints)

    def change_person(self, person_id: str, **changes: Any) -> None:
        """Edit the people file, and have it read."""
        self.people[person_id] = {**self.people.get(person_id, {"groups": []}), **changes}
        self._write_people()
        self.directory.refresh()

    def _write_people(self) -> None:
        people = [
            {
                "id": name,
                "name": name.capitalize(),
                "roles": ["employee"],
                "slack": [f"T1/U{name.upper()}"],
                **entry,
            }
            for name, entry in self.people.items()
        ]
        (self.folder / "people.yaml").write_text(yaml.safe_dump({"people": people}))

    def envelope(self, person_id: str, **flags: Any) -> Envelope:
        """What the platform vouches for when this person acts."""
        envelope = Envelope(
            person=self.directory.person(person_id),
            account=f"slack:T1/U{person_id.upper()}",
            surface="slack",
            is_guest=False,
            is_bot=False,
            is_external=False,
            place_internal=True,
        )
        return replace(envelope, **flags)

    async def ask(
        self,
        action: str = "ledger.idempotent_key",
        *,
        who: str = "rosa",
        request_id: str | None = None,
        also: Also = nothing_else,
        **arguments: Any,
    ) -> Submission:
        """Have a plan of one call proposed."""
        self._requests += 1
        arguments = {"record": f"R{self._requests}", "note": "please", **arguments}
        if action.startswith("ticketing"):
            del arguments["record"], arguments["note"]
        return await self.road.submit(
            [WantedCall(action, arguments)],
            asker=self.envelope(who),
            request_id=request_id or f"request-{self._requests}",
            reason="because",
            also=also,
        )

    async def ask_for_signatures(self, action: str = "ledger.idempotent_key", **how: Any) -> Approval:
        """Have a plan proposed that needs somebody's click."""
        submission = await self.ask(action, **how)
        assert submission.approval is not None, submission.decision
        return submission.approval

    async def click(
        self,
        approval: Approval,
        who: str,
        decision: VoteDecision = VoteDecision.APPROVE,
        *,
        digest: str | None = None,
        **flags: Any,
    ) -> SignOutcome:
        """Press a button of the approval's card."""
        return await self.road.sign(
            approval.id,
            clicker=self.envelope(who, **flags),
            decision=decision,
            displayed_digest=digest or approval.digest,
        )

    async def approved(self, action: str = "ledger.idempotent_key", **how: Any) -> tuple[Approval, str]:
        """A plan that Amir (and Noor, for money) approved; returns the approval and the execution's id."""
        approval = await self.ask_for_signatures(action, **how)
        outcome = await self.click(approval, "amir")
        if outcome.execution_id is None:
            outcome = await self.click(approval, "noor")
        assert outcome.approval is not None
        assert outcome.execution_id is not None
        return outcome.approval, outcome.execution_id

    def executor(self, fault_point: FaultPoint = no_fault) -> Executor:
        """A worker."""
        return Executor(
            self.database, self.catalogue, self.judgement, ended=lambda plan_id: None, fault_point=fault_point
        )

    async def run(self, execution_id: str, fault_point: FaultPoint = no_fault) -> executions.State | None:
        """Have a new worker take the execution."""
        return await self.executor(fault_point).run(execution_id)

    async def crash_at(self, execution_id: str, point: str) -> None:
        """Have a worker take the execution and die at a fault point; then let its lease run out."""

        def fault(reached: str) -> None:
            if reached == point:
                raise Crash

        try:
            await self.run(execution_id, fault)
        except Crash:
            self.let_pass(LEASE)
            return
        raise AssertionError(f"the run never reached {point}")

    def let_pass(self, time: timedelta) -> None:
        """Move the database's clock."""
        self.shift += time

    async def approval(self, approval: Approval) -> Approval:
        """The approval as it stands."""
        found = await self.database.read(lambda tx: approvals.find(tx, approval.id))
        assert found is not None
        return found

    async def execution(self, identity: str) -> Execution:
        """The execution as it stands."""
        found = await self.database.read(lambda tx: executions.find(tx, identity))
        assert found is not None
        return found

    async def execution_of(self, approval: Approval) -> Execution | None:
        """The approval's execution, None while there is none."""
        return await self.database.read(lambda tx: executions.of_plan(tx, approval.plan_id))

    async def plan(self, approval: Approval) -> plans.StoredPlan:
        """The approval's plan."""
        found = await self.database.read(lambda tx: plans.find(tx, approval.plan_id))
        assert found is not None
        return found

    async def count(self, table: Table) -> int:
        """Rows of a table."""
        counted: int = await self.database.read(
            lambda tx: tx.execute(select(func.count()).select_from(table)).scalar_one()
        )
        return counted

    async def change(self, table: Table, condition: Any, **values: Any) -> None:
        """Write a row by hand, as a restored backup or somebody with the database's password would."""

        def by_hand(tx: Transaction) -> None:
            assert tx.execute(table.update().where(condition).values(**values)).rowcount == 1

        await self.database.write(by_hand)

    async def audited(self, *subjects: str) -> list[dict[str, Any]]:
        """The audit entries of these subjects (of all, when none is given), after the whole log was verified."""
        await self.database.read(audit.verify)
        entries = await self.database.read(lambda tx: [dict(entry.entry) for entry in audit.entries(tx)])
        return [entry for entry in entries if not subjects or entry["subject"] in subjects]

    def clear(self) -> None:
        """Empty every table, for the next test on the same database."""

        def empty(tx: Transaction) -> None:
            for table in reversed(metadata.sorted_tables):
                tx.execute(table.delete())

        self.database.transact(empty)

    def close(self) -> None:
        """Release the database."""
        self.database.close()
