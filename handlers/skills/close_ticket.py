"""Closes a ticket the person names. The id must be one they typed themselves, whatever a model proposes."""

from __future__ import annotations

import re

from actions.catalogue import Catalogue
from actions.road import WantedCall
from handlers.skill import Answer, Ask, Proposal, Question, after_command, as_tool
from inference.model import Origin, OriginKind
from inference.purpose import Lane

ACTION = "ticketing.close"
_TYPED_ID = re.compile(r"\bTCK-[0-9]{1,9}\b", re.IGNORECASE)
_BARE_NUMBER = re.compile(r"(?:no\.?|number|#)?\s*([0-9]{1,9})", re.IGNORECASE)
"""A ticket as people name it when asked which one."""


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
        "TCK-30 is fixed, you can close that one",
        "please flag TCK-18 as resolved",
        "TCK-4 done",
        "no longer needed, shut ticket TCK-52",
        "would you kindly close my ticket TCK-16",
        "the problem in TCK-8 went away, so please resolve it",
        "finish ticket 27",
        "cloze tck-60",
        "complete TCK-35, works again",
        "close the ticket about the heating",
        "close out the issue TCK-11, it was a mistake",
        "we are through with TCK-45, end it",
        "take TCK-2 off the board, it's solved",
    )
    progress = "looking up the ticket"
    lane = Lane.FAST

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def command(self, words: str) -> str | None:
        rest = after_command(words, "close ticket", "close")
        # "close to the window it leaks" is no order to close anything.
        return rest if not rest or _TYPED_ID.search(rest) else None

    def follow_up(self, asked: str, words: str) -> str | None:
        number = _BARE_NUMBER.fullmatch(words.strip().rstrip("."))
        answer = f"TCK-{number[1]}" if number else words.strip()
        if not _TYPED_ID.search(answer):
            return None
        # What was named before was too many; the answer says which one.
        return " ".join([*_TYPED_ID.sub("", asked).split(), answer])

    async def answer(self, ask: Ask) -> Answer:
        typed = list(dict.fromkeys(match.group().upper() for match in _TYPED_ID.finditer(ask.request)))
        if len(typed) != 1:
            which = "Which ticket" if not typed else "I close one ticket at a time. Which one"
            return Question(f"{which} should I close? For example: TCK-12", ask.request)
        spec, _ = self._catalogue.find(ACTION)
        answered = await ask.engine.propose_plan(ask.request, [as_tool(spec)], (), ask.surroundings)
        proposed = (
            next((call for call in answered.value.calls if call.tool == ACTION), None) if answered.value else None
        )
        ticket = Origin(OriginKind.TYPED)
        call = (
            WantedCall(ACTION, {**proposed.arguments, "ticket": typed[0]}, {**proposed.origins, "ticket": ticket})
            if proposed
            else WantedCall(ACTION, {"ticket": typed[0]}, {"ticket": ticket})
        )
        return Proposal(
            calls=(call,),
            reason=answered.value.reason if answered.value else "",
            engine=answered.engine,
            degraded=answered.degraded,
        )
