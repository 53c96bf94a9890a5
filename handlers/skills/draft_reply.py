"""Writes a reply to the thread one is in, for the person to edit and send themselves."""

from __future__ import annotations

from handlers.card import Quote, Text
from handlers.reply import Reply
from handlers.skill import Answer, Ask, Composed, after_command
from handlers.thread import read_utterances
from inference.purpose import Lane


class DraftReply:
    name = "draft a reply"
    usage = "draft a reply: say that we ship on Friday"
    description = "Draft a reply to the thread we are in, for you to edit and send."
    examples = (
        "draft a reply",
        "write an answer to this for me",
        "help me respond to Anna's question",
        "compose a polite response saying we need more time",
        "what should I answer",
        "prepare a reply to the customer above",
        "suggest a response to this message",
        "which reply would suit this mail",
        "write back that we agree with the plan",
        "draft an apology to the client for the late delivery",
        "I need to turn down their offer, find me nice words",
        "word a friendly answer for me",
        "help me write back to Lena",
        "respnd to this for me",
        "give me something to post as my answer",
        "put together a short response thanking him",
        "formulate a reply that asks when they can start",
        "tell her politely that I can't make it, write the reply for me",
        "what do I say to that? a suggestion please",
        "could you please phrase an answer to the message above",
    )
    progress = "drafting"
    lane = Lane.RICH

    def command(self, words: str) -> str | None:
        return after_command(words, "draft a reply", "draft reply", "draft an answer", "draft")

    def follow_up(self, asked: str, words: str) -> str | None:
        return None

    async def answer(self, ask: Ask) -> Answer:
        thread = await read_utterances(ask)
        answered = await ask.engine.draft(ask.words, thread)
        parts = (
            Text("Here is a draft. It is not sent; edit it and post it yourself."),
            Quote(answered.value, f"draft by the {answered.engine}"),
        )
        return Composed(Reply(parts=parts, generated=True), answered.engine, answered.degraded)
