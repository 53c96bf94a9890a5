"""The door Slack knocks on: `POST /slack/events` takes events, slash commands and interactivity.

Invariant: nothing reaches the database unless Slack signed it, its workspace is allowed, and it can be understood;
and nothing for us gets its 200 before it is in the inbox. Plain ASGI, because this path is all that Slack waits for.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson
import structlog

from bot.intake import Intake
from bot.settings import SlackSettings

MAX_BODY = 1024 * 1024
"""Bytes; Slack's own payloads stay far below."""
WINDOW = 300
"""Seconds a signed request stays valid, either way (docs.slack.dev, "Verifying requests from Slack")."""
_LONGEST_KEY = 255

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

logger = structlog.get_logger(__name__)


class Malformed(Exception):
    """The body is signed but is nothing that Slack sends; the message names the part, never the content."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one request brings, as far as the door has to understand it."""

    kind: str
    """`event`, `command`, `interaction`; `challenge` and `ssl_check` are answered at the door."""
    unique_key: str = ""
    """Empty where nothing is to be stored: the delivery is not addressed to us."""
    teams: frozenset[str] = frozenset()
    """Workspace and enterprise it comes from; one of them must be allowed."""
    challenge: str = ""


class SlackEndpoint:
    """The ASGI application behind `POST /slack/events`.

    401 unsigned, 403 another workspace, 400 not understood, 413 too large, 503 not stored (Slack tries again).
    """

    def __init__(self, settings: SlackSettings, intake: Intake, *, clock: Callable[[], float] = time.time) -> None:
        self._secret = settings.signing_secret.encode()
        self._allowed = settings.team_allow_list
        self._intake = intake
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the Slack endpoint speaks HTTP, not {scope['type']}")
        if scope["method"] != "POST":
            return await _respond(send, 405)
        headers: dict[bytes, bytes] = dict(scope["headers"])
        body = await _read(headers, receive)
        if body is None:
            return await _respond(send, 413)
        if not self._signed(headers, body):
            return await _respond(send, 401)
        content_type = headers.get(b"content-type", b"").decode("latin-1")
        try:
            delivery = understand(content_type, body)
        except Malformed as error:
            logger.warning("slack_request_malformed", part=str(error))
            return await _respond(send, 400)
        if delivery.kind == "challenge":
            return await _respond(send, 200, orjson.dumps({"challenge": delivery.challenge}))
        if delivery.kind == "ssl_check":
            return await _respond(send, 200)
        if not delivery.teams & self._allowed:
            logger.warning("slack_workspace_refused", teams=sorted(delivery.teams))
            return await _respond(send, 403)
        if not delivery.unique_key:
            return await _respond(send, 200)
        try:
            event = await self._intake.store(
                unique_key=delivery.unique_key, kind=delivery.kind, body=body, headers={"content-type": content_type}
            )
        except Exception:
            logger.exception("slack_event_not_stored", kind=delivery.kind)
            return await _respond(send, 503)
        try:
            await _respond(send, 200)
        finally:
            if event is not None:
                self._intake.start(event)

    def _signed(self, headers: dict[bytes, bytes], body: bytes) -> bool:
        timestamp = headers.get(b"x-slack-request-timestamp", b"")
        if not timestamp.isdigit() or len(timestamp) > 12 or abs(self._clock() - int(timestamp)) > WINDOW:
            return False
        digest = hmac.new(self._secret, b"v0:" + timestamp + b":" + body, hashlib.sha256).hexdigest()
        # Bytes against bytes: with text, a signature outside ASCII would raise instead of differing.
        return hmac.compare_digest(b"v0=" + digest.encode(), headers.get(b"x-slack-signature", b""))


