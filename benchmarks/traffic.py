"""Signed requests as Slack and Teams send them, ready to be written to a socket."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import orjson

from benchmarks.installation import CHANNEL, Installation
from bot.workbench.credentials import PEOPLE, SLACK_TEAM, TEAMS_TENANT

REQUESTER = PEOPLE[0]
SLACK_PATH = "/slack/events"
TEAMS_PATH = "/api/messages"

MakeRequest = Callable[[], bytes]
"""The next request, different from every earlier one."""


def slash_commands(installation: Installation) -> MakeRequest:
    """`/countersign help`, each with a trigger id of its own and signed now."""
    run, count = secrets.token_hex(16), 0

    def make() -> bytes:
        nonlocal count
        count += 1
        return slash_command(installation, "help", trigger_id=f"{count}.{run}")

    return make


def slash_command(installation: Installation, text: str, *, trigger_id: str) -> bytes:
    """`/countersign` and a text, from the requester."""
    body = urlencode(
        {
            "token": "legacy-verification-token",
            "team_id": SLACK_TEAM,
            "team_domain": "workbench",
            "channel_id": CHANNEL,
            "channel_name": "support",
            "user_id": REQUESTER.slack,
            "user_name": REQUESTER.id,
            "command": "/countersign",
            "text": text,
            "api_app_id": "A0WORKBENCH",
            "is_enterprise_install": "false",
            "response_url": "https://hooks.slack.com/commands/T0WORKBENCH/1/abcdefghijklmnop",
            "trigger_id": trigger_id,
        }
    )
    return slack_request(installation, body.encode(), "application/x-www-form-urlencoded")


def slack_request(installation: Installation, body: bytes, content_type: str) -> bytes:
    """An HTTP/1.1 request with Slack's signature (docs.slack.dev, "Verifying requests from Slack")."""
    key = installation.credentials.slack_signing_secret.encode()
    timestamp = str(int(time.time()))
    digest = hmac.new(key, b"v0:" + timestamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    head = (
        f"POST {SLACK_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        f"X-Slack-Request-Timestamp: {timestamp}\r\nX-Slack-Signature: v0={digest}\r\n"
        f"User-Agent: Slackbot 1.0 (+https://api.slack.com/robots)\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def activities(installation: Installation) -> MakeRequest:
    """A personal message "help", each with an activity id of its own, under one bearer token as Teams uses it."""
    bearer = installation.identity.bearer(installation.service_url)
    same = activity(installation, REQUESTER.teams) | {"text": "help"}
    run, count = secrets.token_hex(4), 0

    def make() -> bytes:
        nonlocal count
        count += 1
        return teams_request(bearer, same | {"id": f"{run}{count}"})

    return make


def activity(installation: Installation, person: str, *, channel: str | None = None) -> dict[str, Any]:
    """The envelope of a message by a person, in their own chat or in a channel."""
    conversation = {"id": f"a:{person}", "conversationType": "personal", "tenantId": TEAMS_TENANT}
    channel_data: dict[str, Any] = {"tenant": {"id": TEAMS_TENANT}}
    if channel is not None:
        conversation |= {"id": channel, "conversationType": "channel"}
        channel_data |= {"team": {"id": channel}, "channel": {"id": channel}, "teamsTeamId": channel}
    return {
        "type": "message",
        "id": secrets.token_hex(8),
        "timestamp": "2026-01-01T12:00:00Z",
        "channelId": "msteams",
        "serviceUrl": installation.service_url,
        "from": {"id": f"29:{person}", "name": "Somebody", "aadObjectId": person},
        "recipient": {"id": f"28:{installation.credentials.teams_app_id}", "name": "Countersign"},
        "conversation": conversation,
        "channelData": channel_data,
        "textFormat": "plain",
        "locale": "en-US",
    }


def teams_request(bearer: str, activity: dict[str, object]) -> bytes:
    """An HTTP/1.1 request with the Bot Connector's token."""
    body = orjson.dumps(activity)
    head = (
        f"POST {TEAMS_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json; charset=utf-8\r\n"
        f"Authorization: {bearer}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
