"""The rule files, parsed and checked, and the one way to put a question to them.

Cedar skips a rule that errors and may then answer Allow; here any error in answering raises instead, so that only a
clean answer can ever be a yes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import cedarpy

SCHEMA_FILE = "schema.cedarschema"
RESERVED_IDS = frozenset({"engine", "no-rule-allows", "nobody-may-sign"})
"""Ids that decisions use for refusals no rule file speaks of; see `policies.rules`."""

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_POSITIVE = re.compile(r"[1-9][0-9]{0,3}")
_ANNOTATIONS = frozenset({"id", "reason", "effect", "group", "n"})


class RulesError(Exception):
    """The rule files cannot be used; the message is one line naming the file, the rule and what is wrong."""


class UnansweredError(Exception):
    """Cedar could not answer a question cleanly. Whoever asked treats this as no."""


class Effect(StrEnum):
    """What a rule that stops an action asks for before it stands aside."""

    APPROVAL = "approval"
    """Signatures of other people."""
    CONFIRMATION = "confirmation"
    """The requester's own click."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One `permit` or `forbid` of the rule files."""

    id: str
    reason: str
    """One sentence for people."""
    permits: bool
    effect: Effect | None
    """None for a permit, and for a forbid that nothing lifts."""
    group: str
    """Whose signatures an approval rule asks for; empty otherwise."""
    n: int
    """How many signatures an approval rule asks for, at least 1; 0 otherwise."""
    file: str


@dataclass(frozen=True, slots=True)
class Question:
    """A request to Cedar. Entity ids are (type, id) pairs; entities and context are in Cedar's JSON format."""

    principal: tuple[str, str]
    action: str
    resource: tuple[str, str]
    entities: Sequence[Mapping[str, Any]]
    context: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What Cedar said, and the rules that made it say so in the order they are written.

    No rules and not allowed: nothing permits it.
    """

    allowed: bool
    rules: tuple[Rule, ...]


class RuleSet:
    """All `*.cedar` files of one folder, with their schema."""

    def __init__(self, rules: tuple[Rule, ...], policies: cedarpy.PolicySet, schema: cedarpy.Schema, digest: str):
        self.rules = rules
        """In the order of the files' names, and within a file as written."""
        self.digest = digest
        """SHA-256 (hex) over the rule files and the schema: the same files, the same answers."""
        self._order = {rule.id: position for position, rule in enumerate(rules)}
        self._policies = policies
        self._schema = schema

    @classmethod
    def load(cls, folder: Path) -> RuleSet:
        """Read, parse and check the files. Blocks on the disk.

        Raises RulesError when a file is missing, does not parse or does not fit the schema, or when an annotation is
        missing, unknown or wrong.
        """
        schema_file = folder / SCHEMA_FILE
        schema_text = _text(schema_file)
        try:
            schema = cedarpy.Schema.from_str(schema_text)
        except ValueError as error:
            raise RulesError(f"{schema_file}: {_line(error)}") from error
        texts = {path: _text(path) for path in sorted(folder.glob("*.cedar"))}
        rules: dict[str, Rule] = {}
        for path, text in texts.items():
            for rule in _parsed(path, text, schema):
                if rule.id in rules:
                    raise RulesError(f"{path}: {rule.id}: this id is taken by a rule in {rules[rule.id].file}")
                rules[rule.id] = rule
        if not rules:
            raise RulesError(f"{folder}: holds no rules (*.cedar)")
        return cls(
            rules=tuple(rules.values()),
            policies=cedarpy.PolicySet.from_str("\n".join(texts.values())),
            schema=schema,
            digest=_digest({path.name: text for path, text in {schema_file: schema_text, **texts}.items()}),
        )

    def ask(self, question: Question) -> Answer:
        """Put one question. Takes well under a millisecond; pure computation, so it may run on the event loop.

        Raises UnansweredError when the question does not fit the schema or any rule failed on it.
        """
        result = cedarpy.is_authorized(
            {
                "principal": _uid(question.principal),
                "action": _uid(("Action", question.action)),
                "resource": _uid(question.resource),
                "context": dict(question.context),
            },
            self._policies,
            json.dumps(list(question.entities)),
            self._schema,
        )
        # The errors quote the question's values, which belong in no log or message: only their number is told.
        if result.diagnostics.errors or result.decision is cedarpy.Decision.NoDecision:
            raise UnansweredError(f"{len(result.diagnostics.errors)} error(s) on Action::{question.action!r}")
        ids = [result.diagnostics.id_annotations_by_reason[reason] for reason in result.diagnostics.reasons]
        return Answer(result.allowed, tuple(self.rules[position] for position in sorted(self._order[id] for id in ids)))


