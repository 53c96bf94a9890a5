"""Slack's Web API over one pooled HTTP client: token in the header only, every wait bounded.

A call that may have been taken (the answer did not arrive) is repeated only where twice is the same as once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import aiohttp
import orjson

from handlers.surface import SurfaceUnavailable

TIMEOUT = timedelta(seconds=10)
"""For one try, connection included."""
TRIES = 3
"""At most, when Slack fails or cannot be reached."""
PAUSE = timedelta(milliseconds=300)
"""Before the second try; doubled before the third."""
RATE_LIMIT_PATIENCE = timedelta(seconds=30)
"""Waiting in all that one call spends on `Retry-After`; what asks for more fails at once."""

# These take arguments as a form only; a JSON body is ignored by Slack.
_FORM_METHODS = frozenset({"conversations.history", "conversations.info", "conversations.replies", "users.info"})
_NEVER_TWICE = frozenset({"chat.postMessage", "chat.postEphemeral", "views.open", "views.push"})

Sleep = Callable[[float], Awaitable[None]]


class SlackCallFailed(SurfaceUnavailable):
    """Slack refused a call or could not be reached; `code` is Slack's error code, or what happened on the way."""

    def __init__(self, method: str, code: str) -> None:
        super().__init__(f"Slack {method} failed: {code}")
        self.method = method
        self.code = code


class SlackWebApi:
    """Calls methods of the Web API.

    posted = await api.call("chat.postMessage", {"channel": "C1", "text": "hello"})
    """

    def __init__(self, api_url: str, token: str, *, timeout: timedelta = TIMEOUT, sleep: Sleep = asyncio.sleep) -> None:
        self._api_url = api_url
        self._token = token
        self._timeout = timeout
        self._sleep = sleep
        self._session: aiohttp.ClientSession | None = None

    async def call(self, method: str, arguments: Mapping[str, Any], *, tries: int = TRIES) -> dict[str, Any]:
        """Call a method and return its answer; raises SlackCallFailed. None-valued arguments are left out."""
        sent = {name: value for name, value in arguments.items() if value is not None}
        patience = RATE_LIMIT_PATIENCE.total_seconds()
        attempt = 1
        while True:
            try:
                status, retry_after, body = await self._send(method, sent)
            except (TimeoutError, aiohttp.ClientError) as error:
                never_left = isinstance(error, aiohttp.ClientConnectorError)
                if attempt >= tries or not (never_left or method not in _NEVER_TWICE):
                    raise SlackCallFailed(method, type(error).__name__) from error
            else:
                if status == 429:
                    if tries == 1 or retry_after > patience:
                        raise SlackCallFailed(method, "ratelimited")
                    patience -= retry_after
                    await self._sleep(retry_after)
                    continue
                if status < 500:
                    return _answer(method, status, body)
                if attempt >= tries:
                    raise SlackCallFailed(method, f"http_{status}")
            await self._sleep(PAUSE.total_seconds() * 2 ** (attempt - 1))
            attempt += 1

    async def close(self) -> None:
        """Release the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _send(self, method: str, arguments: Mapping[str, Any]) -> tuple[int, float, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout.total_seconds()),
                headers={"Authorization": f"Bearer {self._token}"},
            )
        if method in _FORM_METHODS:
            data = aiohttp.FormData({name: _form_value(value) for name, value in arguments.items()})()
            content_type = "application/x-www-form-urlencoded"
            request = self._session.post(
                self._api_url + method, data=data, headers={"Content-Type": content_type}, allow_redirects=False
            )
        else:
            request = self._session.post(
                self._api_url + method,
                data=orjson.dumps(arguments),
                headers={"Content-Type": "application/json; charset=utf-8"},
                allow_redirects=False,
            )
        async with request as response:
            return response.status, _seconds(response.headers.get("Retry-After")), await response.read()


def _answer(method: str, status: int, body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SlackCallFailed(method, f"http_{status}_without_json") from error
    if not isinstance(answer, dict) or answer.get("ok") is not True:
        code = answer.get("error") if isinstance(answer, dict) else None
        raise SlackCallFailed(method, code if isinstance(code, str) else f"http_{status}")
    return answer


def _form_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _seconds(retry_after: str | None) -> float:
    """`Retry-After` in whole seconds; one second where Slack gives none or something else."""
    return float(retry_after) if retry_after is not None and retry_after.isascii() and retry_after.isdigit() else 1.0
