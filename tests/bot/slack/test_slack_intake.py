"""The door: what is refused, what is stored, and that nothing is acknowledged before it is stored."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from dataclasses import replace
from urllib.parse import urlencode

import httpx
import orjson
import pytest

from bot.slack.intake import MAX_BODY, SlackEndpoint, understand
from tests.bot.slack.conftest import ANA, SECRET, TEAM, World

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
CHALLENGE = orjson.dumps({"type": "url_verification", "token": "t", "challenge": "3eZbrw1aB"})


def signed(body: bytes, content_type: str = JSON, *, at: float | None = None, secret: str = SECRET) -> dict[str, str]:
    timestamp = str(int(time.time() if at is None else at))
    digest = hmac.new(secret.encode(), b"v0:" + timestamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return {
        "Content-Type": content_type,
        "X-Slack-Request-Timestamp": timestamp,
        "X-Slack-Signature": f"v0={digest}",
    }


def mention(text: str = "hello", *, ts: str = "1700000000.000100", event_id: str = "Ev1", **outer: object) -> bytes:
    event = {"type": "app_mention", "user": ANA.id, "text": text, "ts": ts, "channel": "C0SUPPORT1"}
    return orjson.dumps({"type": "event_callback", "team_id": TEAM, "event_id": event_id, "event": event, **outer})


def command(**fields: str) -> bytes:
    form = {
        "command": "/countersign", "text": "help", "team_id": TEAM, "user_id": ANA.id, "channel_id": "C0SUPPORT1",
        "trigger_id": "1.2.abc",
    }  # fmt: skip
    return urlencode({**form, **fields}).encode()


@pytest.fixture
async def client(world: World):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(world.door.endpoint), base_url="http://slack") as opened:
        yield opened


async def send(client: httpx.AsyncClient, body: bytes, headers: dict[str, str] | None = None) -> int:
    answer = await client.post("/slack/events", content=body, headers=signed(body) if headers is None else headers)
    return answer.status_code


async def test_the_challenge_is_answered(client, world: World) -> None:
    answer = await client.post("/slack/events", content=CHALLENGE, headers=signed(CHALLENGE))
    assert answer.status_code == 200
    assert answer.json() == {"challenge": "3eZbrw1aB"}
    assert world.rows() == []


@pytest.mark.parametrize("age", [-299, 0, 299])
async def test_a_signature_counts_for_five_minutes(client, age: int) -> None:
    assert await send(client, CHALLENGE, signed(CHALLENGE, at=time.time() - age)) == 200


@pytest.mark.parametrize(
    "change",
    [
        {"X-Slack-Signature": "v0=" + "0" * 64},
        {"X-Slack-Signature": ""},
        {"X-Slack-Signature": b"v0=\xc3\xa9\xff"},
        {"X-Slack-Signature": signed(CHALLENGE, secret="another")["X-Slack-Signature"]},
        {"X-Slack-Request-Timestamp": "yesterday"},
        {"X-Slack-Request-Timestamp": ""},
        {"X-Slack-Request-Timestamp": "-1"},
        {"X-Slack-Request-Timestamp": "1_700_000_000"},
        {"X-Slack-Request-Timestamp": b"\xd9\xa1\xd9\xa2"},
        {"X-Slack-Request-Timestamp": "9" * 400},
        {"X-Slack-Request-Timestamp": "nan"},
    ],
)
async def test_a_wrong_signature_or_timestamp_is_401(client, world: World, change) -> None:
    body = mention()
    headers = {name.encode(): value.encode() for name, value in signed(body).items()}
    for name, value in change.items():
        headers[name.encode()] = value if isinstance(value, bytes) else value.encode()
    answer = await client.post("/slack/events", content=body, headers=list(headers.items()))
    assert answer.status_code == 401
    assert world.rows() == []


@pytest.mark.parametrize("age", [301, 100_000, -301])
async def test_an_old_or_future_signature_is_401(client, age: int) -> None:
    assert await send(client, CHALLENGE, signed(CHALLENGE, at=time.time() - age)) == 401


async def test_missing_headers_are_401(client) -> None:
    assert await send(client, CHALLENGE, {"Content-Type": JSON}) == 401


async def test_a_body_changed_after_signing_is_401(client, world: World) -> None:
    assert await send(client, mention("transfer 9"), signed(mention("transfer 1"))) == 401
    assert world.rows() == []


async def test_a_large_body_is_413_before_it_is_read(client) -> None:
    body = b"x" * (MAX_BODY + 1)
    assert await send(client, body) == 413


async def test_a_large_body_of_unknown_length_is_413(client) -> None:
    async def chunks():
        for _ in range(MAX_BODY // 65_536 + 1):
            yield b"x" * 65_536

    answer = await client.post("/slack/events", content=chunks(), headers=signed(b""))
    assert answer.status_code == 413


async def test_a_body_in_chunks_is_understood(client, world: World) -> None:
    body = mention()

    async def chunks():
        yield body[:10]
        yield body[10:]

    answer = await client.post("/slack/events", content=chunks(), headers=signed(body))
    assert answer.status_code == 200
    assert len(world.rows()) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_only_post_is_taken(client, method: str) -> None:
    assert (await client.request(method, "/slack/events")).status_code == 405


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", JSON),
        (b"{", JSON),
        (b"[]", JSON),
        (b"null", JSON),
        (b"\xff\xfe", JSON),
        (b"[" * 100_000, JSON),
        (b'{"type":"url_verification"}', JSON),
        (b'{"type":"url_verification","challenge":7}', JSON),
        (b'{"type":"event_callback"}', JSON),
        (b'{"type":"event_callback","event":[]}', JSON),
        (b'{"type":"event_callback","event":{"type":7}}', JSON),
        (b'{"type":"event_callback","event":{"type":"app_mention"}}', JSON),
        (b'{"type":"event_callback","event":{"type":"app_mention","channel":[],"ts":{}}}', JSON),
        (b'{"type":"event_callback","event":{"type":"reaction_added"}}', JSON),
        (b'{"type":"anything"}', JSON),
        (mention(), "text/plain"),
        (mention(team_id=["T0LOCAL"]), JSON),
        (b"", FORM),
        (b"a=b", FORM),
        (b"payload=", FORM),
        (b"payload=%7B", FORM),
        (b"payload=7", FORM),
        (b"payload=%FF%FE", FORM),
        (urlencode({"payload": '{"type":"block_actions"}'}).encode(), FORM),
        (urlencode({"payload": '{"type":"block_actions","user":{"id":7}}'}).encode(), FORM),
        (urlencode({"payload": '{"type":"block_actions","user":{"id":"U1"},"team":"T1"}'}).encode(), FORM),
        (urlencode({"payload": '{"type":"block_actions","user":{"id":"U1"},"trigger_id":[]}'}).encode(), FORM),
        (b"command=%2Fcountersign", FORM),
        (b"&".join(b"a%d=1" % number for number in range(200)), FORM),
    ],
)
async def test_what_cannot_be_understood_is_400_and_not_stored(client, world: World, body, content_type) -> None:
    assert await send(client, body, signed(body, content_type)) == 400
    assert world.rows() == []


@pytest.mark.parametrize(
    "body",
    [
        mention(team_id="T0OTHER"),
        mention(team_id=None),
        # The installation is believed only where Slack says that the channel is shared.
        mention(team_id="T0OTHER", authorizations=[{"team_id": TEAM}]),
    ],
)
async def test_events_of_other_workspaces_are_403_and_not_stored(client, world: World, body) -> None:
    assert await send(client, body) == 403
    assert world.rows() == []


@pytest.mark.parametrize("kind", ["block_actions", "view_submission", "shortcut"])
async def test_interactions_of_other_workspaces_are_403(client, world: World, kind: str) -> None:
    payload = {"type": kind, "user": {"id": ANA.id, "team_id": TEAM}, "team": {"id": "T0OTHER"}, "trigger_id": "1.2.x"}
    body = urlencode({"payload": orjson.dumps(payload).decode()}).encode()
    assert await send(client, body, signed(body, FORM)) == 403
    assert world.rows() == []


async def test_commands_of_other_workspaces_are_403(client, world: World) -> None:
    body = command(team_id="T0OTHER")
    assert await send(client, body, signed(body, FORM)) == 403
    assert world.rows() == []


async def test_an_allowed_enterprise_or_a_shared_channel_of_ours_is_taken(client, world: World) -> None:
    world.door.endpoint._allowed = frozenset({"E0OURS", TEAM})
    assert await send(client, mention(team_id="T0OTHER", enterprise_id="E0OURS", ts="1.1")) == 200
    shared = mention(
        team_id="T0PARTNER", ts="1.2", is_ext_shared_channel=True, authorizations=[{"team_id": TEAM, "user_id": "U1"}]
    )
    assert await send(client, shared) == 200
    assert len(world.rows()) == 2


async def test_the_same_message_is_stored_once_whatever_event_brings_it(client, world: World) -> None:
    plain = orjson.dumps(
        {
            "type": "event_callback", "team_id": TEAM, "event_id": "Ev2",
            "event": {
                "type": "message", "channel_type": "channel", "user": ANA.id, "text": "x", "ts": "1700000000.000100",
                "channel": "C0SUPPORT1",
            },
        }
    )  # fmt: skip
    assert await send(client, plain) == 200
    assert world.rows() == []
    assert await send(client, mention()) == 200
    assert await send(client, mention(event_id="Ev3")) == 200
    assert await send(client, plain) == 200
    await world.door.intake.drain()
    assert [key for key, _ in world.rows()] == [f"slack|message|{TEAM}|C0SUPPORT1|1700000000.000100"]
    assert len(world.listener.heard) == 1


async def test_commands_are_known_by_their_trigger(client, world: World) -> None:
    for body in (command(), command(), command(trigger_id="1.2.other")):
        assert await send(client, body, signed(body, FORM)) == 200
    assert sorted(key for key, _ in world.rows()) == ["slack|command|1.2.abc", "slack|command|1.2.other"]


async def test_interactions_without_a_trigger_are_known_by_their_content(client, world: World) -> None:
    payload = {"type": "view_closed", "user": {"id": ANA.id}, "team": {"id": TEAM}}
    body = urlencode({"payload": orjson.dumps(payload).decode()}).encode()
    assert [await send(client, body, signed(body, FORM)) for _ in range(2)] == [200, 200]
    assert len(world.rows()) == 1


async def test_a_key_that_a_database_cannot_hold_is_hashed(client, world: World) -> None:
    assert await send(client, mention(ts="1" * 5_000)) == 200
    assert await send(client, mention(ts="1\x00")) == 200
    assert all(len(key) < 255 and key.isprintable() for key, _ in world.rows())


async def test_the_answer_waits_for_the_commit(world: World) -> None:
    """Stored before acknowledged: while the database is held, there is no 200."""
    order: list[str] = []
    store = world.door.intake.store

    async def slow_store(**arguments):
        event = await store(**arguments)
        order.append("stored")
        return event

    async def send_message(message):
        order.append(f"{message['type']} {message.get('status', '')}".strip())

    world.door.intake.store = slow_store  # type: ignore[method-assign]
    body = mention()
    headers = [(name.lower().encode(), value.encode()) for name, value in signed(body).items()]
    messages = asyncio.Queue()
    messages.put_nowait({"type": "http.request", "body": body})
    scope = {"type": "http", "method": "POST", "headers": headers}
    await world.door.endpoint(scope, messages.get, send_message)
    assert order == ["stored", "http.response.start 200", "http.response.body"]
    assert len(world.rows()) == 1


async def test_what_cannot_be_stored_is_not_acknowledged(client, world: World) -> None:
    async def broken(**arguments):
        raise OSError("disk full")

    world.door.intake.store = broken  # type: ignore[method-assign]
    assert await send(client, mention()) == 503


async def test_an_empty_allow_list_refuses_everybody(world: World) -> None:
    endpoint = SlackEndpoint(replace(world.settings, team_allow_list=frozenset()), world.door.intake)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(endpoint), base_url="http://slack") as closed:
        assert await send(closed, mention()) == 403


async def test_a_certificate_check_is_answered(client, world: World) -> None:
    body = b"ssl_check=1&token=t"
    assert await send(client, body, signed(body, FORM)) == 200
    assert world.rows() == []


def test_kinds_are_those_the_inbox_knows() -> None:
    payload = urlencode({"payload": orjson.dumps({"type": "block_actions", "user": {"id": "U1"}}).decode()}).encode()
    assert understand(JSON, mention()).kind == "event"
    assert understand(FORM, command()).kind == "command"
    assert understand(FORM, payload).kind == "interaction"
