"""Writes a reply to the thread one is in, for the person to edit and send themselves."""

from __future__ import annotations

from handlers.card import Part, Quote, Text, TextStyle
from handlers.reply import Reply
from handlers.skill import Answer, Ask, after_command
from handlers.thread import read_utterances


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
    )
    progress = "drafting"

    def command(self, words: str) -> str | None:
        return after_command(words, "draft a reply", "draft reply", "draft an answer", "draft")

    async def answer(self, ask: Ask) -> Answer:
        thread = await read_utterances(ask)
        answered = await ask.engine.draft(ask.words, thread)
        parts: list[Part] = [
            Text("Here is a draft. It is not sent; edit it and post it yourself."),
            Quote(answered.value, f"draft by the {answered.engine}"),
        ]
        if answered.degraded:
            parts.append(Text(answered.degraded, TextStyle.SUBTLE))
        return Reply(parts=tuple(parts), generated=True)
