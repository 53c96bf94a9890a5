"""Outgoing calls to the Bot Connector, as dict activities over one pooled client.

Invariant: our token goes to allow-listed hosts only, and no redirect is followed with it.
botbuilder's own connector client is not used: it builds two clients and asks for a token for every turn, never retries
a 429, and drops the fields of entities (AI label, mentions) on the way out.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
import structlog
from yarl import URL

from bot.settings import TeamsSettings
from bot.teams.hosts import service_allowed
from bot.teams.tokens import ServiceToken, TokenUnavailable
from handlers.surface import SurfaceUnavailable

ATTEMPTS = 4
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 5.0
CALL_TIMEOUT_SECONDS = 10.0
_WORTH_A_RETRY = frozenset({408, 412, 429, 500, 502, 503, 504})
"""What Microsoft's page on rate limits for Teams bots asks to try again, with 408 and 500."""

logger = structlog.get_logger(__name__)


class NotFound(SurfaceUnavailable):
    """The conversation, message or person is not there any more."""


class Connector:
    """Sends, updates and deletes activities, opens conversations, and looks people up."""

    def __init__(self, settings: TeamsSettings, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._settings = settings
        self._sleep = sleep
        self._token = ServiceToken(
            token_url=settings.token_url, app_id=settings.app_id, app_password=settings.app_password
        )
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, service_url: str, conversation: str, activity: Mapping[str, Any], *, attempts: int = ATTEMPTS
    ) -> str:
        """Post an activity and return its id (empty for kinds that get none, such as typing)."""
        path = f"v3/conversations/{_segment(conversation)}/activities"
        answer = await self._call("send", "POST", service_url, path, activity, attempts=attempts)
        return str(answer.get("id") or "")

    async def update(self, service_url: str, conversation: str, activity_id: str, activity: Mapping[str, Any]) -> None:
        """Replace an activity we sent."""
        path = f"v3/conversations/{_segment(conversation)}/activities/{_segment(activity_id)}"
        await self._call("update", "PUT", service_url, path, {**activity, "id": activity_id})

    async def delete(self, service_url: str, conversation: str, activity_id: str) -> None:
        """Take back an activity we sent."""
        path = f"v3/conversations/{_segment(conversation)}/activities/{_segment(activity_id)}"
        await self._call("delete", "DELETE", service_url, path, None)

    async def get_member(self, service_url: str, conversation: str, account: str) -> dict[str, Any]:
        """A member of a conversation: `id`, `name`, `tenantId`, `userRole` and more."""
        path = f"v3/conversations/{_segment(conversation)}/members/{_segment(account)}"
        return await self._call("get_member", "GET", service_url, path, None)

    async def create_conversation(self, service_url: str, parameters: Mapping[str, Any]) -> str:
        """Open a conversation and return its id."""
        answer = await self._call("create_conversation", "POST", service_url, "v3/conversations", parameters)
        conversation = answer.get("id")
        if not isinstance(conversation, str) or not conversation:
            raise SurfaceUnavailable("Teams did not take create_conversation: the answer names no conversation")
        return conversation

    async def close(self) -> None:
        """Close the pooled connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _call(
        self,
        operation: str,
        method: str,
        service_url: str,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        attempts: int = ATTEMPTS,
    ) -> dict[str, Any]:
        if not service_allowed(self._settings, service_url):
            raise SurfaceUnavailable(f"Teams did not take {operation}: the service URL is not on the allow-list")
        url = URL(f"{service_url.rstrip('/')}/{path}", encoded=True)
        data = None if body is None else orjson.dumps(body)
        problem = "no attempt was made"
        renewed = False
        delay = 0.0
        for attempt in range(attempts):
            if delay:
                await self._sleep(delay)
            delay = min(FIRST_DELAY_SECONDS * 2**attempt, LONGEST_DELAY_SECONDS) * random.uniform(0.75, 1.25)  # noqa: S311
            try:
                token = await self._bearer(service_url)
                async with self._open_session().request(
                    method, url, data=data, headers=_headers(token), allow_redirects=False
                ) as response:
                    status = response.status
                    if status < 300:
                        return _answer(await response.read())
                    wait = response.headers.get("Retry-After", "")
            except TokenUnavailable as error:
                problem = str(error)
                continue
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = f"the service does not answer ({type(error).__name__})"
                continue
            problem = f"the service answered {status}"
            if status == 401 and token and not renewed:
                self._token.forget(token)
                renewed, delay = True, 0.0
            elif status == 404:
                raise NotFound(f"Teams did not take {operation}: {problem}")
            elif status not in _WORTH_A_RETRY:
                break
            elif wait.isascii() and wait.isdigit():
                delay = min(max(float(wait), delay), LONGEST_DELAY_SECONDS)
        logger.warning("teams_call_failed", operation=operation, problem=problem)
        raise SurfaceUnavailable(f"Teams did not take {operation}: {problem}")

    async def _bearer(self, service_url: str) -> str:
        # An emulator gives out no tokens; the workbench's own service does, and is known by its address.
        if (
            self._settings.emulator
            and URL(service_url).origin() != URL(self._settings.token_url or "http://-").origin()
        ):
            return ""
        return await self._token.value(self._open_session())

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def _headers(token: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _segment(value: str) -> str:
    return quote(value, safe="")


def _answer(body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}
