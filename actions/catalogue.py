"""The action catalogue: every operation that may be done on a downstream system, typed and classified.

No entry, no run: a plan can name only what is registered here, in the version registered here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError


class ActionClass(StrEnum):
    """What an action touches; the rules decide by it."""

    READ = "read"
    SELF = "self"
    """Only the requester's own things."""
    EXTERNAL = "external"
    """Seen by other people."""
    DESTRUCTIVE = "destructive"
    """Ends or removes something."""
    MONEY = "money"
    IDENTITY = "identity"


class Reversibility(StrEnum):
    REVERSIBLE = "reversible"
    COMPENSABLE = "compensable"
    IRREVERSIBLE = "irreversible"


class Repeat(StrEnum):
    """What may be done when nobody knows whether the first call arrived."""

    IDEMPOTENT_KEY = "idempotent_key"
    """Call again with the same key: the system answers with the first result."""
    CHECK_THEN_ACT = "check_then_act"
    """Look for our marker; act only when it is not there."""
    NATURAL = "natural"
    """Setting the same value twice is setting it once."""
    BLIND = "blind"
    """Never again without a person: the outcome is unknown."""


@dataclass(frozen=True, slots=True)
class Target:
    """The record an action is about, as it is now."""

    id: str
    title: str
    version: str
    """Changes whenever the record does; the plan names the one that was shown."""
    url: str
    text: str = ""
    """What it says at length, where a read was about that."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What an action did."""

    record: str
    """Id of the record it made or changed."""
    text: str
    """One sentence for people: `Closed TCK-12.`"""
    url: str


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """One catalogued operation."""

    name: str
    """`system.verb`, for example `ticketing.close`."""
    version: int
    title: str
    """What it does in three words, for a card's heading: `Close a ticket`."""
    description: str
    """What it does in a sentence, for people and models."""
    arguments: type[BaseModel]
    action_class: ActionClass
    reversibility: Reversibility
    repeat: Repeat
    owner: str
    """Who answers for it."""
    target_argument: str | None = None
    """The argument that names an existing record; its version is read before asking and again before acting."""
    timeout: timedelta = timedelta(seconds=20)
    """Longest a call may take before its outcome counts as unknown."""

    def schema(self) -> dict[str, Any]:
        """The arguments' JSON schema."""
        return self.arguments.model_json_schema()


class ConnectorError(Exception):
    """A downstream system did not do what was asked. The message is for people: what happened, what to do."""


class Refused(ConnectorError):
    """The system said no, and would again: nothing was changed."""


class TargetChanged(ConnectorError):
    """The record is no longer in the version that was shown; nothing was changed."""


class Unreachable(ConnectorError):
    """No answer: the call may or may not have arrived."""


class Connector(Protocol):
    """One downstream system. `actions/connectors/sandbox_ticketing.py` is a complete example.

    A new one is one module and one line in `actions/connectors/registry.py`.
    """

    name: str

    @property
    def actions(self) -> tuple[ActionSpec, ...]:
        """What it can do."""
        ...

    async def read_target(self, action: str, record: str) -> Target:
        """The record as it is now. Raises Refused when there is none, Unreachable."""
        ...

    async def read(self, action: str, arguments: Mapping[str, Any]) -> Sequence[Target]:
        """What an action of class `read` finds. Raises Refused, Unreachable."""
        ...

    async def perform(self, action: str, arguments: Mapping[str, Any], *, key: str, expected: str | None) -> Effect:
        """Do it, once per `key`. `expected` is the target's version that was shown.

        Raises Refused, TargetChanged or Unreachable.
        """
        ...

    async def find_effect(self, action: str, key: str) -> Effect | None:
        """What a call with this key did, None when it did nothing; for `check_then_act`. Raises Unreachable."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class UnknownAction(Exception):
    """The catalogue has no such action."""


class ArgumentsInvalid(Exception):
    """The arguments do not fit the action; the message names each field and what is wrong with it."""


class Catalogue:
    """All actions of all connectors, by name."""

    def __init__(self, connectors: Iterable[Connector]) -> None:
        """Raises ValueError when two connectors claim one action, or an action's target is no argument of it."""
        self._entries: dict[str, tuple[ActionSpec, Connector]] = {}
        for connector in connectors:
            for spec in connector.actions:
                if spec.name in self._entries:
                    raise ValueError(f"the action {spec.name} is registered twice")
                if spec.target_argument and spec.target_argument not in spec.arguments.model_fields:
                    raise ValueError(f"the action {spec.name} has no argument {spec.target_argument}")
                self._entries[spec.name] = (spec, connector)

    def find(self, name: str) -> tuple[ActionSpec, Connector]:
        """An action and the connector that does it; raises UnknownAction."""
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownAction(f"there is no action {name!r} in the catalogue") from None

    def specs(self) -> tuple[ActionSpec, ...]:
        """Every action, by name."""
        return tuple(spec for _, (spec, _) in sorted(self._entries.items()))

    def check_arguments(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments in canonical form (defaults filled in); raises ArgumentsInvalid."""
        spec, _ = self.find(name)
        try:
            return spec.arguments.model_validate(dict(arguments)).model_dump(mode="json")
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
            raise ArgumentsInvalid(faults) from error
