"""Lists the open tickets of whoever asks."""

from __future__ import annotations

from handlers.card import Link, Part, Text
from handlers.reply import Reply
from handlers.skill import Answer, Ask, after_command

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
    )
    progress = "searching tickets"

    def command(self, words: str) -> str | None:
        return after_command(words, "my open tickets", "my tickets", "tickets")

    async def answer(self, ask: Ask) -> Answer:
        tickets = await ask.road.read(ACTION, {}, asker=ask.asker)
        if not tickets:
            return Reply.text("You have no open tickets.")
        count = f"{len(tickets)} open ticket{'s' if len(tickets) != 1 else ''}"
        parts: list[Part] = [Text(f"You have {count}:")]
        parts += [Link(f"{ticket.id}: {ticket.title}", ticket.url) for ticket in tickets]
        return Reply(parts=tuple(parts))
