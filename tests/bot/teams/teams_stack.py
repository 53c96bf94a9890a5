"""Our Teams side and a local Teams on one real HTTP server, for tests that go in through HTTP."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from bot.settings import TeamsSettings
from bot.teams.connector import Connector
from bot.teams.intake import TeamsDoor
from bot.teams.surface import TeamsSurface
from bot.workbench.platform import LocalPerson
from bot.workbench.teams_platform import LocalTeams
from handlers.reply import ClickOutcome, Reply
from handlers.turn import Turn, TurnKind
from records.database import Database
from records.encryption import Cipher
from records.inbox import Inbox
from records.schema import metadata

APP_ID = "11111111-2222-3333-4444-555555555555"
TENANT = "aaaaaaaa-0000-0000-0000-000000000001"
ANNA = LocalPerson("bbbbbbbb-0000-0000-0000-000000000001", "Anna Berg")
BEN = LocalPerson("bbbbbbbb-0000-0000-0000-000000000002", "Ben Okafor")
CHANNEL = "19:support@thread.tacv2"
ANNAS_CHAT = f"a:{ANNA.id}"
BENS_CHAT = f"a:{BEN.id}"
KEY = b"k" * 32


def new_key_pem() -> bytes:
    """A fresh RSA key as PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Ear:
    """A Listener that keeps what it hears and answers as it is told to."""

    def __init__(self) -> None:
        self.heard: list[Turn] = []
        self.clicked: list[Turn] = []
        self.on_hear: Callable[[Turn], Awaitable[None]] | None = None
        self.on_click: Callable[[Turn], Awaitable[ClickOutcome]] | None = None
        self._changed = asyncio.Condition()

    async def hear(self, turn: Turn) -> None:
        self.heard.append(turn)
        try:
            if self.on_hear is not None:
                await self.on_hear(turn)
        finally:
            await self._notify()

    async def click(self, turn: Turn) -> ClickOutcome:
        self.clicked.append(turn)
        await self._notify()
        if self.on_click is not None:
            return await self.on_click(turn)
        return ClickOutcome("Recorded.", accepted=True)

    def said(self) -> list[Turn]:
        """What people said; greetings left out."""
        return [turn for turn in self.heard if turn.kind is not TurnKind.INSTALLED]

    async def until(self, condition: Callable[[Ear], bool]) -> None:
        """Wait until something about what was heard holds."""
        async with self._changed, asyncio.timeout(10):
            await self._changed.wait_for(lambda: condition(self))

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@dataclass
class Stack:
    """Everything a test touches."""

    settings: TeamsSettings
    database: Database
    inbox: Inbox
    surface: TeamsSurface
    door: TeamsDoor
    teams: LocalTeams
    ear: Ear
    url: str
    key_pem: bytes
    naps: list[float] = field(default_factory=list)
    """Seconds the connector waited between tries, without waiting."""

    def activity(self, **changes: Any) -> dict[str, Any]:
        """A message of Anna's in her own chat, with changes."""
        return {
            "type": "message",
            "id": f"m{time.monotonic_ns()}",
            "timestamp": "2026-01-01T10:00:00.000Z",
            "channelId": "msteams",
            "serviceUrl": self.teams.service_url,
            "from": {"id": f"29:{ANNA.id}", "name": ANNA.name, "aadObjectId": ANNA.id},
            "recipient": {"id": f"28:{APP_ID}", "name": "Countersign"},
            "conversation": {"id": ANNAS_CHAT, "tenantId": TENANT, "conversationType": "personal"},
            "channelData": {"tenant": {"id": TENANT}},
            "text": "hello",
            "textFormat": "plain",
            **changes,
        }

    def press_activity(self, **changes: Any) -> dict[str, Any]:
        """Anna's press of a button, with changes."""
        action = {"type": "Action.Execute", "verb": "approve", "data": {"nonce": "n-1"}}
        press = {
            "type": "invoke",
            "name": "adaptiveCard/action",
            "replyToId": "1700000000000",
            "value": {"action": action, "trigger": "manual"},
        }
        return self.activity(**{**press, **changes})

    def claims(self, **changes: Any) -> dict[str, Any]:
        """The claims of a good token, with changes; None removes one."""
        now = int(time.time())
        claims = {
            "iss": "https://api.botframework.com",
            "aud": APP_ID,
            "nbf": now - 10,
            "exp": now + 600,
            "serviceurl": self.teams.service_url,
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def bearer(self, *, key: Any = None, algorithm: str = "RS256", kid: str | None = None, **changes: Any) -> str:
        """An Authorization header signed with the platform's key unless another is given."""
        headers = {"kid": kid or self.teams.identity.key_id}
        token = jwt.encode(self.claims(**changes), key or self.key_pem, algorithm=algorithm, headers=headers)
        return f"Bearer {token}"


class _Server(uvicorn.Server):
    """A server that says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


def teams_settings(**changes: Any) -> TeamsSettings:
    """Settings of an installation whose Teams is local."""
    settings = TeamsSettings(
        app_id=APP_ID,
        app_password="a password",
        tenant_id=TENANT,
        openid_metadata="",
        token_url="",
        service_hosts=("smba.trafficmanager.net",),
        local=True,
        emulator=False,
    )
    return replace(settings, **changes)


@asynccontextmanager
async def running_stack(
    folder: Path, key_pem: bytes, *, emulator: bool = False, greeted: bool = False, **door_options: Any
) -> AsyncIterator[Stack]:
    """Start the server on a free port; the local Teams' installation is reported before the test begins."""
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    base_url = f"{url}/workbench/teams"
    teams = LocalTeams(
        app_id=APP_ID,
        app_password="a password",
        tenant_id=TENANT,
        private_key_pem=key_pem,
        people=[ANNA, BEN],
        messages_url=f"{url}/api/messages",
        base_url=base_url,
        state_file=folder / "teams.json",
    )
    settings = teams_settings(openid_metadata=teams.openid_metadata, token_url=teams.token_url)
    if emulator:
        settings = replace(settings, app_id="", app_password="", tenant_id="", local=False, emulator=True)
    database = Database(f"sqlite:///{folder / 'test.db'}")
    metadata.create_all(database.engine)
    cipher = Cipher(KEY)
    inbox = Inbox(cipher, database.dialect)
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    surface = TeamsSurface(settings, database, cipher, connector=Connector(settings, sleep=nap))
    ear = Ear()
    door = TeamsDoor(settings, surface, database, inbox, ear, **door_options)
    app = Starlette(routes=[Route("/api/messages", door.endpoint), Mount("/workbench/teams", routes=teams.routes())])
    server = _Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        async with asyncio.timeout(10):
            await server.up.wait()
        await door.start()
        if not emulator:
            await teams.start()
            if not greeted:
                await ear.until(lambda ear: len(ear.heard) == 3)
                await door.intake.drain()
        yield Stack(settings, database, inbox, surface, door, teams, ear, url, key_pem, naps)
    finally:
        await teams.close()
        await door.close()
        await surface.close()
        server.should_exit = True
        await serving
        database.close()


async def say_and_answer(stack: Stack, reply: Reply, *, room: str = ANNAS_CHAT) -> Turn:
    """Anna says something and the assistant answers with a reply."""

    async def answer(turn: Turn) -> None:
        await stack.surface.post(turn.place, reply)

    stack.ear.on_hear = answer
    count = len(stack.ear.heard)
    await stack.teams.say(ANNA.id, room, "@Countersign please" if room == CHANNEL else "please")
    await stack.ear.until(lambda ear: len(ear.heard) > count)
    return stack.ear.heard[-1]
