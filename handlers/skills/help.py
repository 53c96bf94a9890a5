"""Says what the assistant can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from handlers.card import Bullets, Text
from handlers.reply import Reply
from handlers.skill import Answer, Ask, Skill, listed, whole_command
from inference.purpose import Lane


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
        "help",
        "I'm lost, how do I talk to you",
        "which kinds of jobs can I give you",
        "could you please explain your skills to me",
        "what are you good at",
        "teach me how to work with you",
        "wat can you do for me",
        "first time here, show me around",
        "any examples of what I might ask you?",
        "what is this bot for",
        "tell me everything you can help with",
        "got a manual for this assistant?",
        "which commands exist",
    )
    progress = "looking up what I can do"
    lane = Lane.FAST

    def __init__(self, skills: Callable[[], Sequence[Skill]]) -> None:
        self._skills = skills

    def command(self, words: str) -> str | None:
        return whole_command(words, "help", "?")

    def follow_up(self, asked: str, words: str) -> str | None:
        return None

    async def answer(self, ask: Ask) -> Answer:
        return Reply(
            parts=(
                Text("Ask in plain words, or with a command:"),
                Bullets(listed(self._skills())),
                Text("Anything risky I show first, and do only when the right person has approved it."),
            )
        )
