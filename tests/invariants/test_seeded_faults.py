"""The tests tested: the code is broken one place at a time, and the invariant it serves must notice.

A fault is a change of a function's source. When the text it changes is gone, the fault fails loudly: seed it anew.
`COUNTERSIGN_LONG_TESTS=1` also seeds every pair, since one fault can hide another.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import shutil
import tempfile
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from actions import executions, plans, signing
from actions.execute import Executor
from actions.judgement import Judgement
from bot.slack.intake import SlackEndpoint
from handlers import deliveries, dialog
from policies import approvals
from tests.invariants import (
    test_at_most_once,
    test_cards_and_clicks,
    test_stored_first,
    test_what_is_recorded,
    test_what_is_signed,
    test_who_may_sign,
)
from tests.invariants.approval_machine import ApprovalMachine
from tests.invariants.approval_world import World
from tests.invariants.card_world import Room

LONG = bool(os.environ.get("COUNTERSIGN_LONG_TESTS"))
DIRECTED = (
    test_who_may_sign,
    test_what_is_signed,
    test_at_most_once,
    test_what_is_recorded,
    test_cards_and_clicks,
    test_stored_first,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One place where the code is broken."""

    invariant: str
    """Whose directed tests must notice: `i05`."""
    owner: Any
    """The module or class."""
    function: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.function}: {self.old.strip()[:40]} -> {self.new.strip()[:24]}"

    def seed(self, patch: pytest.MonkeyPatch) -> None:
        """Break it."""
        source = textwrap.dedent(inspect.getsource(getattr(self.owner, self.function)))
        assert source.count(self.old) == 1, f"{self.function} has {source.count(self.old)} times {self.old!r}"
        module = self.owner if isinstance(self.owner, ModuleType) else inspect.getmodule(self.owner)
        made: dict[str, Any] = {}
        exec("from __future__ import annotations\n" + source.replace(self.old, self.new), vars(module), made)
        function = made[self.function]
        patch.setattr(self.owner, self.function, function)


FAULTS = [
    Fault("i01", approvals, "counted", " or vote.person == requester", ""),
    Fault("i02", approvals, "counted", "vote.decision != VoteDecision.APPROVE or ", ""),
    Fault("i02", approvals, "satisfied", "bool(requirement) and all", "all"),
    Fault("i02", approvals, "satisfied", "count >= 1 and ", ""),
    Fault("i02", approvals, "satisfied", ">= count for", ">= 1 for"),
    Fault("i02", approvals, "sign", "if cast.first() is None:", "if False:"),
    Fault("i03", Judgement, "may_run", "if decision.allowed:", "if True:"),
    Fault("i03", Judgement, "entitled", "return frozenset(decision.groups)", "return frozenset(approval.requirement)"),
    Fault("i04", approvals, "sign", "approvals.c.digest == signature.displayed_digest,", ""),
    Fault("i04", plans.StoredPlan, "plan", "if digest(self.canonical) != self.digest:", "if False:"),
    Fault("i04", plans, "_call_out", "in call.origins.items()", "in ()"),
    Fault("i04", Executor, "_check", "if stored.digest != held.digest:", "if False:"),
    Fault("i04", Executor, "_check", " or approval.digest != held.digest", ""),
    Fault("i04", Executor, "_check_target", "if target.version != call.target_version:", "if False:"),
    Fault("i04", Executor, "_find", "spec.version != call.action_version or ", ""),
    Fault("i04", Executor, "_find", " or connector.name != call.connector", ""),
    Fault("i04", Executor, "_send", "expected=call.target_version", "expected=None"),
    Fault("i04", signing, "take_click", "approval.policy_digest != judgement.policy_digest", "False"),
    Fault("i04", Judgement, "may_run", "if plan.policy_digest != self._rules.digest:", "if False:"),
    Fault("i04", Judgement, "may_run", "if plan.tenant != self.tenant:", "if False:"),
    Fault("i05", approvals, "sign", "approvals.c.expires_at > tx.now,", ""),
    Fault("i05", executions, "claim", ", or_(executions.c.start_before > tx.now, _BEGUN)", ""),
    Fault("i05", executions, "claim", "start_before > tx.now, _BEGUN)", "start_before > tx.now)"),
    Fault("i05", executions, "expire_unstarted", ", not_(_BEGUN)", ""),
    Fault("i06", approvals, "_move", ", approvals.c.state.in_(sorted(leaving))", ""),
    Fault("i06", approvals, "sign", "state == State.PENDING,\n            approvals.c.e", "id != '',\n approvals.c.e"),
    Fault("i06", executions, "stop_unstarted", ", executions.c.attempts == 0", ""),
    Fault("i06", signing, "take_click", "not executions.stop_unstarted(tx, approval_id)", "False"),
    Fault("i07", executions, "claim", "fence=executions.c.fence + 1,", "fence=executions.c.fence,"),
    Fault("i07", executions, "claim", "_free(tx), ", ""),
    Fault("i07", executions, "_fenced", "executions.c.fence == held.fence,", ""),
    Fault("i07", executions, "_fenced", "executions.c.state == State.EXECUTING,", ""),
    Fault("i07", executions, "about_to_send", ', "lease_until": tx.now + lease', ""),
    Fault("i07", executions, "order", "outbox.put(tx, outbox.EXECUTE, identity, delay=HINT_GRACE)", "pass"),
    Fault("i07", Executor, "_send", "await self._database.write(lambda tx: executions", "(lambda tx: executions"),
    Fault("i07", Executor, "_after_interruption", "| Repeat.NATURAL:", "| Repeat.NATURAL | Repeat.BLIND:"),
    Fault("i07", Executor, "_after_interruption", "return await connector.find_effect(spec.name, key)", "return None"),
    Fault("i07", Executor, "_call", 'key = f"{held.id}:{held.step}"', 'key = f"{held.id}:{held.step}:{held.fence}"'),
    Fault("i07", Executor, "_send", "if spec.repeat is Repeat.BLIND:", "if False:"),
    Fault("i08", Executor, "_check", "if approval is None or approval.state != approvals.State.APPROVED or", "if"),
    Fault("i09", dialog.Dialog, "_envelope", "is_guest=sender.is_guest", "is_guest=False"),
    Fault("i09", dialog.Dialog, "_envelope", "is_bot=sender.is_bot", "is_bot=False"),
    Fault("i09", dialog.Dialog, "_envelope", "is_external=sender.is_external", "is_external=False"),
    Fault("i09", dialog.Dialog, "_envelope", "place_internal=turn.place.internal", "place_internal=True"),
    Fault("i09", dialog.Dialog, "click", 'DENY if button.verb == "deny"', 'DENY if click.verb == "deny"'),
    Fault("i10", dialog, "_in_its_place", "turn.click.message_id == delivery.message_id", "True"),
    Fault("i10", dialog, "_in_its_place", "place.conversation == delivery.place.conversation", "True"),
    Fault("i10", deliveries, "find_button", "nonce_hash == _hash(nonce)", "nonce_hash.in_([nonce, _hash(nonce)])"),
    Fault("i11", SlackEndpoint, "__call__", "return await _respond(send, 503)", "return await _respond(send, 200)"),
    Fault("i12", deliveries, "claim_behind", "card_deliveries.c.shown_version < version,", ""),
    Fault("i13", approvals, "sign", "_audit_vote(tx, locked, signature, decided)", "pass"),
    Fault("i13", executions, "claim", '_record(tx, "execution.claimed"', '(lambda *_: None)(tx, "execution.claimed"'),
    Fault("i13", executions, "_closed", "    _record(\n", "    str(dict) and (lambda *_: None)(\n"),
    Fault("i14", executions, "order", "execution_id(approval_id or plan.id,", "__import__('secrets').token_hex(16 or"),
    Fault("i14", Executor, "_check", " or approval.state != approvals.State.APPROVED", ""),
]  # fmt: skip


