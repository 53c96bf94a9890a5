"""Puts the thread one is in into a few sentences, each from a message of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from handlers.card import Bullets, Heading, Part, Text, TextStyle
from handlers.reply import Reply
from handlers.skill import Answer, Ask, Composed, whole_command
from handlers.thread import read_utterances
from inference.model import SummaryPoint, Utterance
from inference.purpose import Lane

_COMMANDS = (
    "summarise this thread",
    "summarize this thread",
    "summarise",
    "summarize",
    "summary",
    "tl;dr",
    "tldr",
)


class SummariseThread:
    name = "summarise this thread"
    usage = "summarise this thread"
    description = "Summarise the thread we are in: what was said, decided and left open."
    examples = (
        "summarise this thread",
        "summarize the conversation above",
        "give me the gist of this discussion",
        "what happened here so far",
        "tl;dr please",
        "catch me up on this thread",
        "recap what was said",
        "what did they decide",
        "I was away, please summarise what I missed",
        "key points of this conversation",
        "can you shorten this discussion to a few lines",
        "sum up the messages above for me",
        "too much to read, short version of the thread please",
        "summery of this thread pls",
        "what was this whole conversation about",
        "which decisions were made in this thread",
        "brief me on the discussion",
        "bring me up to speed",
        "I just joined, what have they been talking about",
        "could you condense everything people wrote here",
    )
    progress = "reading the thread"
    lane = Lane.FAST

    def command(self, words: str) -> str | None:
        return whole_command(words, *_COMMANDS)

    def follow_up(self, asked: str, words: str) -> str | None:
        return None

    async def answer(self, ask: Ask) -> Answer:
        thread = await read_utterances(ask)
        if not thread:
            return Reply.text("There is nothing here to summarise yet: I see no messages before yours.")
        answered = await ask.engine.summarise(thread)
        summary = answered.value
        by_id = {utterance.id: utterance for utterance in thread}
        parts: list[Part] = [Bullets(_lines(summary.points, by_id))] if summary.points else []
        for title, points in (
            ("Decided", summary.decisions),
            ("To do", summary.tasks),
            ("Dates", summary.dates),
            ("Still open", summary.open_questions),
        ):
            if points:
                parts += [Heading(title), Bullets(_lines(points, by_id))]
        authors = len({utterance.author for utterance in thread})
        people = "person" if authors == 1 else "people"
        parts.append(
            Text(f"From {len(thread)} messages by {authors} {people}, by the {answered.engine}.", TextStyle.SUBTLE)
        )
        return Composed(Reply(parts=tuple(parts), generated=True), answered.engine, answered.degraded)


def _lines(points: Iterable[SummaryPoint], by_id: Mapping[str, Utterance]) -> tuple[str, ...]:
    """Each point with the people whose messages it rests on."""
    lines = []
    for point in points:
        authors = list(dict.fromkeys(by_id[source].author for source in point.sources if source in by_id))
        named = ", ".join(authors)
        lines.append(point.text if not named or point.text.startswith(named) else f"{named}: {point.text}")
    return tuple(lines)
