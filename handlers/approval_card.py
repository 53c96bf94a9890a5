"""The picture of a plan: what will happen, why a person is asked, who may sign, and how it ended.

Invariant: while signatures are wanted the card shows the plan completely, from its canonical form, never shortened,
and says of every value that the requester did not type where it comes from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from actions import executions
from actions.catalogue import ActionClass, Reversibility
from actions.executions import Execution
from actions.origins import ArgumentOrigin, Source
from actions.plans import PlannedCall, StoredPlan
from handlers.card import (
    Button,
    ButtonStyle,
    Card,
    Confirm,
    Facts,
    Heading,
    Link,
    Part,
    Quote,
    Text,
    TextInput,
    TextStyle,
    Tone,
    Verbatim,
)
from handlers.wording import clock, span
from policies import approvals
from policies.approvals import Approval
from policies.people import Person


@dataclass(frozen=True, slots=True)
class PlanView:
    """Everything a card of a plan shows, read in one transaction."""

    plan: StoredPlan
    approval: Approval | None
    execution: Execution | None
    signers: tuple[Person, ...]
    """Who could sign now."""
    name_of: Callable[[str], str]
    """Display name of a person's id."""

    @property
    def final(self) -> bool:
        """Whether nothing more will happen."""
        if self.execution is not None:
            return self.execution.state not in (executions.State.READY, executions.State.EXECUTING)
        return self.approval is not None and self.approval.state not in (
            approvals.State.PENDING,
            approvals.State.APPROVED,
        )

    @property
    def reference(self) -> str:
        """The request's id as people see it; it also lets us recognise our own post after a crash."""
        return f"request {self.plan.id[:8]}"


def draw(view: PlanView, nonce: Callable[[str], str] | None) -> Card:
    """The card as things stand. `nonce` gives each button its value; None draws it without buttons."""
    waiting = view.approval is not None and view.approval.state == approvals.State.PENDING
    headline, tone = _headline(view)
    parts: list[Part] = [Text(step, TextStyle.STRONG) for step in view.plan.about.steps]
    outcome = _outcome(view)
    if outcome:
        parts.append(Text(outcome))
    if waiting:
        parts += _what_is_signed(view)
    parts += _results(view)
    parts.append(Facts(tuple(_facts(view, waiting))))
    if waiting and view.plan.about.reason:
        parts.append(Quote(view.plan.about.reason, "the assistant's own words"))
    if view.plan.about.target_url and not (view.execution and view.execution.results):
        parts.append(Link("Open the record", view.plan.about.target_url))
    parts.append(Text(f"{view.reference} · digest {view.plan.digest[:12]}", TextStyle.SUBTLE))
    buttons = _buttons(view, nonce) if waiting and nonce is not None else ()
    summary = f"{headline}: {'; '.join(view.plan.about.steps)} ({view.reference})"
    return Card(title=headline, parts=tuple(parts), buttons=buttons, tone=tone, summary=summary)


def details(view: PlanView) -> Card:
    """The whole plan in its canonical form, byte for byte what is signed and run."""
    parts: list[Part] = [
        Text("This is the complete plan, exactly as it is stored, signed and run."),
        Verbatim(json.dumps(json.loads(view.plan.canonical), indent=2, ensure_ascii=False, sort_keys=True)),
        Facts((("Digest (SHA-256)", view.plan.digest), ("Request", view.plan.id))),
    ]
    if calls := [call for call in view.plan.plan().calls if call.arguments]:
        parts.append(Heading("Where each value comes from"))
    for call in calls:
        origins = [(name, _comes_from(view, call.origins.get(name))) for name in sorted(call.arguments)]
        parts += [Text(call.action, TextStyle.STRONG), Facts(tuple(origins))]
    if view.approval is not None:
        parts.append(Heading("Why a person is asked"))
        parts += [
            Text(f"{reason} (rule {rule})")
            for rule, reason in zip(view.approval.rule_ids, view.approval.reasons, strict=True)
        ]
    return Card(title="What exactly will happen", parts=tuple(parts))


def progress(approval: Approval) -> str:
    """`1 of 2 signatures from finance`."""
    return ", ".join(
        f"{min(len(approval.signed_by(group)), count)} of {count} signature{'s' if count != 1 else ''} from {group}"
        for group, count in sorted(approval.requirement.items())
    )


