"""What the product asks of a model, in its own words.

Two things implement `AssistantModel`: the vLLM client and the embedded offline engine. Neither knows who is
asking, holds a credential, or writes anything a platform would interpret; a plan that comes back is a proposal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol


class ModelUnavailable(Exception):
    """The model did not answer within its limits, or not in the agreed form. The message names the cause."""


class AnswerUnusable(ModelUnavailable):
    """The model answered in time, but not in the agreed form. It says nothing against the server."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One message of a conversation, given to a model as data."""

    id: str
    author: str
    text: str
    at: datetime


@dataclass(frozen=True, slots=True)
class SummaryPoint:
    """One statement and the messages it rests on."""

    text: str
    sources: tuple[str, ...]
    """`Utterance.id`s; never empty."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A thread in short. Empty tuples mean that nothing of the kind was found."""

    points: tuple[SummaryPoint, ...]
    decisions: tuple[SummaryPoint, ...] = ()
    open_questions: tuple[SummaryPoint, ...] = ()
    dates: tuple[SummaryPoint, ...] = ()
    """What names a day or a time and is no decision, question or task."""
    tasks: tuple[SummaryPoint, ...] = ()
    """What somebody took on or was asked to do."""


@dataclass(frozen=True, slots=True)
class Label:
    """One class a text may be put in, with a few texts that belong to it."""

    name: str
    description: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Classification:
    """The best label and how sure the classifier is, 0 to 1; `label` is None for "none of these"."""

    label: str | None
    confidence: float


@dataclass(frozen=True, slots=True)
class Tool:
    """A catalogued action as a model sees it."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """A JSON schema of type object."""


class OriginKind(StrEnum):
    """Where a value of a proposed call comes from."""

    TYPED = "typed"
    """The requester typed it in this request."""
    THREAD = "thread"
    """It stands in messages of the thread: data that others may have written."""
    MODEL = "model"
    """Neither: the model rephrased, inferred or made it up."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one argument's value comes from."""

    kind: OriginKind
    messages: tuple[str, ...] = ()
    """`Utterance.id`s it stands in; only for `thread`."""


@dataclass(frozen=True, slots=True)
class ProposedCall:
    """One action call a model proposes; nothing about it is trusted."""

    tool: str
    arguments: Mapping[str, Any]
    origins: Mapping[str, Origin] = field(default_factory=dict)
    """By argument name, for every argument; found by comparing with the request and the thread, never said by the
    model. Filled in by `inference.origins.labelled`."""


@dataclass(frozen=True, slots=True)
class PlanProposal:
    """Calls in order, and the model's reason in its own words."""

    calls: tuple[ProposedCall, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class KnownPerson:
    """Somebody a request may name."""

    id: str
    """The organisation's own short name for the person; what an action's argument takes."""
    name: str
    """Full name, as colleagues write it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a request's words lean on: "tomorrow at nine", "assign it to Amir"."""

    now: datetime
    """When it was asked, aware, in the requester's time zone."""
    people: tuple[KnownPerson, ...] = ()
    """The organisation's directory."""
    asker: str = ""
    """Whom "me" means: the id of the person who asks."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a reply may rest on besides the person's words: stable text first, so that prefixes can be cached."""

    skills: tuple[str, ...] = ()
    """One line a skill: what the assistant can do."""
    thread: tuple[Utterance, ...] = field(default=())
    now: datetime | None = None
    """When it was asked, aware, in the requester's time zone."""


class AssistantModel(Protocol):
    """Answers in words, summaries, drafts, labels and proposed plans.

    Every method raises `ModelUnavailable` when no answer in the agreed form came in time.
    """

    name: str
    """What people are told answered: `offline engine`, or the served model's name."""

    def reply(self, words: str, facts: Facts) -> AsyncIterator[str]:
        """Answer free text, piece by piece."""
        ...

    async def summarise(self, thread: Sequence[Utterance]) -> Summary:
        """Put a thread in short; every point names the messages it rests on."""
        ...

    async def draft(self, instruction: str, thread: Sequence[Utterance]) -> str:
        """Write a reply to a thread for the person to edit and send themselves."""
        ...

    async def classify(self, text: str, labels: Sequence[Label]) -> Classification:
        """Pick the label a text belongs to, or none."""
        ...

    async def propose_plan(
        self,
        words: str,
        tools: Sequence[Tool],
        thread: Sequence[Utterance],
        surroundings: Surroundings | None = None,
    ) -> PlanProposal | None:
        """Turn a request into calls of the tools given; None when it asks for none of them.

        Without `surroundings` no date is reckoned and nobody is looked up.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
