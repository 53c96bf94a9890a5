"""Decides which skill a Turn is for: exact commands by rule, intents by embeddings, the language model last.

"None of these" is a first-class answer. Every decision says why it was taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from handlers.skill import Skill
from inference.handover import Engine
from inference.intent import IntentIndex
from inference.model import Label


@dataclass(frozen=True, slots=True)
class Route:
    """Where a Turn goes."""

    skill: Skill | None
    """None: nothing we can do."""
    words: str
    """What is left for the skill to read."""
    by: str
    """`command`, `embeddings` or `model`."""
    why: str
    """One sentence for the decision log; no message text."""
    confidence: float
    note: str | None = None
    """Something the person should know about how this was decided."""


class Router:
    """Finds the skill for what a person said.

    route = await router.route("please close TCK-12")
    """

    def __init__(self, skills: Sequence[Skill], index: IntentIndex, engine: Engine) -> None:
        self._skills = tuple(skills)
        self._by_name = {skill.name: skill for skill in skills}
        self._index = index
        self._engine = engine

    async def route(self, words: str) -> Route:
        """Decide. Never raises for a model that is away."""
        for skill in self._skills:
            rest = skill.command(words)
            if rest is not None:
                return Route(skill, rest, "command", f"typed the command for “{skill.name}”", 1.0)
        found = await self._index.decide(words)
        if found.label is not None:
            return Route(
                self._by_name[found.label],
                words,
                "embeddings",
                f"reads like “{found.label}” ({found.confidence:.0%} sure)",
                found.confidence,
            )
        if not self._engine.has_language_model:
            return Route(None, words, "embeddings", f"like none of the skills ({found.confidence:.0%} sure)", 0.0)
        asked = await self._engine.classify(words, labels(self._skills))
        skill_found = self._by_name.get(asked.value.label or "")
        why = f"the {asked.engine} says “{skill_found.name if skill_found else 'none of the skills'}”"
        return Route(skill_found, words, "model", why, asked.value.confidence, asked.degraded)


def labels(skills: Sequence[Skill]) -> list[Label]:
    """The skills as a classifier sees them."""
    return [Label(skill.name, skill.description, skill.examples) for skill in skills]
