"""What may be sent to a model server: the rules' answer, bound to one request and remembered.

Invariant: nothing is sent where the rules did not say a clean yes for this person, this place and this server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import structlog

from policies.facts import ModelRequest
from policies.people import Person
from policies.rules import ENGINE, Rules

REMEMBERED = 4096
"""Answers kept; a person asks from a handful of kinds of place, of one or two servers."""

log = structlog.get_logger(__name__)


class Endpoint(Protocol):
    """A model server, as far as the rules judge it; the inference floor has the type."""

    @property
    def name(self) -> str:
        """Host and served model: `llm.internal/qwen3`."""
        ...

    @property
    def inside(self) -> bool:
        """It runs on the organisation's own machines."""
        ...

    @property
    def receives(self) -> str:
        """`nothing`, `own-words` or `everything`."""
        ...


class ResidencyRule:
    """Asks the rules what may go where.

        residency = ResidencyRule(rules)
        bound = residency.for_request(person, is_guest=False, ..., place_internal=True, direct=False)
        refusal = bound.refusal(endpoint, others_words=True)      # None, or a sentence for people

    It is asked before every call of a model, so answers are remembered by everything the rules are told. Rules that
    change have another digest, and are asked anew.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._digest = rules.digest
        self._answers: dict[ModelRequest, str | None] = {}

    def for_request(
        self,
        person: Person | None,
        *,
        is_guest: bool,
        is_bot: bool,
        is_external: bool,
        place_internal: bool,
        direct: bool,
    ) -> BoundResidency:
        """The rule for what one person asks in one place; the flags come from the platform's verified envelope.

        `person` is None for somebody the people file does not know.
        """
        return BoundResidency(self, person, False, is_guest, is_bot, is_external, place_internal, direct)

    def for_house(self, *, place_internal: bool = False) -> BoundResidency:
        """The rule for the assistant's own work, which nobody asked for.

        `place_internal`: all it works on was said where nobody of another organisation can read along.
        """
        return BoundResidency(self, None, True, False, False, False, place_internal, False)

    def refusal(self, request: ModelRequest) -> str | None:
        """Why this may not be sent, in a sentence for people; None where it may. Never raises."""
        if self._digest != self._rules.digest:
            self._answers.clear()
            self._digest = self._rules.digest
        well_formed = _well_formed(request)
        if well_formed and request in self._answers:
            return self._answers[request]
        decision = self._rules.may_ask_model(request)
        refusal = None if decision.allowed else decision.reason
        if well_formed and decision.answered:
            if len(self._answers) >= REMEMBERED:
                self._answers.clear()
            self._answers[request] = refusal
        return refusal


@dataclass(frozen=True, slots=True)
class BoundResidency:
    """What may be sent for one request, or for the house. Made by `ResidencyRule`."""

    rule: ResidencyRule
    person: Person | None
    house: bool
    is_guest: bool
    is_bot: bool
    is_external: bool
    place_internal: bool
    direct: bool

    def refusal(self, endpoint: Endpoint, *, others_words: bool) -> str | None:
        """Why it may not go to this server, in a sentence for people; None where it may. Never raises.

        `others_words`: the request carries what other people wrote, and not only the requester's own words.
        """
        try:
            return self.rule.refusal(
                ModelRequest(
                    person=self.person,
                    house=self.house,
                    is_guest=self.is_guest,
                    is_bot=self.is_bot,
                    is_external=self.is_external,
                    place_internal=self.place_internal,
                    direct=self.direct,
                    endpoint=endpoint.name,
                    inside=endpoint.inside,
                    receives=endpoint.receives,
                    others_words=others_words,
                )
            )
        except Exception as error:
            # An endpoint without one of its facts, or one that cannot be looked up. The kind only: no value is told.
            log.error("residency_not_judged", error=type(error).__name__)
            return ENGINE[1]


def _well_formed(request: ModelRequest) -> bool:
    """Whether every flag is one: `0` equals False, and must not be given what was answered to it."""
    flags = (
        request.house,
        request.is_guest,
        request.is_bot,
        request.is_external,
        request.place_internal,
        request.direct,
        request.inside,
        request.others_words,
    )
    return all(flag is True or flag is False for flag in flags)
