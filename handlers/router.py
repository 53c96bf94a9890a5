"""Decides what a Turn is for: exact commands first, then answers to what we asked, then embeddings, the language model
last.

"None of these" is a first-class answer. Every decision says at which step it was taken and why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from handlers.decisions import Step
from handlers.open_questions import OpenQuestion
from handlers.skill import Skill, plain
from inference.handover import Engine
from inference.model import Label, ModelUnavailable
from inference.prediction import Intents, Prediction

SURE = 0.75
"""Confidence from which an accepted intent is not put to the language model as well. Confidence is calibrated, so that
below it one decision in four or more is expected to be wrong, and that is worth the wait for a second opinion; above
it the wait would mostly confirm what is known."""

PATIENCE_BEFORE_THE_MODEL = timedelta(seconds=2)
PATIENCE_ALONE = timedelta(seconds=20)
"""How long embeddings may take to decide. They take milliseconds, except while a new installation fits its skills; that
is worth waiting for only where there is nobody else to ask."""

STOP = frozenset({"stop", "stop it", "stop that", "stop please", "please stop"})
NEVER_MIND = frozenset({"never mind", "nevermind", "cancel", "cancel it", "cancel that", "forget it", "forget that"})


class Goal(StrEnum):
    """What is to be done with a Turn."""

    SKILL = "skill"
    STOP = "stop"
    """End the answer that is being written."""
    CLOSE = "close"
    """Give up the question we had asked."""
    NOTHING = "nothing"
    """Out of scope: say so, and what can be done."""
    COMMANDS_ONLY = "commands_only"
    """Nothing could read the words: say so, and that exact commands still work."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a Turn goes."""

    goal: Goal
    step: Step
    reason: str
    """One sentence for the decision log; no message text."""
    confidence: float
    """0 to 1."""
    skill: Skill | None = None
    """Given with `Goal.SKILL`."""
    request: str = ""
    """All that was asked for, with the answer to what we had asked back."""
    words: str = ""
    """What is left of it for the skill to read."""
    question: OpenQuestion | None = None
    """The open question that this answers or gives up."""
    measured: Prediction | None = None
    """What the embeddings said, where they were asked."""
    engine: str | None = None
    """Who was asked besides the embeddings; None for nobody."""
    degraded: str | None = None
    """`Answered.degraded` of that."""

    @property
    def prediction(self) -> str | None:
        """For the decision log: the skill's name, `stop` or `close`; None where it is out of scope."""
        if self.skill is not None:
            return self.skill.name
        return self.goal.value if self.goal in (Goal.STOP, Goal.CLOSE) else None


class Router:
    """Finds out what somebody wants.

    route = await router.route("please close TCK-12", engine=engine, asked=None)
    """

    def __init__(self, skills: Sequence[Skill], intents: Intents) -> None:
        self._skills = tuple(skills)
        self._by_name = {skill.name: skill for skill in skills}
        self._labels = labels(skills)
        self._examples = {plain(text): skill.name for skill in skills for text in (skill.usage, *skill.examples)}
        self._intents = intents

    async def route(self, words: str, *, engine: Engine, asked: OpenQuestion | None = None) -> Route:
        """Decide. `asked` is the question that waits for this person here. Never raises for a model that is away."""
        return self._exact(words) or self._follow_up(words, asked) or await self._by_meaning(words, engine)

    def _exact(self, words: str) -> Route | None:
        if plain(words) in STOP:
            return Route(Goal.STOP, Step.COMMAND, "typed the command to stop", 1.0)
        for skill in self._skills:
            rest = skill.command(words)
            if rest is not None:
                reason = f"typed the command for “{skill.name}”"
                return Route(Goal.SKILL, Step.COMMAND, reason, 1.0, skill, request=words, words=rest)
        return None

    def _follow_up(self, words: str, asked: OpenQuestion | None) -> Route | None:
        skill = self._by_name.get(asked.skill) if asked is not None else None
        if asked is None or skill is None:
            return None
        if plain(words) in NEVER_MIND:
            return Route(Goal.CLOSE, Step.FOLLOW_UP, f"gave up what “{skill.name}” had asked", 1.0, question=asked)
        if self._examples.get(plain(words), skill.name) != skill.name:
            return None  # word for word how another skill is asked for
        request = skill.follow_up(asked.words, words)
        if request is None:
            return None
        rest = skill.command(request)
        return Route(
            Goal.SKILL,
            Step.FOLLOW_UP,
            f"answered what “{skill.name}” had asked",
            1.0,
            skill,
            request=request,
            words=request if rest is None else rest,
            question=asked,
        )

    async def _by_meaning(self, words: str, engine: Engine) -> Route:
        patience = PATIENCE_BEFORE_THE_MODEL if engine.has_language_model else PATIENCE_ALONE
        measured: Prediction | None = None
        # Either way nothing can embed the words in time, and whoever is next in order is asked.
        with suppress(ModelUnavailable, TimeoutError):
            async with asyncio.timeout(patience.total_seconds()):
                measured = await self._intents.decide(words)
        nearest = self._by_embeddings(words, measured)
        sure = nearest.goal is Goal.SKILL and nearest.confidence >= SURE
        if sure or not engine.has_language_model:
            return nearest
        try:
            asked = await engine.classify(words, self._labels)
        except ModelUnavailable:
            return nearest
        if asked.degraded is not None and measured is not None:
            # The offline engine stood in. It knows nothing of meaning that the embeddings have not said already.
            return replace(nearest, engine=asked.engine, degraded=asked.degraded)
        skill = self._by_name.get(asked.value.label or "")
        return Route(
            Goal.SKILL if skill else Goal.NOTHING,
            Step.MODEL,
            f"the {asked.engine} says “{skill.name if skill else 'none of the skills'}”",
            asked.value.confidence,
            skill,
            request=words,
            words=words,
            measured=measured,
            engine=asked.engine,
            degraded=asked.degraded,
        )

    def _by_embeddings(self, words: str, measured: Prediction | None) -> Route:
        if measured is None:
            return Route(Goal.COMMANDS_ONLY, Step.EMBEDDINGS, "nothing that reads words answers", 0.0)
        sure = f"({measured.confidence:.0%} sure)"
        skill = self._by_name.get(measured.label or "")
        if skill is None:
            reason = f"like none of the skills {sure}"
            return Route(Goal.NOTHING, Step.EMBEDDINGS, reason, measured.confidence, measured=measured)
        reason = f"reads like “{skill.name}” {sure}"
        return Route(
            Goal.SKILL,
            Step.EMBEDDINGS,
            reason,
            measured.confidence,
            skill,
            request=words,
            words=words,
            measured=measured,
        )


def labels(skills: Sequence[Skill]) -> list[Label]:
    """The skills as a classifier sees them."""
    return [Label(skill.name, skill.description, skill.examples) for skill in skills]
