"""The ASGI side of `POST /api/messages`: reads the request under a size limit and writes the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Receive, Scope, Send

from bot.teams.verification import Peer

MAX_BODY_BYTES = 256 * 1024
_PROXY_HEADERS = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip"})

Take = Callable[[bytes, str, Peer], Awaitable[tuple[int, dict[str, Any] | None]]]

logger = structlog.get_logger(__name__)


class TeamsEndpoint:
    """Hands bodies to the door and answers with what it says; 503 when an activity could not be stored."""

    def __init__(self, take: Take) -> None:
        self._take = take

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        if scope["method"] != "POST":
            await _answer(send, 405, {"error": "only POST is taken here"})
            return
        headers = dict(scope["headers"])
        # A browser cannot send this content type to another origin without asking first, and we never say yes.
        if not headers.get(b"content-type", b"").lower().startswith(b"application/json"):
            await _answer(send, 415, {"error": "the body has to be application/json"})
            return
        body = await _read(headers.get(b"content-length", b""), receive)
        if body is None:
            await _answer(send, 413, {"error": f"the body exceeds {MAX_BODY_BYTES} bytes"})
            return
        client = scope.get("client")
        peer = Peer(client[0] if client else "", forwarded=not _PROXY_HEADERS.isdisjoint(headers))
        try:
            status, answer = await self._take(body, headers.get(b"authorization", b"").decode("latin-1"), peer)
        except SQLAlchemyError as error:
            logger.error("teams_activity_not_stored", error=type(error).__name__)
            status, answer = 503, {"error": "the activity could not be stored; please send it again"}
        await _answer(send, status, answer)


async def _read(announced: bytes, receive: Receive) -> bytes | None:
    """The whole body; None when it is too large, empty when the client went away before it was whole."""
    if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
        return None
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(body)


async def _answer(send: Send, status: int, answer: dict[str, Any] | None) -> None:
    body = b"" if answer is None else orjson.dumps(answer)
    headers = [(b"content-length", str(len(body)).encode())]
    if body:
        headers.append((b"content-type", b"application/json"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
