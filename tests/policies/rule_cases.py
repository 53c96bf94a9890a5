"""The people, actions and requests that tests of the rules speak of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from policies.facts import SignRequest
from policies.people import Directory, Person
from policies.rules import ActionFacts, ApprovalFacts, ModelRequest, PlanRequest, Rules, SignDecision, Verb
from policies.ruleset import Question

RULES = Path(__file__).parents[2] / "policies" / "rules"

PEOPLE = """
people:
  - {id: ada, name: Ada, roles: [employee], groups: [support], slack: [T1/U1], teams: [a/1]}
  - {id: grace, name: Grace, roles: [employee], groups: [leads, finance], slack: [T1/U2]}
  - {id: emmy, name: Emmy, roles: [employee], groups: [finance, security-admins], slack: [T1/U3]}
  - {id: alan, name: Alan, roles: [employee], groups: [security-admins], slack: [T1/U4]}
  - {id: rosa, name: Rosa, roles: [employee], groups: [security-admins], slack: [T1/U5]}
  - {id: intern, name: Intern, slack: [T1/U6]}
  - {id: gone, name: Gone, roles: [employee], groups: [finance, leads], slack: [T1/U7], active: false}
groups:
  approvers: {includes: [leads]}
"""

READ = ActionFacts(
    name="ticket.search",
    action_class="read",
    reversibility="reversible",
    connector="tickets",
    tool_version="1",
)
OPEN = replace(READ, name="ticket.open", action_class="external")
MAIL = replace(READ, name="mail.send", action_class="external", reversibility="irreversible")
CLOSE = replace(READ, name="ticket.close", action_class="destructive", reversibility="compensable")
PAY = replace(READ, name="invoice.pay", action_class="money", reversibility="irreversible")
GRANT = replace(READ, name="account.grant", action_class="identity")


def load(folder: Path, people: str = PEOPLE, rules: Path = RULES) -> tuple[Directory, Rules]:
    path = folder / "people.yaml"
    path.write_text(people)
    directory = Directory.load(path)
    return directory, Rules.load(rules, directory)


def known(directory: Directory, person_id: str) -> Person:
    person = directory.person(person_id)
    assert person is not None
    return person


def plan(requester: Person | None, *actions: ActionFacts, **changes: Any) -> PlanRequest:
    request = PlanRequest(
        tenant="T1",
        requester=requester,
        is_guest=False,
        is_bot=False,
        is_external=False,
        place_internal=True,
        actions=actions,
    )
    return replace(request, **changes)


def click(verb: Verb, voter: Person | None, requester: Person, **changes: Any) -> SignRequest:
    facts = {name: changes.pop(name) for name in list(changes) if name in ApprovalFacts.__dataclass_fields__}
    approval = ApprovalFacts(
        requester_id=requester.id,
        requester_identities=requester.identities,
        groups=("finance",),
        digest_matches=True,
        expired=False,
        same_tenant=True,
    )
    return SignRequest(
        verb=verb,
        voter=voter,
        approval=replace(approval, **facts),
        **{"is_guest": False, "is_bot": False, "is_external": False, "place_internal": True, **changes},
    )


def signed(rules: Rules, pressed: SignRequest) -> SignDecision:
    return rules.may_sign(
        pressed.voter,
        verb=pressed.verb,
        is_guest=pressed.is_guest,
        is_bot=pressed.is_bot,
        is_external=pressed.is_external,
        place_internal=pressed.place_internal,
        approval=pressed.approval,
    )


def sending(person: Person | None, **changes: Any) -> ModelRequest:
    """What somebody asks in a channel, about to be sent to a server of the organisation's own."""
    request = ModelRequest(
        person=person,
        house=False,
        is_guest=False,
        is_bot=False,
        is_external=False,
        place_internal=True,
        direct=False,
        endpoint="llm.internal/small",
        inside=True,
        receives="nothing",
        others_words=False,
    )
    return replace(request, **changes)


def without_each_fact(question: Question) -> list[tuple[str, Question]]:
    """Return the question once for each key of its context, of the envelope, and of its entities, without that key."""
    fewer: list[tuple[str, Question]] = []
    context = dict(question.context)
    for key in context:
        fewer.append((key, replace(question, context={k: v for k, v in context.items() if k != key})))
    envelope = context["envelope"]
    for key in envelope:
        part = {k: v for k, v in envelope.items() if k != key}
        fewer.append((f"envelope.{key}", replace(question, context={**context, "envelope": part})))
    for position, entity in enumerate(question.entities):
        others = [*question.entities[:position], *question.entities[position + 1 :]]
        fewer.append((entity["uid"]["type"], replace(question, entities=others)))
        for key in entity["attrs"]:
            part = {**entity, "attrs": {k: v for k, v in entity["attrs"].items() if k != key}}
            fewer.append((f"{entity['uid']['type']}.{key}", replace(question, entities=[*others, part])))
    return fewer
