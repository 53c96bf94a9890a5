"""Lists the open tickets of whoever asks."""

from __future__ import annotations

from handlers.card import Link, Part, Text
from handlers.reply import Reply
from handlers.skill import Answer, Ask, whole_command
from inference.purpose import Lane

ACTION = "ticketing.mine"


class MyTickets:
    name = "my open tickets"
    usage = "my tickets"
    description = "List your open tickets."
    examples = (
        "my open tickets",
        "which tickets do I have",
        "show my tickets",
        "what is still open for me",
        "list the tickets I created",
        "do I have any open tickets",
        "what tickets are assigned to me",
        "what's on my plate",
        "the tickets I own, as a list please",
        "which issues do I still have to work on",
        "can you show me all tickets in my name",
        "how many of my tickets are still open",
        "see my ticket queue",
        "my tikets",
        "everything assigned to me please",
        "did anyone give me new tickets",
        "which of my issues are not done yet",
        "I'd like to look through what I have open",
        "open issues of mine",
        "look up what tickets I've got left",
    )
    progress = "searching tickets"
    lane = Lane.FAST

    def command(self, words: str) -> str | None:
        return whole_command(words, "my open tickets", "my tickets", "tickets")

    def follow_up(self, asked: str, words: str) -> str | None:
        return None

    async def answer(self, ask: Ask) -> Answer:
        tickets = await ask.road.read(ACTION, {}, asker=ask.asker)
        if not tickets:
            return Reply.text("You have no open tickets.")
        count = f"{len(tickets)} open ticket{'s' if len(tickets) != 1 else ''}"
        parts: list[Part] = [Text(f"You have {count}:")]
        parts += [Link(f"{ticket.id}: {ticket.title}", ticket.url) for ticket in tickets]
        return Reply(parts=tuple(parts))
