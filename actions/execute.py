"""Runs one execution: claim, check again, say what is about to be sent, send, record.

Everything is decided here from the database: the plan's bytes against their digest, the approval and who still counts
for it, the rules, the target's version. The hint that woke us is believed in nothing but which row to look at.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta

import structlog

from actions import executions, plans
from actions.catalogue import (
    ActionSpec,
    Catalogue,
    Connector,
    Effect,
    Refused,
    Repeat,
    TargetChanged,
    UnknownAction,
    Unreachable,
)
from actions.executions import Execution, FenceLost, State
from actions.judgement import Judgement
from actions.plans import PlannedCall, StoredPlan
from policies import approvals
from records import trace
from records.database import Database, Transaction

MAX_ATTEMPTS = 8
"""Tries of one execution before an unreachable system makes it `unknown`, for a person to look at."""
FIRST_RETRY = timedelta(seconds=2)
LONGEST_RETRY = timedelta(minutes=2)

logger = structlog.get_logger(__name__)

FaultPoint = Callable[[str], None]
"""Called with the name of each point where a crash must be survivable; tests pass one that kills the process."""


def no_fault(point: str) -> None:
    """The fault point of production: nothing happens."""


class Executor:
    """Runs executions, once each.

    await executor.run(execution_id)        # safe to call any number of times, from any number of workers
    """

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        judgement: Judgement,
        *,
        ended: Callable[[str], None],
        fault_point: FaultPoint = no_fault,
    ) -> None:
        """`ended` is told the plan's id when a run comes to its end, so that cards can follow at once."""
        self._ended = ended
        self._database = database
        self._catalogue = catalogue
        self._judgement = judgement
        self._fault_point = fault_point

    async def run(self, execution_id: str) -> State | None:
        """Run it if it is due; returns the state reached, None when there was nothing to do."""
        held = await self._database.write(
            lambda tx: executions.claim(tx, execution_id, lease=self._longest_timeout() + executions.LEASE_MARGIN)
        )
        if held is None:
            return None
        with structlog.contextvars.bound_contextvars(execution_id=held.id, approval_id=held.approval_id):
            try:
                return await self._run_claimed(held)
            except FenceLost:
                logger.warning("execution_taken_over", fence=held.fence)
                return None

    def _longest_timeout(self) -> timedelta:
        return max((spec.timeout for spec in self._catalogue.specs()), default=timedelta())

    async def _run_claimed(self, held: Execution) -> State:
        stored, refusal = await self._database.read(lambda tx: self._check(tx, held))
        if stored is None or refusal is not None:
            return await self._end(held, *(refusal or (State.FAILED, "Its plan cannot be read. Nothing was done.")))
        calls = stored.plan().calls
        while held.step < len(calls):
            try:
                held = await self._call(held, stored.request_id, calls[held.step])
            except _Ended as ended:
                return await self._end(held, ended.state, ended.message, request_id=stored.request_id)
            except _Later as later:
                return await self._later(held, later.message)
        done = " ".join(str(result["text"]) for result in held.results)
        self._fault_point("before_done")
        return await self._end(held, State.DONE, done, request_id=stored.request_id)

    def _check(self, tx: Transaction, held: Execution) -> tuple[StoredPlan | None, tuple[State, str] | None]:
        """The plan, and why it must not run if it must not."""
        stored = plans.find(tx, held.plan_id)
        if stored is None:
            return None, None
        try:
            plan = stored.plan()
        except ValueError:
            return None, None
        if stored.digest != held.digest:
            return stored, (State.FAILED, "The stored plan is not the one that was ordered. Nothing was done.")
        if held.sending is not None or held.step:
            # Something may have been sent already under a check that passed; now it has to be brought to an end.
            return stored, None
        approval = None
        if held.approval_id is not None:
            approval = approvals.find(tx, held.approval_id)
            if approval is None or approval.state != approvals.State.APPROVED or approval.digest != held.digest:
                return stored, (State.CANCELLED, "There is no approval of this plan. Nothing was done.")
        verdict = self._judgement.may_run(plan, approval)
        return stored, None if verdict is None else (State.STALE, verdict)

    async def _call(self, held: Execution, request_id: str, call: PlannedCall) -> Execution:
        spec, connector = self._find(call)
        key = f"{held.id}:{held.step}"
        effect: Effect | None = None
        if held.sending == held.step:
            effect = await self._after_interruption(spec, connector, key)
        else:
            await self._check_target(call, connector)
        if effect is None:
            effect = await self._send(held, spec, connector, call, key)
        self._fault_point("after_call")
        result = {"record": effect.record, "text": effect.text, "url": effect.url}

        def record(tx: Transaction) -> Execution:
            trace.note(tx, request_id, "executed", f"{spec.name} ran once, key {key[:12]}…", execution_id=held.id)
            return executions.completed_call(tx, held, held.step, result)

        return await self._database.write(record)

    def _find(self, call: PlannedCall) -> tuple[ActionSpec, Connector]:
        try:
            spec, connector = self._catalogue.find(call.action)
        except UnknownAction as error:
            raise _Ended(State.STALE, "This action is no longer in the catalogue. Nothing was done.") from error
        if spec.version != call.action_version or connector.name != call.connector:
            raise _Ended(State.STALE, "This action has changed since it was shown. Nothing was done; ask again.")
        return spec, connector

    async def _check_target(self, call: PlannedCall, connector: Connector) -> None:
        if call.target is None:
            return
        try:
            target = await connector.read_target(call.action, call.target)
        except Refused as error:
            raise _Ended(State.STALE, f"{error} Nothing was done.") from error
        except Unreachable as error:
            raise _Later(str(error)) from error
        if target.version != call.target_version:
            raise _Ended(State.STALE, f"{call.target} has changed since it was shown. Nothing was done; ask again.")

    async def _after_interruption(self, spec: ActionSpec, connector: Connector, key: str) -> Effect | None:
        """What is known of a call that was about to be sent when its worker went away; None means send it."""
        match spec.repeat:
            case Repeat.IDEMPOTENT_KEY | Repeat.NATURAL:
                return None
            case Repeat.CHECK_THEN_ACT:
                try:
                    return await connector.find_effect(spec.name, key)
                except Unreachable as error:
                    raise _Later(str(error)) from error
            case Repeat.BLIND:
                raise _Ended(
                    State.UNKNOWN,
                    "It may or may not have happened: the connection was lost while it was sent, and the system "
                    "cannot be asked. Please look there, then ask again if it is not done.",
                )

    async def _send(
        self, held: Execution, spec: ActionSpec, connector: Connector, call: PlannedCall, key: str
    ) -> Effect:
        await self._database.write(lambda tx: executions.about_to_send(tx, held, held.step))
        self._fault_point("after_intent")
        try:
            async with asyncio.timeout(spec.timeout.total_seconds()):
                return await connector.perform(call.action, call.arguments, key=key, expected=call.target_version)
        except TargetChanged as error:
            raise _Ended(State.STALE, str(error)) from error
        except Refused as error:
            raise _Ended(State.FAILED, str(error)) from error
        except (Unreachable, TimeoutError) as error:
            if spec.repeat is Repeat.BLIND:
                raise _Ended(
                    State.UNKNOWN,
                    "It may or may not have happened: the system did not answer. Please look there before asking "
                    "again.",
                ) from error
            raise _Later(str(error) or "The system did not answer in time.") from error

    async def _end(self, held: Execution, state: State, message: str, *, request_id: str = "") -> State:
        def end(tx: Transaction) -> None:
            executions.finish(tx, held, state, message)
            if state is State.STALE and held.approval_id is not None:
                approvals.mark_stale(tx, held.approval_id, why=message)
            if request_id:
                trace.note(tx, request_id, state, _END_WORDS[state], approval_id=held.approval_id, execution_id=held.id)

        await self._database.write(end)
        logger.info("execution_ended", state=state, attempts=held.attempts)
        self._ended(held.plan_id)
        return state

    async def _later(self, held: Execution, message: str) -> State:
        if held.attempts >= MAX_ATTEMPTS:
            return await self._end(
                held,
                State.UNKNOWN,
                f"{message} It was tried {held.attempts} times; whether it happened is not known. Please look there.",
            )
        delay = min(FIRST_RETRY * 2 ** (held.attempts - 1), LONGEST_RETRY) * random.uniform(0.8, 1.2)  # noqa: S311
        await self._database.write(lambda tx: executions.try_later(tx, held, delay, message))
        logger.info("execution_deferred", attempts=held.attempts)
        return State.READY


_END_WORDS = {
    State.DONE: "The plan ran to its end.",
    State.FAILED: "The system refused; nothing more was done.",
    State.STALE: "What was shown no longer holds; nothing was done.",
    State.UNKNOWN: "Whether it happened is not known; a person has to look.",
    State.CANCELLED: "Stopped before anything was done.",
    State.EXPIRED: "Not started in time; nothing was done.",
}


class _Ended(Exception):
    def __init__(self, state: State, message: str) -> None:
        super().__init__(message)
        self.state = state
        self.message = message


class _Later(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
