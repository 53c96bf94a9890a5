"""Opens a ticket from what the person typed."""

from __future__ import annotations

from actions.catalogue import Catalogue
from actions.road import WantedCall
from handlers.reply import Reply
from handlers.skill import Answer, Ask, Proposal, after_command, as_tool

ACTION = "ticketing.create"
LONGEST_TITLE = 200


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
    )
    progress = "preparing the ticket"

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def command(self, words: str) -> str | None:
        return after_command(words, "create a ticket", "create ticket", "new ticket", "open a ticket")

    async def answer(self, ask: Ask) -> Answer:
        spec, _ = self._catalogue.find(ACTION)
        answered = await ask.engine.propose_plan(ask.turn.text, [as_tool(spec)], ())
        proposed = (
            next((call for call in answered.value.calls if call.tool == ACTION), None) if answered.value else None
        )
        typed = self.command(ask.turn.text)
        if proposed is None and typed:
            # The command says what is wanted, so what follows it is the ticket, however it reads.
            return Proposal(calls=(WantedCall(ACTION, {"title": typed[:LONGEST_TITLE]}),), reason="")
        if proposed is None:
            return Reply.text(f"What should the ticket say? For example: {self.usage}")
        return Proposal(
            calls=(WantedCall(ACTION, proposed.arguments),),
            reason=answered.value.reason if answered.value else "",
            note=answered.degraded,
        )
