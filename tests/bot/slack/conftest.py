"""A local Slack and our door, on one real server on loopback, over a real database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
import uvicorn
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.routing import Route

from bot.settings import SlackSettings
from bot.slack.door import SlackDoor
from bot.slack.surface import SlackSurface
from bot.workbench.platform import LocalMessage, LocalPerson
from bot.workbench.slack_platform import API_PATH, LocalSlack
from handlers.reply import ClickOutcome
from handlers.turn import Turn
from records.database import Database
from records.encryption import Cipher
from records.inbox import Inbox, InboxEvent, inbox
from records.schema import metadata

ANA, BEN = LocalPerson("U0ANA", "Ana"), LocalPerson("U0BEN", "Ben")
TEAM, BOT, TOKEN, SECRET = "T0LOCAL", "U0BOT", "xoxb-local", "8f742231b10e8888abcd99yyyzzz85a5"


@dataclass
class RecordingListener:
    """Keeps what it hears; answers clicks with what it was told to."""

    heard: list[Turn] = field(default_factory=list)
    clicked: list[Turn] = field(default_factory=list)
    outcome: ClickOutcome = field(default_factory=lambda: ClickOutcome("Recorded.", accepted=True))
    failures: int = 0

    async def hear(self, turn: Turn) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise ConnectionError("the database went away")
        self.heard.append(turn)

    async def click(self, turn: Turn) -> ClickOutcome:
        if self.failures > 0:
            self.failures -= 1
            raise ConnectionError("the database went away")
        self.clicked.append(turn)
        return self.outcome


@dataclass
class World:
    """Everything a test touches."""

    slack: LocalSlack
    door: SlackDoor
    listener: RecordingListener
    database: Database
    inbox: Inbox
    settings: SlackSettings
    events_url: str

    @property
    def surface(self) -> SlackSurface:
        return self.door.surface

    async def say(self, person: LocalPerson, text: str, *, room: str | None = None, thread: str | None = None) -> None:
        """Somebody writes (in the channel unless told otherwise), and we are done with it."""
        await self.slack.say(person.id, room or self.slack.channel, text, thread)
        await self.door.intake.drain()

    async def press(self, person: LocalPerson, room: str, message: str, verb: str) -> None:
        """Somebody presses the button of a verb."""
        view = self.slack.modal(person.id)
        carrier = view if view is not None and view["id"] == message else self.slack.workspace.find(room, message)
        buttons = [one for block in carrier["blocks"] if block["type"] == "actions" for one in block["elements"]]
        pressed = next(button for button in buttons if button["action_id"].startswith(verb))
        await self.slack.press(person.id, room, message, pressed)
        await self.door.intake.drain()

    def direct(self, person: LocalPerson) -> str:
        return self.slack.workspace.direct_rooms[person.id]

    def seen(self, person: LocalPerson, room: str | None = None) -> list[LocalMessage]:
        return list(self.slack.messages(room or self.slack.channel, person.id))

    def rows(self) -> list[tuple[str, str]]:
        """Unique key and state of what is in the inbox."""
        query = select(inbox.c.unique_key, inbox.c.state).order_by(inbox.c.received_at)
        return [(row.unique_key, row.state) for row in self.database.query(lambda tx: tx.execute(query).all())]

    async def receive(self, body: object, *, kind: str = "event") -> None:
        """Handle an event as if it had been stored just now."""
        event = InboxEvent(
            id="0" * 32, source="slack", kind=kind, body=orjson.dumps(body),
            headers={"content-type": "application/json"}, received_at=self.now(), attempts=1,
        )  # fmt: skip
        await self.door.intake.handle(event)

    def now(self):  # type: ignore[no-untyped-def]
        return self.database.query(lambda tx: tx.now)


@contextlib.asynccontextmanager
async def serving(app: Starlette, listening: socket.socket) -> AsyncIterator[None]:
    """A real server on a socket that listens already."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    running = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield
    finally:
        server.should_exit = True
        await running


@pytest.fixture
def database(tmp_path: Path):
    opened = Database(f"sqlite:///{tmp_path / 'countersign.db'}")
    metadata.create_all(opened.engine)
    yield opened
    opened.close()


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    slack = LocalSlack(
        signing_secret=SECRET, bot_token=TOKEN, team_id=TEAM, bot_user_id=BOT, people=[ANA, BEN],
        events_url=f"{address}/slack/events", state_file=tmp_path / "slack.json",
    )  # fmt: skip
    slack.sender.retry_delays = (0.0,)
    settings = SlackSettings(
        signing_secret=SECRET, bot_token=TOKEN, api_url=address + API_PATH, local=True,
        team_allow_list=frozenset({TEAM}),
    )  # fmt: skip
    listener = RecordingListener()
    store = Inbox(Cipher(os.urandom(32)), database.dialect)
    door = SlackDoor(settings, SlackSurface(settings), database, store, listener)
    app = Starlette(routes=[*slack.routes(), Route("/slack/events", door.endpoint, methods=["POST"])])
    async with serving(app, listening):
        await slack.start()
        await door.start()
        yield World(slack, door, listener, database, store, settings, f"{address}/slack/events")
        await door.close()
        await slack.close()
