"""Answers a question from the thread one is in, as it is written."""

from __future__ import annotations

from handlers.skill import Answer, Ask, Question, Streamed, after_command
from handlers.thread import read_utterances
from inference.model import Facts
from inference.purpose import Lane


class AnswerQuestion:
    name = "answer a question"
    usage = "ask when the release is planned"
    description = "Answer a question about the thread we are in."
    examples = (
        "ask when the release is planned",
        "what did Anna say about the deadline",
        "who is responsible for the rollout according to this thread",
        "did anyone here mention the budget",
        "why was the launch postponed in this discussion",
        "which date did they agree on above",
        "was there an answer to Tom's question in this conversation",
        "from what was written here, who has to do it",
        "according to the messages above, when do we ship",
        "does anybody in this thread know the price",
        "what reason did Ben give for the delay",
        "where in this conversation did somebody name a supplier",
        "who in this thread said no",
        "which version were they talking about above",
        "what number did she mention earlier in the thread",
        "did he say whether the test passed",
        "look in this thread: who owns the migration",
        "how many people did they say are affected",
    )
    progress = "reading the thread"
    lane = Lane.FAST

    def command(self, words: str) -> str | None:
        return after_command(words, "ask")

    def follow_up(self, asked: str, words: str) -> str | None:
        return f"ask {words.strip()}"

    async def answer(self, ask: Ask) -> Answer:
        if not ask.words.strip():
            return Question("What would you like to know?", ask.request)
        thread = await read_utterances(ask)
        facts = Facts(skills=ask.skills, thread=tuple(thread), now=ask.surroundings.now)
        return Streamed(ask.engine.reply(ask.words, facts))
