"""I11: an event is in the inbox under its unique key before it is acknowledged."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import Any
from urllib.parse import urlencode

import pytest

from bot.intake import Intake
from bot.settings import SlackSettings
from bot.slack.intake import SlackEndpoint
from records.encryption import Cipher
from records.inbox import Inbox, InboxEvent, inbox
from tests.invariants.approval_world import World

NOW = 1_700_000_000
SECRET = "8f742231b10e8888abcd99yyyzzz85a5"


class Door:
    """The Slack door without a server: what is stored when its answer goes out."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.handled: list[str] = []
        self.inbox = Inbox(Cipher(b"k" * 32), world.database.dialect)
        self.intake = Intake("slack", world.database, self.inbox, self._handle)
        settings = SlackSettings(
            signing_secret=SECRET,
            bot_token="xoxb-1",
            team_allow_list=frozenset({"T1"}),
            api_url="https://slack.example/api/",
            local=False,
        )
        self.endpoint = SlackEndpoint(settings, self.intake, clock=lambda: NOW)

    async def _handle(self, event: InboxEvent) -> None:
        self.handled.append(event.id)

    async def post(self, trigger: str) -> tuple[int, int]:
        """Send a signed command; returns the status and how many rows were stored at the moment it went out."""
        who = {"team_id": "T1", "user_id": "U1", "channel_id": "C1"}
        body = urlencode({"command": "/countersign", **who, "trigger_id": trigger}).encode()
        stamp = str(NOW).encode()
        digest = hmac.new(SECRET.encode(), b"v0:" + stamp + b":" + body, hashlib.sha256).hexdigest()
        headers = [
            (b"content-type", b"application/x-www-form-urlencoded"),
            (b"x-slack-request-timestamp", stamp),
            (b"x-slack-signature", f"v0={digest}".encode()),
        ]
        answers: list[tuple[int, int]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answers.append((message["status"], await self.world.count(inbox)))

        await self.endpoint({"type": "http", "method": "POST", "headers": headers}, receive, send)
        await self.intake.drain()
        assert len(answers) == 1
        return answers[0]


@pytest.fixture
def door(world: World) -> Door:
    """A door of the world."""
    return Door(world)


async def test_i11_the_event_is_stored_when_its_200_goes_out(door: Door) -> None:
    """I11: stored, then acknowledged."""
    assert await door.post("1") == (200, 1)


async def test_i11_what_cannot_be_stored_is_not_acknowledged_and_its_retry_is_taken(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I11: no row, no 200; the platform's retry is then the first delivery."""

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(door.inbox, "store", full)
        status, stored = await door.post("1")
    assert status >= 500
    assert stored == 0
    assert await door.post("1") == (200, 1)
    assert len(door.handled) == 1


async def test_i11_a_retry_of_what_is_stored_is_acknowledged_and_not_handled_again(door: Door) -> None:
    """I11: one row a unique key, also when the copies come together."""
    answers = await asyncio.gather(*(door.post("1") for _ in range(4)))
    assert set(answers) == {(200, 1)}
    assert len(door.handled) == 1