PAIRS = list(itertools.combinations(FAULTS, 2)) if LONG else []


def test_without_a_fault_the_directed_tests_are_content() -> None:
    """Whoever catches a fault below is not simply failing always."""
    assert noticed("i") is None


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_seeded_fault_is_caught_by_its_invariant(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.seed(monkeypatch)
    assert noticed(fault.invariant) is not None, "nobody noticed"


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: " + ".join(map(str, pair)))
def test_two_faults_do_not_hide_each_other(pair: tuple[Fault, Fault], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pair
    if (first.owner, first.function) == (second.owner, second.function):
        pytest.skip("both change one function")
    first.seed(monkeypatch)
    second.seed(monkeypatch)
    assert noticed(first.invariant) or noticed(second.invariant), "nobody noticed"


FOUND_BY_THE_MACHINE = ("_send: await", "_after_interruption: | Repeat", "_after_interruption: return")


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if any(part in str(fault) for part in FOUND_BY_THE_MACHINE)], ids=str
)
def test_the_state_machine_catches_it_too(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is no bystander: random steps find these without being told where to look."""
    fault.seed(monkeypatch)
    machine = type("Machine", (ApprovalMachine,), {"reached": Counter()})
    # Any error will do: what the model asserts, or what the broken code does to itself.
    with pytest.raises(Exception):  # noqa: B017
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=40,
                stateful_step_count=80,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )


def noticed(invariant: str) -> str | None:
    """The first directed test of an invariant that fails, None when all pass."""
    for module in DIRECTED:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.startswith(f"test_{invariant}") and function.__module__ == module.__name__:
                for arguments in _cases(function):
                    if not _passes(function, arguments):
                        return name
    return None


def _cases(function: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """Every combination of a test's parameters."""
    axes: list[list[dict[str, Any]]] = []
    for mark in getattr(function, "pytestmark", []):
        names = [each.strip() for each in mark.args[0].split(",")] if isinstance(mark.args[0], str) else mark.args[0]
        axes.append([dict(zip(names, value if len(names) > 1 else [value], strict=True)) for value in mark.args[1]])
    for combination in itertools.product(*axes):
        yield {name: value for each in combination for name, value in each.items()}


def _passes(function: Callable[..., Any], arguments: dict[str, Any]) -> bool:
    folder = Path(tempfile.mkdtemp(prefix="directed-"))
    patch = pytest.MonkeyPatch()
    world = World(folder, f"sqlite:///{folder / 'world.db'}")
    try:
        wanted = inspect.signature(function).parameters
        built: dict[str, Callable[[], Any]] = {
            "world": lambda: world,
            "tmp_path": lambda: folder,
            "monkeypatch": lambda: patch,
            "room": lambda: Room(world),
            "door": lambda: test_stored_first.Door(world),
        }
        given = {name: make() for name, make in built.items() if name in wanted}
        outcome = function(**given, **arguments)
        if inspect.isawaitable(outcome):
            asyncio.run(_awaited(outcome))
    except (Exception, pytest.fail.Exception):
        return False
    finally:
        patch.undo()
        world.close()
        shutil.rmtree(folder, ignore_errors=True)
    return True


async def _awaited(outcome: Any) -> None:
    async with asyncio.timeout(30):
        await outcome
