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
NO_ANSWER = "The system did not answer in time."
MAY_HAVE_HAPPENED = "It may or may not have happened. Please look there, then ask again if it is not done."

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
        held = await self._database.write(lambda tx: executions.claim(tx, execution_id, lease=self._lease()))
        if held is None:
            return None
        with structlog.contextvars.bound_contextvars(execution_id=held.id, approval_id=held.approval_id):
            try:
                return await self._run_claimed(held)
            except FenceLost:
                logger.warning("execution_taken_over", fence=held.fence)
                return None

    def _lease(self) -> timedelta:
        longest = max((spec.timeout for spec in self._catalogue.specs()), default=timedelta())
        return longest + executions.LEASE_MARGIN

    async def _run_claimed(self, held: Execution) -> State:
        stored, refusal = await self._database.read(lambda tx: self._check(tx, held))
        if stored is None or refusal is not None:
            state, message = refusal or _stopped(held, State.FAILED, "Its plan cannot be read.")
            return await self._end(held, state, message)
        calls = stored.plan().calls
        while held.step < len(calls):
            try:
                held = await self._call(held, stored.request_id, calls[held.step])
            except _Ended as ended:
                return await self._end(held, ended.state, ended.message, request_id=stored.request_id)
            except _Later as later:
                return await self._later(held, later, stored.request_id)
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
            return stored, _stopped(held, State.FAILED, "The stored plan is not the one that was ordered.")
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
        spec, connector = self._find(held, call)
        key = f"{held.id}:{held.step}"
        effect: Effect | None = None
        if held.sending == held.step:
            effect = await self._after_interruption(spec, connector, key)
        else:
            await self._check_target(held, spec, connector, call)
        if effect is None:
            effect = await self._send(held, spec, connector, call, key)
        self._fault_point("after_call")
        result = {"record": effect.record, "text": effect.text, "url": effect.url}

        def record(tx: Transaction) -> Execution:
            trace.note(tx, request_id, "executed", f"{spec.name} ran once, key {key[:12]}…", execution_id=held.id)
            return executions.completed_call(tx, held, held.step, result)

        return await self._database.write(record)

    def _find(self, held: Execution, call: PlannedCall) -> tuple[ActionSpec, Connector]:
        try:
            spec, connector = self._catalogue.find(call.action)
        except UnknownAction as error:
            raise _Ended(*_stopped(held, State.STALE, "This action is no longer in the catalogue.")) from error
        if spec.version != call.action_version or connector.name != call.connector:
            raise _Ended(*_stopped(held, State.STALE, "This action has changed since it was shown."))
        return spec, connector

    async def _check_target(self, held: Execution, spec: ActionSpec, connector: Connector, call: PlannedCall) -> None:
        if call.target is None:
            return
        try:
            async with asyncio.timeout(spec.timeout.total_seconds()):
                target = await connector.read_target(call.action, call.target)
        except Refused as error:
            raise _Ended(*_stopped(held, State.STALE, str(error))) from error
        except (Unreachable, TimeoutError) as error:
            raise _Later(str(error) or NO_ANSWER, sent=False) from error
        if target.version != call.target_version:
            raise _Ended(*_stopped(held, State.STALE, f"{call.target} has changed since it was shown."))

    async def _after_interruption(self, spec: ActionSpec, connector: Connector, key: str) -> Effect | None:
        """What is known of a call that was about to be sent when its worker went away; None means send it."""
        match spec.repeat:
            case Repeat.IDEMPOTENT_KEY | Repeat.NATURAL:
                return None
            case Repeat.CHECK_THEN_ACT:
                try:
                    async with asyncio.timeout(spec.timeout.total_seconds()):
                        return await connector.find_effect(spec.name, key)
                except (Unreachable, TimeoutError) as error:
                    raise _Later(str(error) or NO_ANSWER, sent=True) from error
            case Repeat.BLIND:
                raise _Ended(State.UNKNOWN, f"The connection was lost while it was sent. {MAY_HAVE_HAPPENED}")

    async def _send(
        self, held: Execution, spec: ActionSpec, connector: Connector, call: PlannedCall, key: str
    ) -> Effect:
        await self._database.write(lambda tx: executions.about_to_send(tx, held, held.step, lease=self._lease()))
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
                raise _Ended(State.UNKNOWN, f"{str(error) or NO_ANSWER} {MAY_HAVE_HAPPENED}") from error
            raise _Later(str(error) or NO_ANSWER, sent=True) from error

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

    async def _later(self, held: Execution, later: _Later, request_id: str) -> State:
        if held.attempts >= MAX_ATTEMPTS:
            message = f"{later.message} It was tried {held.attempts} times."
            ending = (State.UNKNOWN, f"{message} {MAY_HAVE_HAPPENED}")
            if not later.sent:
                ending = _stopped(held, State.FAILED, message)
            return await self._end(held, *ending, request_id=request_id)
        delay = min(FIRST_RETRY * 2 ** (held.attempts - 1), LONGEST_RETRY) * random.uniform(0.8, 1.2)  # noqa: S311
        await self._database.write(lambda tx: executions.try_later(tx, held, delay, later.message))
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
    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.message = message
        self.sent = sent
        """Whether the call may have gone out."""


def _stopped(held: Execution, state: State, why: str) -> tuple[State, str]:
    """How a run ends whose next call is not made, honest about the calls before it."""
    if held.sending is not None:
        return State.UNKNOWN, f"{why} {MAY_HAVE_HAPPENED}"
    if held.step:
        return state, f"{why} Done before that: {' '.join(str(result['text']) for result in held.results)}"
    return state, f"{why} Nothing was done."
