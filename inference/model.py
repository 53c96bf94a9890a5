"""What the product asks of a model, in its own words.

Two things implement `AssistantModel`: the vLLM client and the embedded offline engine. Neither knows who is
asking, holds a credential, or writes anything a platform would interpret; a plan that comes back is a proposal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol


class ModelUnavailable(Exception):
    """The model did not answer within its limits, or not in the agreed form. The message names the cause."""


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


@dataclass(frozen=True, slots=True)
class ProposedCall:
    """One action call a model proposes; nothing about it is trusted."""

    tool: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PlanProposal:
    """Calls in order, and the model's reason in its own words."""

    calls: tuple[ProposedCall, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a reply may rest on besides the person's words: stable text first, so that prefixes can be cached."""

    skills: tuple[str, ...] = ()
    """One line a skill: what the assistant can do."""
    thread: tuple[Utterance, ...] = field(default=())


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

    async def propose_plan(self, words: str, tools: Sequence[Tool], thread: Sequence[Utterance]) -> PlanProposal | None:
        """Turn a request into calls of the tools given; None when it asks for none of them."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
