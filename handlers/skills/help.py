"""Says what the assistant can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from handlers.card import Bullets, Text
from handlers.reply import Reply
from handlers.skill import Answer, Ask, Skill, after_command, listed


class Help:
    name = "help"
    usage = "help"
    description = "Show what I can do."
    examples = (
        "what can you do",
        "how does this work",
        "help me please",
        "what are your commands",
        "who are you and what do you do",
        "show me the list of things you can help with",
        "how do I use you",
    )
    progress = "looking up what I can do"

    def __init__(self, skills: Callable[[], Sequence[Skill]]) -> None:
        self._skills = skills

    def command(self, words: str) -> str | None:
        return after_command(words, "help", "?")

    async def answer(self, ask: Ask) -> Answer:
        return Reply(
            parts=(
                Text("Ask in plain words, or with a command:"),
                Bullets(listed(self._skills())),
                Text("Anything risky I show first, and do only when the right person has approved it."),
            )
        )