async def _read(headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
    """The whole body, or None when it is larger than we take."""
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > MAX_BODY:
        return None
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body if len(body) <= MAX_BODY else None
    parts, size = [body], len(body)
    while message.get("more_body", False):
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            return None
    return b"".join(parts)


async def _respond(send: Send, status: int, body: bytes = b"") -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    if body:
        headers.append((b"content-type", b"application/json"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def understand(content_type: str, body: bytes) -> Delivery:
    """Read as much of a signed request as the door needs; raises Malformed."""
    if content_type.startswith("application/json"):
        return _event(_json_object(body, "body"))
    if not content_type.startswith("application/x-www-form-urlencoded"):
        raise Malformed("content type")
    try:
        form = dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=100))
    except ValueError as error:
        raise Malformed("form") from error
    if "payload" in form:
        return _interaction(_json_object(form["payload"], "payload"), body)
    if "command" in form:
        return _command(form, body)
    if "ssl_check" in form:
        return Delivery("ssl_check")
    raise Malformed("form without payload or command")


def is_for_us(event: dict[str, Any]) -> bool:
    """Whether an event is a person speaking to us, or no message at all.

    Messages of channels are not: a mention arrives as `app_mention` besides. Nor are edits, deletions, joins and what
    bots write, our own answers among them. Both kinds of message share one key, so storing the one that is not for us
    would lose the one that is.
    """
    if event.get("type") not in ("message", "app_mention"):
        return True
    if event.get("bot_id") or not event.get("user") or event.get("hidden") or event.get("edited"):
        return False
    if event.get("subtype") not in (None, "file_share", "thread_broadcast"):
        return False
    if event["user"] == "USLACKBOT":
        return False
    return event["type"] == "app_mention" or event.get("channel_type") == "im"


def _event(payload: dict[str, Any]) -> Delivery:
    kind = payload.get("type")
    if kind == "url_verification":
        challenge = payload.get("challenge")
        if not isinstance(challenge, str):
            raise Malformed("challenge")
        return Delivery("challenge", challenge=challenge)
    teams = _teams(payload)
    if kind == "app_rate_limited":
        logger.warning("slack_events_rate_limited")
        return Delivery("event", teams=teams)
    event = payload.get("event")
    if kind != "event_callback" or not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise Malformed("event")
    if event["type"] in ("message", "app_mention"):
        team, channel, moment = payload.get("team_id"), event.get("channel"), event.get("ts")
        if not (isinstance(channel, str) and isinstance(moment, str) and (team is None or isinstance(team, str))):
            raise Malformed("message without channel or ts")
        if not is_for_us(event):
            return Delivery("event", teams=teams)
        return Delivery("event", _key("message", team or "", channel, moment), teams)
    event_id = payload.get("event_id")
    if not isinstance(event_id, str) or not event_id:
        raise Malformed("event_id")
    return Delivery("event", _key("event", event_id), teams)


def _command(form: dict[str, str], body: bytes) -> Delivery:
    if not form.get("user_id") or not form.get("channel_id"):
        raise Malformed("command without user or channel")
    teams = frozenset(filter(None, (form.get("team_id"), form.get("enterprise_id"))))
    return Delivery("command", _key("command", form.get("trigger_id") or _digest(body)), teams)


def _interaction(payload: dict[str, Any], body: bytes) -> Delivery:
    user = payload.get("user")
    if not isinstance(payload.get("type"), str) or not isinstance(user, dict) or not isinstance(user.get("id"), str):
        raise Malformed("interaction without type or user")
    trigger = payload.get("trigger_id")
    if trigger is not None and not isinstance(trigger, str):
        raise Malformed("trigger_id")
    found: set[object] = set()
    for owner in (payload.get("team"), payload.get("enterprise")):
        if owner is not None and not isinstance(owner, dict):
            raise Malformed("team")
        if owner is not None:
            found.add(owner.get("id"))
    if not found:  # an organisation-wide installation names the workspace only with the person
        found.add(user.get("team_id"))
    teams = frozenset(team for team in found if isinstance(team, str) and team)
    return Delivery("interaction", _key("interaction", trigger or _digest(body)), teams)


def _teams(payload: dict[str, Any]) -> frozenset[str]:
    found = [payload.get("team_id"), payload.get("enterprise_id")]
    authorizations = payload.get("authorizations")
    # In a shared channel the outer team may be the partner's; the installation the event is for is named here.
    if payload.get("is_ext_shared_channel") is True and isinstance(authorizations, list):
        for authorization in authorizations[:1]:
            if isinstance(authorization, dict):
                found += [authorization.get("team_id"), authorization.get("enterprise_id")]
    return frozenset(team for team in found if isinstance(team, str) and team)


def _json_object(text: bytes | str, part: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Malformed(part) from error
    if not isinstance(value, dict):
        raise Malformed(part)
    return value


def _key(*parts: str) -> str:
    key = "|".join(("slack", *parts))
    return key if len(key) <= _LONGEST_KEY and key.isprintable() else "slack|" + _digest(key.encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
