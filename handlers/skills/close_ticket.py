"""Closes a ticket the person names. The id must be one they typed themselves, whatever a model proposes."""

from __future__ import annotations

import re

from actions.catalogue import Catalogue
from actions.road import WantedCall
from handlers.reply import Reply
from handlers.skill import Answer, Ask, Proposal, after_command, as_tool

ACTION = "ticketing.close"
_TYPED_ID = re.compile(r"\bTCK-[0-9]{1,9}\b", re.IGNORECASE)


class CloseTicket:
    name = "close a ticket"
    usage = "close TCK-12"
    description = "Close a ticket; someone else has to approve it."
    examples = (
        "close TCK-12",
        "please close ticket TCK-7, it is solved",
        "mark TCK-3 as done",
        "TCK-9 can be closed, the user confirmed",
        "resolve ticket TCK-21",
        "that ticket is finished, close it",
        "shut TCK-5, duplicate of another one",
    )
    progress = "looking up the ticket"

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def command(self, words: str) -> str | None:
        return after_command(words, "close ticket", "close")

    async def answer(self, ask: Ask) -> Answer:
        typed = list(dict.fromkeys(match.group().upper() for match in _TYPED_ID.finditer(ask.words)))
        if len(typed) != 1:
            which = "Which ticket" if not typed else "I close one ticket at a time. Which one"
            return Reply.text(f"{which} should I close? For example: {self.usage}")
        spec, _ = self._catalogue.find(ACTION)
        answered = await ask.engine.propose_plan(ask.turn.text, [as_tool(spec)], ())
        arguments: dict[str, object] = {}
        if answered.value is not None:
            proposed = next((call for call in answered.value.calls if call.tool == ACTION), None)
            arguments = dict(proposed.arguments) if proposed else {}
        return Proposal(
            calls=(WantedCall(ACTION, {**arguments, "ticket": typed[0]}),),
            reason=answered.value.reason if answered.value else "",
            note=answered.degraded,
        )
