"""The local Slack's memory: rooms, messages, open modals, triggers. A JSON file brings it back after a restart."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from bot.workbench.platform import LocalPerson, LocalRoom

TRIGGER_LIFE = 3.0
"""Seconds in which a trigger opens a modal, once."""
KEPT_MESSAGES = 2_000
"""Of a room; older ones are forgotten."""
CHANNEL = LocalRoom(id="C0SUPPORT1", name="#support", direct=False)

Json = dict[str, Any]


class SlackError(Exception):
    """What Slack answers with `"ok": false`; the message is its error code."""


class SlackWorkspace:
    """One channel, and a direct message with the bot for every person."""

    def __init__(
        self,
        people: Sequence[LocalPerson],
        *,
        bot_user_id: str,
        state_file: Path | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.people = {person.id: person for person in people}
        self.bot_user_id = bot_user_id
        self.rooms = {CHANNEL.id: CHANNEL}
        self.direct_rooms: dict[str, str] = {}
        """Room id by person."""
        for person in people:
            room = LocalRoom(id=_direct_id(person.id), name="Countersign", direct=True)
            self.rooms[room.id] = room
            self.direct_rooms[person.id] = room.id
        self.statuses: dict[tuple[str, str], str] = {}
        """What a thread shows as the assistant's status."""
        self._messages: dict[str, list[Json]] = {room: [] for room in self.rooms}
        self._views: dict[str, list[Json]] = {}
        self._triggers: dict[str, tuple[str, float]] = {}
        self._clock = clock
        self._last_moment = 0
        self._subscribers: set[asyncio.Queue[str]] = set()
        self._state_file = state_file
        self._saving: asyncio.Task[None] | None = None
        self._unsaved = False

    def members(self, room: str) -> frozenset[str]:
        """People who can read a room."""
        owners = [person for person, direct in self.direct_rooms.items() if direct == room]
        return frozenset(owners or self.people)

    def messages(self, room: str) -> list[Json]:
        """Messages of a room, oldest first, ephemerals among them; raises SlackError."""
        if room not in self._messages:
            raise SlackError("channel_not_found")
        return self._messages[room]

    def find(self, room: str, moment: str) -> Json:
        """One message; raises SlackError."""
        for message in self.messages(room):
            if message["ts"] == moment:
                return message
        raise SlackError("message_not_found")

    def add(self, room: str, message: Json) -> Json:
        """Keep a new message under a `ts` of its own; raises SlackError when its thread is not there."""
        messages = self.messages(room)
        thread = message.get("thread_ts")
        if thread is not None and all(thread != other["ts"] for other in messages):
            raise SlackError("thread_not_found")
        for number, block in enumerate(message.get("blocks") or []):
            block.setdefault("block_id", f"b{number}")
        kept = {"type": "message", "ts": self._moment(), **message}
        messages.append(kept)
        del messages[:-KEPT_MESSAGES]
        self.changed(room)
        return kept

    def remove(self, room: str, moment: str) -> None:
        """Forget a message; raises SlackError."""
        self.messages(room).remove(self.find(room, moment))
        self.changed(room)

    def trigger(self, person: str) -> str:
        """A trigger that opens one modal for a person, soon."""
        trigger = f"{secrets.randbelow(10**12)}.{secrets.randbelow(10**10)}.{secrets.token_hex(16)}"
        now = self._clock()
        self._triggers = {name: entry for name, entry in self._triggers.items() if entry[1] > now - 60}
        self._triggers[trigger] = (person, now + TRIGGER_LIFE)
        return trigger

    def open_view(self, trigger: str, view: Json, *, pushed: bool) -> Json:
        """Show a modal to the person of the trigger; raises SlackError."""
        person, expires = self._triggers.get(trigger, ("", 0.0))
        if not person:
            raise SlackError("invalid_trigger_id")
        if expires == 0.0:
            raise SlackError("exchanged_trigger_id")
        if expires < self._clock():
            raise SlackError("expired_trigger_id")
        self._triggers[trigger] = (person, 0.0)
        shown = {**view, "id": "V" + secrets.token_hex(5).upper(), "state": {"values": {}}}
        for number, block in enumerate(shown.get("blocks") or []):
            block.setdefault("block_id", f"b{number}")
        stack = self._views.setdefault(person, [])
        if not pushed:
            stack.clear()
        stack.append(shown)
        self.changed("modal")
        return shown

    def update_view(self, view_id: str, view: Json) -> Json:
        """Replace what a modal shows; raises SlackError."""
        for stack in self._views.values():
            for index, shown in enumerate(stack):
                if shown["id"] == view_id:
                    stack[index] = {**view, "id": view_id, "state": {"values": {}}}
                    self.changed("modal")
                    return stack[index]
        raise SlackError("not_found")

    def view(self, person: str) -> Json | None:
        """The modal on top of a person's screen."""
        stack = self._views.get(person)
        return stack[-1] if stack else None

    def close_view(self, person: str, view_id: str) -> None:
        """Take a modal off a person's screen."""
        self._views[person] = [shown for shown in self._views.get(person, []) if shown["id"] != view_id]
        self.changed("modal")

    def changed(self, what: str) -> None:
        """Tell live pages, and save soon."""
        for subscriber in self._subscribers:
            subscriber.put_nowait(what)
        if self._state_file is not None and what != "modal":
            self._unsaved = True
            if self._saving is None or self._saving.done():
                self._saving = asyncio.get_running_loop().create_task(self._save())

    async def changes(self) -> AsyncIterator[str]:
        """Room ids, or `modal`, as they change."""
        subscriber: asyncio.Queue[str] = asyncio.Queue()
        self._subscribers.add(subscriber)
        try:
            while True:
                yield await subscriber.get()
        finally:
            self._subscribers.discard(subscriber)

    async def load(self) -> None:
        """Bring back what was saved; a file that cannot be read raises ValueError or OSError."""
        if self._state_file is None or not self._state_file.exists():
            return
        saved = orjson.loads(await asyncio.to_thread(self._state_file.read_bytes))
        for room, messages in saved["messages"].items():
            if room in self._messages:
                self._messages[room] = messages
        self._last_moment = saved["last_moment"]

    async def flush(self) -> None:
        """Wait until everything is saved."""
        while self._saving is not None and not self._saving.done():
            await self._saving

    async def _save(self) -> None:
        file = self._state_file
        assert file is not None  # changed() starts this only where there is one
        while self._unsaved:
            self._unsaved = False
            state = orjson.dumps({"messages": self._messages, "last_moment": self._last_moment})
            await asyncio.to_thread(_replace, file, state)

    def _moment(self) -> str:
        self._last_moment = max(self._last_moment + 1, int(self._clock() * 1_000_000))
        return f"{self._last_moment // 1_000_000}.{self._last_moment % 1_000_000:06d}"


def _direct_id(person: str) -> str:
    return "D" + hashlib.sha256(person.encode()).hexdigest()[:10].upper()


def _replace(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    written = file.with_name(file.name + ".new")
    with written.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    written.replace(file)
