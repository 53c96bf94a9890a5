"""What the rules are told: about a plan, a request for signatures, a request to a model, and about who acts.

Facts are handed in by the floors above; this module only turns them into questions for the rule files. Nothing is
filled in for a fact that is missing: the question then fails, and a failed question means no.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from policies.people import Identity, Person
from policies.ruleset import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionFacts:
    """What the rules may know of one action call in a plan."""

    name: str
    """The action's name in the catalogue, for example `ticket.close`."""
    action_class: str
    """`read`, `self`, `external`, `destructive`, `money` or `identity`."""
    reversibility: str
    """`reversible`, `compensable` or `irreversible`."""
    connector: str
    tool_version: str
    """Version of the action's definition in the catalogue."""
    region: str = "local"
    """Where the data it touches lives; `local` where everything is in one place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """Somebody asks for a plan to run. The flags come from the platform's verified envelope."""

    tenant: str
    """Slack team or Teams tenant the request came from."""
    requester: Person | None
    """None for somebody the people file does not know."""
    is_guest: bool
    is_bot: bool
    is_external: bool
    """Belongs to another organisation."""
    place_internal: bool
    """Nobody of another organisation can read along where it was asked."""
    actions: tuple[ActionFacts, ...]
    region: str = "local"
    """Where the worker that would run the plan is."""


class Verb(StrEnum):
    """What a click on a card asks for."""

    APPROVE = "approve"
    DENY = "deny"
    CONFIRM = "confirm"
    """The requester's own go-ahead; never an approval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalFacts:
    """What the rules may know of a request for signatures when somebody clicks."""

    requester_id: str
    requester_identities: tuple[Identity, ...]
    """The requester's accounts when the request was made: an account that has since moved to another person is still
    refused as an approver."""
    groups: tuple[str, ...]
    """Groups whose signatures are asked for; none means nobody may approve."""
    digest_matches: bool
    """What the card shows is what would run now."""
    expired: bool
    """By the database's clock."""
    same_tenant: bool
    """The click came from the organisation the request belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignRequest:
    """Somebody presses a button of a card. The flags come from the platform's verified envelope."""

    verb: Verb
    voter: Person | None
    """None for somebody the people file does not know."""
    is_guest: bool
    is_bot: bool
    is_external: bool
    place_internal: bool
    approval: ApprovalFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """Something is about to be sent to a model server. The flags come from the platform's verified envelope."""

    person: Person | None
    """Whose request it serves; None for somebody the people file does not know, and for the house's own work."""
    house: bool
    """The assistant's own work, which nobody asked for."""
    is_guest: bool
    is_bot: bool
    is_external: bool
    place_internal: bool
    """Nobody of another organisation can read along where it was asked."""
    direct: bool
    """It was asked in a one-to-one conversation with the assistant."""
    endpoint: str
    """Name of the server and the model, for example `llm.internal/qwen3`."""
    inside: bool
    """The server is the organisation's own."""
    receives: str
    """What the operator lets it receive when it is not: `nothing`, `own-words` or `everything`."""
    others_words: bool
    """The request carries what other people wrote."""


def run_question(request: PlanRequest, action: ActionFacts, signed: Set[str]) -> Question:
    """May the requester have this action run, given the rules (by id) whose demands are met?"""
    principal, people = _principal(request.requester)
    operation = {
        "uid": {"type": "Operation", "id": action.name},
        "attrs": {
            "class": _reference("Class", action.action_class),
            "reversibility": _reference("Reversibility", action.reversibility),
            "connector": action.connector,
            "version": action.tool_version,
            "region": action.region,
        },
        "parents": [],
    }
    return Question(
        principal=principal,
        action="run",
        resource=("Operation", action.name),
        entities=[*people, operation],
        context={
            "envelope": _envelope(request),
            "tenant": request.tenant,
            "region": request.region,
            "signed": sorted(signed),
        },
    )


def sign_question(request: SignRequest) -> Question:
    """Does this click count?"""
    principal, people = _principal(request.voter)
    facts = request.approval
    approval = {
        "uid": {"type": "Approval", "id": "this"},
        "attrs": {
            "requester": _reference("Person", facts.requester_id),
            "requester_identities": sorted(str(identity) for identity in facts.requester_identities),
            "groups": [_reference("Group", group) for group in facts.groups],
        },
        "parents": [],
    }
    return Question(
        principal=principal,
        action=request.verb.value,
        resource=("Approval", "this"),
        entities=[*people, approval],
        context={
            "envelope": _envelope(request),
            "same_tenant": facts.same_tenant,
            "digest_matches": facts.digest_matches,
            "expired": facts.expired,
        },
    )


def model_question(request: ModelRequest) -> Question:
    """May this be sent to this model?"""
    principal, people = (("House", "house"), []) if request.house else _principal(request.person)
    endpoint = {
        "uid": {"type": "ModelEndpoint", "id": request.endpoint},
        "attrs": {"inside": request.inside, "receives": request.receives},
        "parents": [],
    }
    return Question(
        principal=principal,
        action="ask_model",
        resource=("ModelEndpoint", request.endpoint),
        entities=[*people, endpoint],
        context={
            "envelope": _envelope(request),
            "others_words": request.others_words,
            "direct": request.direct,
        },
    )


def _principal(person: Person | None) -> tuple[tuple[str, str], list[dict[str, Any]]]:
    if person is None:
        return ("Stranger", "unknown"), []
    entity = {
        "uid": {"type": "Person", "id": person.id},
        "attrs": {
            "active": person.active,
            "roles": sorted(person.roles),
            "identities": sorted(str(identity) for identity in person.identities),
        },
        "parents": [{"type": "Group", "id": group} for group in sorted(person.groups)],
    }
    return ("Person", person.id), [entity]


def _envelope(sender: PlanRequest | SignRequest | ModelRequest) -> dict[str, bool]:
    return {
        "is_guest": sender.is_guest,
        "is_bot": sender.is_bot,
        "is_external": sender.is_external,
        "place_internal": sender.place_internal,
    }


def _reference(kind: str, entity_id: str) -> dict[str, Any]:
    return {"__entity": {"type": kind, "id": entity_id}}
