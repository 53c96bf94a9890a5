"""Slack and Teams as far as answering costs them next to nothing: they take what they are sent and keep only cards.

python -m benchmarks.platforms FOLDER PORT
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import uvicorn

from benchmarks.installation import CHANNEL, Installation
from benchmarks.machine import LOAD_CPU, pin
from bot.workbench.credentials import SLACK_TEAM


class Platforms:
    """An ASGI application; every method that needs no thought is answered with `ok`. Cards are kept for `card`."""

    def __init__(self, installation: Installation) -> None:
        self._cards: list[tuple[str, bytes]] = []
        self._count = 0
        self._answers: dict[str, Any] = {
            "/slack/auth.test": {"ok": True, "team_id": SLACK_TEAM, "bot_id": "B0BENCH", "user_id": "U0BENCH"},
            "/slack/users.info": {"ok": True, "user": {"id": "U0", "team_id": SLACK_TEAM, "real_name": "Somebody"}},
            "/slack/conversations.info": {"ok": True, "channel": {"id": CHANNEL}},
            "/teams/v1/.well-known/openidconfiguration": installation.identity.metadata(),
            "/teams/v1/.well-known/keys": installation.identity.keys(),
            "/teams/oauth2/v2.0/token": {"token_type": "Bearer", "expires_in": 3600, "access_token": "benchmark"},
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        answer = self._answers.get(scope["path"]) or self._posted(body)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": orjson.dumps(answer)})

    def card(self, words: str) -> tuple[str, dict[str, Any]] | None:
        """The newest message with these words and an Approve button: its id, and the button as the platform has it."""
        for identity, body in reversed(self._cards):
            if words.encode() in body:
                button = next(_approve_buttons(orjson.loads(body)), None)
                if button is not None:
                    return identity, button
        return None

    def _posted(self, body: bytes) -> dict[str, Any]:
        self._count += 1
        identity = f"1700000000.{self._count:06d}"
        if b"Approve" in body:
            self._cards = [*self._cards[-9:], (identity, body)]
        return {"ok": True, "ts": identity, "id": identity}


def _approve_buttons(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if value.get("type") == "button" and (value.get("text") or {}).get("text") == "Approve":
            yield {"type": "button", "action_id": value["action_id"], "value": value["value"]}
        if value.get("type") == "Action.Execute" and value.get("title") == "Approve":
            yield {"verb": value["verb"], "data": value["data"]}
        for inner in value.values():
            yield from _approve_buttons(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _approve_buttons(inner)


def main() -> None:
    """Serve until killed."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    pin(LOAD_CPU)
    uvicorn.run(Platforms(Installation(folder, port)), port=port, log_level="critical", lifespan="off")


if __name__ == "__main__":
    main()