def _uid(entity: tuple[str, str]) -> dict[str, str]:
    return {"type": entity[0], "id": entity[1]}


def _digest(texts: Mapping[str, str]) -> str:
    """Hash names and contents, each preceded by its length so that no text can pass for another split."""
    digest = hashlib.sha256()
    for name, text in sorted(texts.items()):
        for part in (name.encode(), text.encode()):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RulesError(f"{path}: cannot be read ({error.__class__.__name__})") from error


def _parsed(path: Path, text: str, schema: cedarpy.Schema) -> list[Rule]:
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError as error:
        raise RulesError(f"{path}: {_line(error)}") from error
    if parsed["templates"]:
        raise RulesError(f"{path}: holds a template (?principal or ?resource), which nothing here fills in")
    policies = parsed["staticPolicies"]
    rules = [_rule(path, number, policies[f"policy{number}"]) for number in range(len(policies))]
    validation = cedarpy.validate_policies(text, schema)
    if not validation.validation_passed:
        first = validation.errors[0]
        known_as = validation.id_annotations_by_policy_id.get(first.policy_id, first.policy_id)
        raise RulesError(f"{path}: {known_as}: {_line(first.error)}")
    return rules


def _rule(path: Path, number: int, policy: Mapping[str, Any]) -> Rule:
    annotations: dict[str, str] = {name: value or "" for name, value in policy.get("annotations", {}).items()}
    rule_id = annotations.get("id", "")
    where = f"{path}: {rule_id or f'rule {number + 1}'}"
    if not _ID.fullmatch(rule_id):
        raise RulesError(f"{where}: needs an @id of lower-case letters, digits and hyphens")
    if rule_id in RESERVED_IDS:
        raise RulesError(f"{where}: this id is reserved, choose another")
    if not annotations.get("reason", "").strip():
        raise RulesError(f"{where}: needs a @reason, one sentence for people")
    if unknown := sorted(annotations.keys() - _ANNOTATIONS):
        raise RulesError(f"{where}: @{unknown[0]} means nothing here, write one of @{', @'.join(sorted(_ANNOTATIONS))}")

    permits = policy["effect"] == "permit"
    effect = _effect(where, annotations, permits=permits)
    if effect is Effect.APPROVAL:
        if not annotations.get("group"):
            raise RulesError(f"{where}: an approval rule needs a @group whose people may sign")
        if not _POSITIVE.fullmatch(annotations.get("n", "")):
            raise RulesError(f"{where}: an approval rule needs @n, how many must sign, a whole number of at least 1")
    elif extra := annotations.keys() & {"group", "n"}:
        raise RulesError(f'{where}: @{min(extra)} belongs to rules with @effect("approval")')
    _check_signed_clause(where, rule_id, effect, policy["conditions"])
    return Rule(
        id=rule_id,
        reason=annotations["reason"].strip(),
        permits=permits,
        effect=effect,
        group=annotations.get("group", ""),
        n=int(annotations.get("n", "0")),
        file=path.name,
    )


def _effect(where: str, annotations: Mapping[str, str], *, permits: bool) -> Effect | None:
    if "effect" not in annotations:
        return None
    if permits:
        raise RulesError(f"{where}: @effect belongs to a forbid")
    try:
        return Effect(annotations["effect"])
    except ValueError as error:
        raise RulesError(
            f"{where}: @effect is {annotations['effect']!r}, write one of {', '.join(Effect)} or leave it out"
        ) from error


def _check_signed_clause(
    where: str, rule_id: str, effect: Effect | None, conditions: Sequence[Mapping[str, Any]]
) -> None:
    """Check that a rule asking for clicks stands aside once its own demand is met, and for nothing else.

    A rule that looked at another rule's demand would be lifted by signatures it did not ask for.
    """
    signed = {".": {"left": {"Var": "context"}, "attr": "signed"}}
    own = {"kind": "unless", "body": {"contains": {"left": signed, "right": {"Value": rule_id}}}}
    if effect is not None and own not in conditions:
        raise RulesError(f'{where}: needs to end in unless {{ context.signed.contains("{rule_id}") }}')
    others = [condition for condition in conditions if effect is None or condition != own]
    if '"attr": "signed"' in json.dumps(others):
        raise RulesError(f"{where}: context.signed may only be asked for this rule's own id, in its unless clause")


def _line(problem: object) -> str:
    return " ".join(str(problem).split())
