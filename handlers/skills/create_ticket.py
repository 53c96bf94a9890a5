"""Opens a ticket from what the person typed."""

from __future__ import annotations

import re

from actions.catalogue import Catalogue
from actions.road import WantedCall
from handlers.skill import Answer, Ask, Proposal, Question, after_command, as_tool
from inference.model import Origin, OriginKind
from inference.purpose import Lane

ACTION = "ticketing.create"
LONGEST_TITLE = 200
WHAT = "What should the ticket say? For example: the printer on floor 3 jams, high priority"
_ASKS_US = re.compile(
    r"(?:what|which|who|when|where|why|how|can you|could you|would you|will you|do i|do you|are there|is there)\b.*\?",
    re.IGNORECASE | re.DOTALL,
)
"""A question to us, which is no text of a ticket."""


class CreateTicket:
    name = "create a ticket"
    usage = "create a ticket: the printer on floor 3 jams, high priority"
    description = "Create a ticket."
    examples = (
        "create a ticket: the printer on the third floor jams",
        "open a ticket for the broken door",
        "please file a ticket, my laptop does not start",
        "log an issue that the VPN is down",
        "raise a new ticket about the coffee machine",
        "I need a ticket for a new keyboard, low priority",
        "report a problem with the login page",
        "new ticket: outage of the wiki",
        "add a ticket because my headset crackles",
        "could you write this down as a ticket please",
        "make a ticket out of this message",
        "submit an incident, nobody can log in to the shop",
        "put the leaking tap in as a ticket",
        "file a bug: search returns nothing",
        "I would like to report a fault with the air conditioning",
        "tiket for the slow wifi please",
        "we should have a ticket for that, urgent",
        "register an issue about the wrong invoice totals",
        "start a ticket called server room too hot",
        "get this tracked as an issue",
    )
    progress = "preparing the ticket"
    lane = Lane.FAST

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def command(self, words: str) -> str | None:
        return after_command(words, "create a ticket", "create ticket", "new ticket", "open a ticket")

    def follow_up(self, asked: str, words: str) -> str | None:
        text = words.strip()
        if not text or _ASKS_US.fullmatch(text):
            return None
        return f"{asked.rstrip(' .:!')}: {text}"

    async def answer(self, ask: Ask) -> Answer:
        typed = self.command(ask.request)
        if typed == "":
            return Question(WHAT, ask.request)
        if typed is None and ask.request != ask.turn.text:
            # The message was the answer to WHAT.
            typed = ask.turn.text
        spec, _ = self._catalogue.find(ACTION)
        answered = await ask.engine.propose_plan(ask.request, [as_tool(spec)], (), ask.surroundings)
        proposed = (
            next((call for call in answered.value.calls if call.tool == ACTION), None) if answered.value else None
        )
        if proposed is None and typed is None:
            return Question(WHAT, ask.request, answered.engine, answered.degraded)
        if proposed is None:
            # What the person typed as the ticket is the ticket, however it reads.
            assert typed is not None
            title = typed.strip()[:LONGEST_TITLE]
            call = WantedCall(ACTION, {"title": title}, {"title": Origin(OriginKind.TYPED)})
        else:
            call = WantedCall(ACTION, proposed.arguments, proposed.origins)
        return Proposal(
            calls=(call,),
            reason=answered.value.reason if answered.value else "",
            engine=answered.engine,
            degraded=answered.degraded,
        )
