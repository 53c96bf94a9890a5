"""Malformed, oversized, replayed, unsigned and wrongly signed requests: 4xx, nothing stored, never a 5xx."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from typing import Any
from urllib.parse import parse_qsl, urlencode

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy import func, select

from bot.workbench.credentials import SLACK_TEAM, TEAMS_TENANT
from records.inbox import inbox
from tests.scenarios.house import AMIR, EVE, ROSA, House, Seat, buttons, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


def signed(house: House, body: bytes, *, at: int | None = None, secret: str | None = None) -> dict[str, str]:
    """The headers Slack sends with a body."""
    moment = str(at if at is not None else int(time.time()))
    key = secret or house.settings().slack.signing_secret  # type: ignore[union-attr]
    mac = hmac.new(key.encode(), b"v0:" + moment.encode() + b":" + body, hashlib.sha256).hexdigest()
    return {
        "X-Slack-Request-Timestamp": moment,
        "X-Slack-Signature": f"v0={mac}",
        "Content-Type": "application/x-www-form-urlencoded",
    }


def command(user: str, words: str, *, team: str = SLACK_TEAM) -> bytes:
    """A slash command as Slack sends it."""
    return urlencode(
        {
            "command": "/countersign",
            "text": words,
            "team_id": team,
            "channel_id": "C0SUPPORT1",
            "user_id": user,
            "trigger_id": f"1.{uuid.uuid4().hex}",
            "response_url": "https://hooks.slack.com/commands/1/2/3",
        }
    ).encode()


def activity(house: House, someone: Any = ROSA, text: str = "help", **changes: Any) -> dict[str, Any]:
    """A Teams one-to-one message."""
    return {
        "type": "message",
        "id": str(uuid.uuid4()),
        "channelId": "msteams",
        "serviceUrl": house.teams.service_url,
        "from": {"id": f"29:{someone.teams}", "name": someone.name, "aadObjectId": someone.teams},
        "recipient": {"id": f"28:{house.settings().teams.app_id}", "name": "Countersign"},  # type: ignore[union-attr]
        "conversation": {"id": f"a:{someone.teams}", "conversationType": "personal", "tenantId": TEAMS_TENANT},
        "channelData": {"tenant": {"id": TEAMS_TENANT}},
        "text": text,
        **changes,
    }


async def post(house: House, path: str, body: bytes, headers: dict[str, str]) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(house.url + path, data=body, headers=headers) as answer,
    ):
        await answer.read()
        return answer.status


async def stored(house: House) -> int:
    return await house.web.core.database.read(
        lambda tx: int(tx.execute(select(func.count()).select_from(inbox)).scalar_one())
    )


async def nothing_is_under_way(house: House) -> None:
    """The local Teams has told that it is installed, so that what is stored from here on was sent by the test."""
    assert house.teams._installing is not None
    await house.teams._installing


async def test_slack_requests_that_are_not_slacks_are_refused_and_nothing_is_stored(own_house: House) -> None:
    house = own_house
    await house.start(worker=False)
    await nothing_is_under_way(house)
    before = await stored(house)
    body = command(ROSA.slack, "help")
    good = signed(house, body)
    refused = {
        "unsigned": {"Content-Type": "application/x-www-form-urlencoded"},
        "wrong secret": signed(house, body, secret="0" * 64),
        "replayed": signed(house, body, at=int(time.time()) - 301),
        "from the future": signed(house, body, at=int(time.time()) + 301),
        "signature of another body": signed(house, command(AMIR.slack, "close TCK-1")),
        "timestamp not a number": {**good, "X-Slack-Request-Timestamp": "now"},
        "signature not ASCII": {**good, "X-Slack-Signature": "v0=é"},
    }
    for case, headers in refused.items():
        assert await post(house, "/slack/events", body, headers) == 401, case
    foreign = command(ROSA.slack, "help", team="T0STRANGERS")
    assert await post(house, "/slack/events", foreign, signed(house, foreign)) == 403
    large = b"x" * (1024 * 1024 + 1)
    assert await post(house, "/slack/events", large, signed(house, large)) == 413
    for broken in (b"", b"payload=%7Bnot", b"\xff\xfe", b'{"type":', b"command=/countersign"):
        status = await post(house, "/slack/events", broken, signed(house, broken))
        assert 400 <= status < 500, broken
    assert await stored(house) == before


async def test_teams_requests_that_are_not_teams_are_refused_and_nothing_is_stored(own_house: House) -> None:
    house = own_house
    await house.start(worker=False)
    await nothing_is_under_way(house)
    before = await stored(house)
    body = json.dumps(activity(house)).encode()
    teams = house.settings().teams
    assert teams is not None
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    claims = {
        "iss": "https://api.botframework.com",
        "aud": teams.app_id,
        "serviceurl": house.teams.service_url,
        "exp": int(time.time()) + 600,
        "nbf": int(time.time()) - 60,
    }
    tokens = {
        "none": "",
        "garbage": "Bearer not.a.token",
        "other scheme": "Basic dXNlcjpwYXNz",
        "unknown key": "Bearer " + jwt.encode(claims, stranger, "RS256", {"kid": "unknown"}),
        "symmetric": "Bearer " + jwt.encode(claims, "x" * 32, "HS256"),
        "unsigned": "Bearer " + jwt.encode(claims, None, "none"),
    }
    for case, token in tokens.items():
        headers = {"Content-Type": "application/json", **({"Authorization": token} if token else {})}
        assert await post(house, "/api/messages", body, headers) in (401, 403), case
    large = json.dumps(activity(house, text="x" * 300_000)).encode()
    assert await post(house, "/api/messages", large, {"Content-Type": "application/json"}) == 413
    assert await stored(house) == before


async def test_no_bytes_at_either_door_make_a_server_error(own_house: House) -> None:
    house = own_house
    await house.start(worker=False)
    await nothing_is_under_way(house)
    before = await stored(house)
    examples = [b"\x00" * 50, b"[" * 5000, b'{"type":"event_callback","event":[]}', b"payload=1", b"payload=%5B%5D"]
    examples += [json.dumps(value).encode() for value in (None, 1, "x", [], {}, {"event": {"type": 5}})]
    examples += [hashlib.sha256(str(seed).encode()).digest() * (seed % 7) for seed in range(60)]
    async with aiohttp.ClientSession() as session:
        for body in examples:
            for path, headers in (
                ("/slack/events", signed(house, body)),
                ("/slack/events", {**signed(house, body), "Content-Type": "application/json"}),
                ("/api/messages", {"Content-Type": "application/json"}),
            ):
                async with session.post(house.url + path, data=body, headers=headers) as answer:
                    assert answer.status < 500, (path, body[:40])
    assert await stored(house) == before


async def test_somebody_in_no_people_file_is_told_so_and_nothing_happens(house: House) -> None:
    ticket = await house.new_ticket()
    effects = house.effects()
    body = command(EVE.slack, f"close {ticket}")
    assert await post(house, "/slack/events", body, signed(house, body)) == 200
    await until(lambda: _noted(house, "no people file"))
    assert house.effects() == effects
    assert house.tickets()[ticket] == ("open", 1)


async def _noted(house: House, words: str) -> bool:
    from records import trace

    entries = await house.web.core.database.read(lambda tx: trace.after(tx, 0))
    return any(words in entry.text for entry in entries)


async def test_a_platforms_retry_of_a_stored_event_is_answered_once(house: House) -> None:
    body = command(ROSA.slack, "help")
    trigger = dict(parse_qsl(body.decode()))["trigger_id"]
    assert await post(house, "/slack/events", body, signed(house, body)) == 200
    retry = {**signed(house, body), "X-Slack-Retry-Num": "1", "X-Slack-Retry-Reason": "http_timeout"}
    assert await post(house, "/slack/events", body, retry) == 200
    rows = await house.web.core.database.read(
        lambda tx: tx.execute(select(inbox.c.id).where(inbox.c.unique_key.contains(trigger))).all()
    )
    assert len(rows) == 1


async def test_a_retry_after_a_lost_first_delivery_is_handled(house: House) -> None:
    seat = Seat(house, "slack", ROSA)
    ticket = await house.new_ticket()
    house.slack.sender.lose_deliveries = 1
    await seat.say(f"@Countersign close {ticket}")
    await seat.sees("Approval needed", ticket)


async def test_a_delivery_that_arrives_twice_makes_one_card(house: House) -> None:
    seat = Seat(house, "slack", ROSA)
    ticket = await house.new_ticket()
    house.slack.sender.duplicate_deliveries = 1
    await seat.say(f"@Countersign close {ticket}")
    card = await seat.sees("Approval needed", ticket)
    await house.web.conversation.dialog.drain()
    cards = [m for m in seat.seen() if m.from_assistant and buttons(m) and ticket in str(m.payload)]
    assert [m.id for m in cards] == [card.id]


async def test_a_card_copied_into_another_conversation_is_refused(house: House) -> None:
    ticket = await house.new_ticket()
    rosa, amir = Seat(house, "slack", ROSA), Seat(house, "slack", AMIR)
    await rosa.say(f"@Countersign close {ticket}")
    card = await amir.sees("Approval needed", ticket)
    approve = buttons(card)["Approve"]
    elsewhere = {
        "type": "block_actions",
        "team": {"id": SLACK_TEAM},
        "user": {"id": AMIR.slack, "team_id": SLACK_TEAM},
        "trigger_id": f"1.{uuid.uuid4().hex}",
        "channel": {"id": "C0ELSEWHERE"},
        "container": {"type": "message", "message_ts": card.id, "channel_id": "C0ELSEWHERE"},
        "message": {"ts": card.id, "user": "U0COUNTERSIGN", "blocks": []},
        "actions": [{**approve, "type": "button", "action_ts": "1.1"}],
    }
    body = urlencode({"payload": json.dumps(elsewhere)}).encode()
    assert await post(house, "/slack/events", body, signed(house, body)) == 200
    await until(lambda: _noted(house, "copy of a card"))
    assert house.tickets()[ticket] == ("open", 1)
    assert "Approve" in buttons(await amir.sees("Approval needed", ticket))
