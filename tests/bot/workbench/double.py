"""A chat platform in memory with a product of a few lines behind it, for tests of the page alone.

Its cards are drawn by the product's own renderers, so that the page meets the JSON that it will meet in earnest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from bot.slack.blocks import modal as slack_modal
from bot.slack.blocks import render
from bot.slack.buttons import ask_modal, read_action_id
from bot.teams.message import activities
from bot.workbench.platform import LocalMessage, LocalPerson, LocalRoom, PressRefused
from bot.workbench.teams_text import shown_text
from handlers.card import (
    Button,
    ButtonStyle,
    Card,
    Confirm,
    Facts,
    Heading,
    Mention,
    Quote,
    Text,
    TextInput,
    TextStyle,
    Tone,
    Verbatim,
)
from handlers.reply import Reply
from records.trace import TraceEntry

ROSA = LocalPerson("U0ROSA", "Rosa Blum")
AMIR = LocalPerson("U0AMIR", "Amir Haddad")
CHANNEL = "C0SUPPORT"
ASSISTANT = "U0COUNTERSIGN"
STARTED = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)

TITLE = "Close ticket TCK-1?"
HOSTILE = '<b>not bold</b> *stars* <@U0AMIR> :smile: &lt; & "quotes" [link](https://evil.example)'


def approval_card(decided: str = "", *, confirm: bool = False) -> Card:
    """The card the double shows for a request; without buttons once it is decided."""
    facts = Facts(
        (("System", "Sandbox tickets"), ("Ticket", "TCK-1: Printer on floor 3"), ("Risk", "External, reversible"))
    )
    sure = Confirm("Close this ticket?", "TCK-1 is closed in Sandbox tickets.", "Close it") if confirm else None
    return Card(
        title=TITLE if not decided else f"Ticket TCK-1 {decided}",
        parts=(
            facts,
            Heading("What will run"),
            Verbatim('tickets.close {"id": "TCK-1", "note": "Fixed on site"}\nplan 7c1f9e0a'),
            Quote(HOSTILE, "the assistant"),
            *((Text(f"{decided.capitalize()}."),) if decided else (Text("1 of 1 signature needed."),)),
            Text("Request req-1 · expires 10:30 UTC, in 59 minutes", TextStyle.SUBTLE),
        ),
        buttons=()
        if decided
        else (
            Button("approve", "Approve", "n-approve", ButtonStyle.PRIMARY, confirm=sure),
            Button(
                "deny",
                "Deny",
                "n-deny",
                ButtonStyle.DANGER,
                ask=TextInput("reason", "Why not?", "So that Rosa knows", required=True),
            ),
            Button("details", "Details", "n-details"),
        ),
        tone=Tone.GOOD if decided.startswith("approved") else Tone.DANGER if decided else Tone.WAITING,
    )


@dataclass(frozen=True, slots=True)
class _Modal:
    view: dict[str, Any]
    card: str
    room: str


class DoublePlatform:
    """LocalPlatform in memory: `slack` or `teams` by name."""

    def __init__(self, name: str = "slack", *, trace: DoubleTrace | None = None, confirm: bool = False) -> None:
        self.name = name
        self.trace = trace or DoubleTrace()
        self.confirm = confirm
        self.held: dict[str, LocalMessage] = {}
        self.pressed: list[Mapping[str, Any]] = []
        self.submitted: list[Mapping[str, str] | None] = []
        self._modals: dict[str, _Modal] = {}
        self._ids = count(1)
        self._listeners: set[asyncio.Queue[str]] = set()
        self.watched = asyncio.Event()
        """Set while somebody listens for changes."""
        self.unwatched = asyncio.Event()
        """Set once the last listener has gone."""

    def people(self) -> Sequence[LocalPerson]:
        return (ROSA, AMIR)

    def assistant(self) -> LocalPerson:
        return LocalPerson(ASSISTANT, "Countersign")

    def rooms(self, person: str) -> Sequence[LocalRoom]:
        return (LocalRoom(CHANNEL, "#support", False), LocalRoom(f"D{person}", "Direct message", True))

    def messages(self, room: str, person: str) -> Sequence[LocalMessage]:
        return [one for one in self.held.values() if one.room == room and one.only_for in (None, person)]

    async def say(self, person: str, room: str, text: str, thread: str | None = None) -> None:
        if text.startswith("/countersign"):
            self.answer(room, Reply.text("Ask me to close a ticket."), only_for=person)
            return
        said = self.add(room, person, self._as_written(text), thread=thread)
        if "@Countersign" in text or room.startswith("D"):
            self.trace.add("heard", "Rosa Blum asked for something in #support.")
            self.trace.add("planned", "One action: tickets.close.", approval="apr-1")
            mention = () if room.startswith("D") else (Mention(AMIR.id, AMIR.name), Text("please sign:"))
            self.answer(
                room, Reply(mention, approval_card(confirm=self.confirm), generated=True), thread=thread or said
            )

    async def press(self, person: str, room: str, message: str, action: Mapping[str, Any]) -> str | None:
        self.pressed.append(action)
        if message not in self.held:
            raise PressRefused("This message is gone.")
        verb, typed = self._verb(action), action.get("inputs", {})
        if verb == "details":
            return self._details(person, room, message)
        if person == ROSA.id:
            raise PressRefused("You asked for this, so somebody else has to sign it.")
        if verb == "deny" and self.name == "slack":
            ask = read_action_id(action["action_id"]).ask
            assert ask is not None
            self._open(person, ask_modal(ask, title="Deny", private_metadata="x"), message, room)
            return None
        self._decide(message, "approved by Amir Haddad" if verb == "approve" else f"denied: {typed['reason']}")
        return "Recorded."

    def modal(self, person: str) -> Mapping[str, Any] | None:
        opened = self._modals.get(person)
        return opened.view if opened else None

    async def submit_modal(self, person: str, values: Mapping[str, str] | None) -> None:
        self.submitted.append(values)
        if values is not None and values.get("reason") == "no":
            raise PressRefused("Say a little more than that.")
        opened = self._modals.pop(person)
        if values is not None:
            self._decide(opened.card, f"denied: {values['reason']}")
        self._tell("modal")

    async def changes(self) -> AsyncIterator[str]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._listeners.add(queue)
        self.watched.set()
        self.unwatched.clear()
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)
            if not self._listeners:
                self.watched.clear()
                self.unwatched.set()

    def add(self, room: str, author: str, text: str, *, thread: str | None = None) -> str:
        """A message as it stands after a person wrote it; returns its id."""
        name = next((one.name for one in self.people() if one.id == author), "Countersign")
        return self._put(room, author, name, text, thread, {}, None)

    def answer(self, room: str, reply: Reply, *, thread: str | None = None, only_for: str | None = None) -> str:
        """A message from the assistant, drawn by the product's renderer for this platform; returns its id."""
        text, payload = self._drawn(reply)
        return self._put(room, ASSISTANT, "Countersign", text, thread, payload, only_for)

    def _put(
        self,
        room: str,
        author: str,
        name: str,
        text: str,
        thread: str | None,
        payload: Mapping[str, Any],
        only_for: str | None,
    ) -> str:
        number = next(self._ids)
        message = LocalMessage(
            id=f"m{number}",
            room=room,
            thread=thread,
            author=author,
            author_name=name,
            from_assistant=author == ASSISTANT,
            at=STARTED + timedelta(seconds=7 * number),
            text=text,
            payload=payload,
            only_for=only_for,
        )
        self.held[message.id] = message
        self._tell(room)
        return message.id

    def _drawn(self, reply: Reply) -> tuple[str, Mapping[str, Any]]:
        if self.name == "slack":
            message = render(reply)[0]
            return message.text, {"blocks": list(message.blocks)}
        activity = activities(reply)[-1]
        kept: dict[str, Any] = {key: activity[key] for key in ("attachments", "entities") if key in activity}
        return shown_text(activity), kept

    def _as_written(self, text: str) -> str:
        if self.name == "teams":
            return text.replace("@Countersign", "<at>Countersign</at>")
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return escaped.replace("@Countersign", f"<@{ASSISTANT}>")

    def _verb(self, action: Mapping[str, Any]) -> str:
        return read_action_id(action["action_id"]).verb if self.name == "slack" else action["verb"]

    def _details(self, person: str, room: str, message: str) -> str | None:
        card = Card("Details", (Facts((("Plan", "7c1f9e0a"), ("Policy", "external-needs-one"))),))
        if self.name == "slack":
            view = slack_modal(card, private_metadata="x")
            assert view is not None
            self._open(person, view, message, room)
            return None
        self.answer(f"D{person}", Reply(card=card))
        return "The details are in your chat with Countersign."

    def _open(self, person: str, view: dict[str, Any], card: str, room: str) -> None:
        self._modals[person] = _Modal({**view, "id": f"V{next(self._ids)}"}, card, room)
        self._tell("modal")

    def _decide(self, message: str, decided: str) -> None:
        text, payload = self._drawn(Reply(card=approval_card(decided)))
        self.held[message] = replace(self.held[message], text=text, payload=payload, edited=True)
        self.trace.add("signed", f"The card is {decided.split(':')[0]}.", approval="apr-1", execution="exe-1")
        self._tell(self.held[message].room)

    def _tell(self, changed: str) -> None:
        for queue in self._listeners:
            queue.put_nowait(changed)


class DoubleTrace:
    """A trace in memory with the reading rule of the real one."""

    def __init__(self) -> None:
        self.entries: list[TraceEntry] = []
        self.reads = 0

    def add(
        self,
        stage: str,
        text: str,
        *,
        request: str = "req-1",
        approval: str | None = None,
        execution: str | None = None,
    ) -> None:
        number = len(self.entries) + 1
        at = STARTED + timedelta(seconds=number)
        self.entries.append(TraceEntry(number, at, "req-1", stage, text, approval, execution))

    async def read(self, after: int, limit: int) -> list[TraceEntry]:
        self.reads += 1
        if after == 0:
            return self.entries[-limit:]
        return [entry for entry in self.entries if entry.id > after][:limit]
