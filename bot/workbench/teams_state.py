"""What the local Teams holds: rooms, messages, and each person's own view of a card. Kept in one JSON file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from bot.workbench.platform import LocalMessage, LocalPerson, LocalRoom
from bot.workbench.teams_text import shown_text

Json = dict[str, Any]

CHANNEL = "19:support@thread.tacv2"
TEAM = "19:team@thread.tacv2"
KEPT_MESSAGES = 2_000
"""The oldest go first; a workbench is no archive."""


@dataclass(slots=True)
class StoredMessage:
    """One message; `activity` is the assistant's as posted, or what a person wrote."""

    id: str
    room: str
    thread: str | None
    author: str
    author_name: str
    from_assistant: bool
    at: str
    activity: Json
    edited: bool = False
    views: dict[str, Json] = field(default_factory=dict)
    """Cards that one person sees instead, from the answer to their press."""


class TeamsState:
    """Rooms and messages, with a snapshot on disk that is replaced whole."""

    def __init__(self, people: Sequence[LocalPerson], state_file: Path | None) -> None:
        self.people = {person.id: person for person in people}
        self.chats = {f"a:{person.id}": person.id for person in people}
        """One-to-one conversations by id."""
        self.installed: set[str] = set()
        """Rooms the assistant was told it is in."""
        self.guests: set[str] = set()
        self._messages: dict[str, StoredMessage] = {}
        self._last_id = 0
        self._file = state_file
        self._saving: asyncio.Task[None] | None = None
        self._changed = False
        self._watchers: set[asyncio.Queue[str]] = set()

    def rooms(self, person: str) -> list[LocalRoom]:
        """The channel, and the person's own chat."""
        rooms = [LocalRoom(CHANNEL, "Support", direct=False)]
        if person in self.people:
            rooms.append(LocalRoom(f"a:{person}", "Countersign", direct=True))
        return rooms

    def may_see(self, room: str, person: str) -> bool:
        """Whether a person is in a room."""
        return room == CHANNEL or self.chats.get(room) == person

    def add(
        self, *, room: str, thread: str | None, author: LocalPerson | None, name: str, activity: Json
    ) -> StoredMessage:
        """Keep a message; `author` None is the assistant."""
        message = StoredMessage(
            id=self._next_id(),
            room=room,
            thread=thread,
            author=author.id if author is not None else "assistant",
            author_name=author.name if author is not None else name,
            from_assistant=author is None,
            at=datetime.now(UTC).isoformat(),
            activity=activity,
        )
        self._messages[message.id] = message
        while len(self._messages) > KEPT_MESSAGES:
            del self._messages[next(iter(self._messages))]
        self.note_change(room)
        return message

    def find(self, room: str, message: str) -> StoredMessage | None:
        """A message of a room."""
        found = self._messages.get(message)
        return found if found is not None and found.room == room else None

    def replace(self, message: StoredMessage, activity: Json) -> None:
        """Show a message anew to everybody; their own views of its old state end."""
        message.activity = activity
        message.edited = True
        message.views.clear()
        self.note_change(message.room)

    def remove(self, message: StoredMessage) -> None:
        """Take a message away."""
        del self._messages[message.id]
        self.note_change(message.room)

    def show_to(self, message: StoredMessage, person: str, card: Json) -> None:
        """Show one person another card in a message."""
        message.views[person] = card
        self.note_change(message.room)

    def messages(self, room: str, person: str) -> list[LocalMessage]:
        """What a person sees in a room, oldest first."""
        if not self.may_see(room, person):
            return []
        return [_shown(message, person) for message in self._messages.values() if message.room == room]

    def note_change(self, room: str) -> None:
        """Tell watchers, and save soon."""
        for watcher in self._watchers:
            watcher.put_nowait(room)
        self._changed = True
        if self._file is not None and self._saving is None:
            self._saving = asyncio.get_running_loop().create_task(self._save())

    def watch(self) -> asyncio.Queue[str]:
        """A queue of the rooms that change from now on."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._watchers.add(queue)
        return queue

    def unwatch(self, queue: asyncio.Queue[str]) -> None:
        """End a watch."""
        self._watchers.discard(queue)

    async def load(self) -> None:
        """Take up the snapshot; a missing one is an empty start."""
        if self._file is None:
            return
        try:
            stored = orjson.loads(await asyncio.to_thread(self._file.read_bytes))
        except FileNotFoundError:
            return
        self._messages = {entry["id"]: StoredMessage(**entry) for entry in stored["messages"]}
        self.installed = set(stored["installed"])
        self._last_id = int(stored["last_id"])

    async def flush(self) -> None:
        """Wait until everything is on disk."""
        while self._saving is not None:
            await self._saving

    async def _save(self) -> None:
        try:
            while self._changed and self._file is not None:
                self._changed = False
                snapshot = {
                    "messages": list(self._messages.values()),
                    "installed": sorted(self.installed),
                    "last_id": self._last_id,
                }
                await asyncio.to_thread(_write, self._file, orjson.dumps(snapshot))
        finally:
            self._saving = None

    def _next_id(self) -> str:
        """Teams' message ids are milliseconds since 1970, and grow."""
        self._last_id = max(self._last_id + 1, int(datetime.now(UTC).timestamp() * 1000))
        return str(self._last_id)


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".new")
    with beside.open("wb") as target:
        target.write(content)
        target.flush()
        os.fsync(target.fileno())
    beside.replace(file)


def _shown(message: StoredMessage, person: str) -> LocalMessage:
    attachments = message.activity.get("attachments") or []
    own = message.views.get(person)
    if own is not None:
        attachments = [{"contentType": "application/vnd.microsoft.card.adaptive", "content": own}]
    payload: Mapping[str, Any] = {"attachments": attachments, "entities": message.activity.get("entities") or []}
    return LocalMessage(
        id=message.id,
        room=message.room,
        thread=message.thread,
        author=message.author,
        author_name=message.author_name,
        from_assistant=message.from_assistant,
        at=datetime.fromisoformat(message.at),
        text=shown_text(message.activity),
        payload=payload,
        edited=message.edited,
    )