def how_decided(view: PlanView) -> str:
    """`approved by Amir`, for whoever comes too late."""
    approval = view.approval
    if approval is None or approval.decided_by is None:
        return approval.state if approval is not None else "it needed no signature"
    return f"{approval.state} by {view.name_of(approval.decided_by)}"


def _headline(view: PlanView) -> tuple[str, Tone]:
    title = view.plan.about.title
    if view.execution is not None:
        word, tone = _EXECUTION_HEADLINES[view.execution.state]
        return f"{word}: {title}", tone
    assert view.approval is not None
    if view.approval.state == approvals.State.PENDING and view.approval.confirmation:
        return f"Please confirm: {title}", Tone.WAITING
    word, tone = _APPROVAL_HEADLINES[view.approval.state]
    return f"{word}: {title}", tone


def _outcome(view: PlanView) -> str:
    execution, approval = view.execution, view.approval
    if execution is not None and execution.message and view.final:
        return execution.message
    if approval is None:
        return ""
    if approval.state == approvals.State.DENIED:
        reason = f" Their reason: {approval.remark}" if approval.remark else ""
        return f"Nothing was done.{reason}"
    if approval.state == approvals.State.EXPIRED:
        return "Nobody decided in time. That is not a denial: nothing was done, and it can be asked again."
    if approval.state == approvals.State.STALE:
        return f"{approval.remark or 'What was shown no longer holds.'} Ask again to get a fresh card."
    if approval.state == approvals.State.CANCELLED:
        return "It was taken back. Nothing was done."
    return ""


def _what_is_signed(view: PlanView) -> list[Part]:
    parts: list[Part] = [Heading("What exactly will happen")]
    for call in view.plan.plan().calls:
        parts.append(Facts((("Action", f"{call.action} (version {call.action_version})"), ("System", call.connector))))
        parts.append(Verbatim(_arguments(call)))
        if warning := _not_typed(view, call):
            parts.append(Text(warning, TextStyle.STRONG))
    return parts


def _not_typed(view: PlanView, call: PlannedCall) -> str:
    """What to compare before signing: values that others, or a model, could have slipped in. Empty when there are none.

    Every plan that waits for a click is risky; what is harmless waits for none.
    """
    untrusted = [
        f"{name} ({_comes_from(view, origin)})"
        for name in sorted(call.arguments)
        if (origin := call.origins.get(name)) is None or origin.source in (Source.THREAD, Source.MODEL)
    ]
    if not untrusted:
        return ""
    return f"Not typed by {view.plan.about.requester_name}: {', '.join(untrusted)}. Please compare before you sign."


def _comes_from(view: PlanView, origin: ArgumentOrigin | None) -> str:
    if origin is None:
        return "not recorded"
    if origin.source is Source.TYPED:
        return f"typed by {view.plan.about.requester_name}"
    if origin.source is Source.THREAD and len(origin.messages) > 1:
        return f"from {len(origin.messages)} messages of the thread"
    return _SOURCES[origin.source]


def _arguments(call: PlannedCall) -> str:
    lines = [f"{name}: {_value(value)}" for name, value in sorted(call.arguments.items())]
    if call.target is not None:
        lines.append(f"(record {call.target}, version {call.target_version})")
    return "\n".join(lines)


