"""Proposes a ticket's category, priority and queue, and says where it is not sure. It changes nothing."""

from __future__ import annotations

import re

from handlers.card import Facts, Part, Text, TextStyle
from handlers.reply import Reply
from handlers.skill import Answer, Ask, Question, after_command
from inference.purpose import Lane
from inference.ticket_classifier import HEADS, HeadPrediction, Ticket
from inference.triage import Triage

ACTION = "ticketing.read"
_TYPED_ID = re.compile(r"\bTCK-[0-9]{1,9}\b", re.IGNORECASE)
WORTH_NAMING = 0.15
"""Share of the confidence from which another value is named beside the likeliest."""


class TriageTicket:
    name = "triage a ticket"
    usage = "triage TCK-12"
    description = "Propose a ticket's category, priority and queue, from tickets your people sorted before."
    examples = (
        "triage TCK-12",
        "which queue does TCK-4 belong in",
        "what category is ticket TCK-30",
        "how urgent is TCK-8",
        "classify TCK-21 for me",
        "where should TCK-7 go",
        "who should handle ticket TCK-15",
        "can you sort TCK-2 into the right queue please",
        "what priority would you give TCK-19",
        "route TCK-11",
        "suggest a category for TCK-5",
        "please triage ticket TCK-40",
        "which team takes TCK-9",
        "is TCK-3 urgent or can it wait",
        "asign TCK-6 to the right queue",
        "categorise TCK-33",
    )
    progress = "reading the ticket"
    lane = Lane.FAST

    def __init__(self, triage: Triage) -> None:
        self._triage = triage

    def command(self, words: str) -> str | None:
        return after_command(words, "triage")

    def follow_up(self, asked: str, words: str) -> str | None:
        return f"triage {words.strip()}"

    async def answer(self, ask: Ask) -> Answer:
        typed = list(dict.fromkeys(match.group().upper() for match in _TYPED_ID.finditer(ask.request)))
        described = (self.command(ask.request) or "").strip()
        if len(typed) == 1:
            (record,) = await ask.road.read(ACTION, {"ticket": typed[0]}, asker=ask.asker)
            shown, ticket = f"{record.id} ({record.title})", Ticket(record.title, record.text)
        elif described and not typed:
            shown, ticket = "what you describe", Ticket(described)
        else:
            which = "I triage one ticket at a time. Which one?" if typed else "Which ticket? Or describe the problem."
            return Question(f"{which} For example: {self.usage}", ask.request)
        found = await self._triage.propose(ticket)
        if found is None:
            return Reply.text(
                "I have not learnt how your tickets are sorted yet; nothing was proposed or changed. An operator "
                "teaches me with the command “countersign train tickets”."
            )
        heads = {name: getattr(found, name) for name in HEADS}
        parts: list[Part] = [
            Text(f"For {shown} I propose:"),
            Facts(tuple((name.capitalize(), _proposal(head)) for name, head in heads.items())),
            Text("A proposal from tickets sorted before; nothing was changed.", TextStyle.SUBTLE),
        ]
        return Reply(parts=tuple(parts), generated=True)


def _proposal(head: HeadPrediction) -> str:
    """A head's answer in words, or that it has none and what it may be."""
    if not head.alternatives:
        return "nothing learnt"
    likeliest = ", ".join(f"{value} {share:.0%}" for value, share in head.alternatives if share >= WORTH_NAMING)
    if head.label is None:
        return f"not sure enough ({likeliest or 'many are as likely'})"
    return f"{head.label}, {head.confidence:.0%} sure"