def _value(value: object) -> str:
    """The value as it is where it cannot be taken for anything else, as JSON otherwise: `5` is a number, `"5"` a text,
    and a text with a line break in it cannot draw a line of its own.
    """
    if isinstance(value, str) and value.isprintable() and value == value.strip() and not _reads_as_json(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _reads_as_json(text: str) -> bool:
    try:
        json.loads(text or '""')
    except ValueError:
        return False
    return True


def _facts(view: PlanView, waiting: bool) -> list[tuple[str, str]]:
    about, approval, execution = view.plan.about, view.approval, view.execution
    facts = [("Asked by", about.requester_name)]
    if approval is not None and waiting:
        facts.append(("Why a person is asked", " ".join(approval.reasons)))
        if approval.confirmation:
            facts.append(("Who may confirm", about.requester_name))
        else:
            facts.append(("Who may sign", ", ".join(person.name for person in view.signers) or "nobody at present"))
            facts.append(("Signed so far", progress(approval)))
        facts.append(("Risk", _risk(about.risk)))
        allowed = span(approval.expires_at - approval.created_at)
        facts.append(("Until", f"{clock(approval.expires_at)} ({allowed} after it was asked)"))
    elif approval is not None and approval.decided_at is not None:
        word = _APPROVAL_HEADLINES[approval.state][0]
        names = _deciders(view, approval)
        facts.append((f"{word} by" if names else word, f"{names} at {clock(approval.decided_at)}".strip()))
    if execution is not None and execution.finished_at is not None and execution.started_at is not None:
        facts.append(("Ran in", _took(execution.finished_at - execution.started_at)))
    return facts


def _risk(risk: str) -> str:
    """`destructive: ends or removes something; can be made good, but not simply taken back`."""
    action_class, _, reversibility = risk.partition(", ")
    words = [text for text in (_CLASSES.get(action_class), _REVERSIBILITIES.get(reversibility)) if text]
    return f"{action_class}: {'; '.join(words)}" if words else risk


def _took(length: timedelta) -> str:
    return "under 0.1 s" if length < timedelta(seconds=0.1) else span(length)


def _deciders(view: PlanView, approval: Approval) -> str:
    if approval.state in (approvals.State.APPROVED, approvals.State.STALE) and approval.votes:
        return ", ".join(view.name_of(vote.person) for vote in approval.votes if vote.decision == "approve")
    return view.name_of(approval.decided_by) if approval.decided_by else ""


def _results(view: PlanView) -> list[Part]:
    if view.execution is None:
        return []
    return [Link(f"Open {result['record']}", str(result["url"])) for result in view.execution.results]


def _buttons(view: PlanView, nonce: Callable[[str], str]) -> tuple[Button, ...]:
    assert view.approval is not None
    destructive = not view.plan.about.risk.startswith(("read", "self", "external"))
    approve = Button(
        verb="approve",
        label="Confirm" if view.approval.confirmation else "Approve",
        nonce=nonce("approve"),
        style=ButtonStyle.DANGER if destructive else ButtonStyle.PRIMARY,
        confirm=Confirm(
            title="Approve this?",
            text="; ".join(view.plan.about.steps),
            yes="Approve",
        )
        if destructive
        else None,
    )
    deny = Button(
        verb="deny",
        label="Cancel" if view.approval.confirmation else "Deny",
        nonce=nonce("deny"),
        ask=TextInput("reason", "Why not? The requester will see this.", placeholder="Optional"),
    )
    return approve, deny, Button(verb="details", label="Details", nonce=nonce("details"))


_SOURCES: Mapping[Source, str] = {
    Source.ASSISTANT: "filled in automatically, by no model",
    Source.THREAD: "from a message of the thread",
    Source.MODEL: "worded by the assistant",
}
_CLASSES: Mapping[str, str] = {
    ActionClass.READ: "looks something up",
    ActionClass.SELF: "touches only the requester's own things",
    ActionClass.EXTERNAL: "other people will see it",
    ActionClass.DESTRUCTIVE: "ends or removes something",
    ActionClass.MONEY: "moves money",
    ActionClass.IDENTITY: "changes accounts or access",
}
_REVERSIBILITIES: Mapping[str, str] = {
    Reversibility.REVERSIBLE: "can be taken back",
    Reversibility.COMPENSABLE: "cannot simply be taken back, only made good",
    Reversibility.IRREVERSIBLE: "cannot be taken back",
}
_EXECUTION_HEADLINES: Mapping[executions.State, tuple[str, Tone]] = {
    executions.State.READY: ("Starting", Tone.WAITING),
    executions.State.EXECUTING: ("Running", Tone.WAITING),
    executions.State.DONE: ("Done", Tone.GOOD),
    executions.State.FAILED: ("Not done", Tone.DANGER),
    executions.State.STALE: ("Not done, review again", Tone.WARNING),
    executions.State.UNKNOWN: ("Please check", Tone.DANGER),
    executions.State.CANCELLED: ("Denied", Tone.WARNING),
    executions.State.EXPIRED: ("Not started in time", Tone.WARNING),
}
_APPROVAL_HEADLINES: Mapping[approvals.State, tuple[str, Tone]] = {
    approvals.State.PENDING: ("Approval needed", Tone.WAITING),
    approvals.State.APPROVED: ("Approved", Tone.GOOD),
    approvals.State.DENIED: ("Denied", Tone.WARNING),
    approvals.State.EXPIRED: ("Expired", Tone.WARNING),
    approvals.State.CANCELLED: ("Cancelled", Tone.NEUTRAL),
    approvals.State.STALE: ("Review again", Tone.WARNING),
}
