"""Our own token for the Bot Connector: asked for once, used until shortly before it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiohttp

SCOPE = "https://api.botframework.com/.default"
RENEW_BEFORE_SECONDS = 300.0
"""A token is renewed this long before it ends, so that none ends on its way."""


class TokenUnavailable(Exception):
    """The token service did not give us a token; the message holds its status, never its answer."""


class ServiceToken:
    """The OAuth 2.0 client-credentials token of one app id and scope."""

    def __init__(
        self,
        *,
        token_url: str,
        app_id: str,
        app_password: str,
        scope: str = SCOPE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token_url = token_url
        self._form = {
            "grant_type": "client_credentials",
            "client_id": app_id,
            "client_secret": app_password,
            "scope": scope,
        }
        self._clock = clock
        self._token = ""
        self._renew_at = float("-inf")
        self._lock = asyncio.Lock()

    async def value(self, session: aiohttp.ClientSession) -> str:
        """A token that is good for some minutes; raises TokenUnavailable."""
        if self._clock() < self._renew_at:
            return self._token
        async with self._lock:
            if self._clock() >= self._renew_at:
                await self._renew(session)
            return self._token

    def forget(self, token: str) -> None:
        """Give up a token the service refused; the next call asks for another."""
        if token == self._token:
            self._renew_at = float("-inf")

    async def _renew(self, session: aiohttp.ClientSession) -> None:
        try:
            async with session.post(self._token_url, data=self._form, allow_redirects=False) as response:
                if response.status != 200:
                    raise TokenUnavailable(f"the token service answered {response.status}")
                answer = await response.json(content_type=None)
            self._token = str(answer["access_token"])
            lifetime = float(answer["expires_in"])
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TokenUnavailable("the token service does not answer") from error
        except (ValueError, KeyError, TypeError) as error:
            raise TokenUnavailable("the token service's answer holds no token") from error
        self._renew_at = self._clock() + max(lifetime - RENEW_BEFORE_SECONDS, lifetime / 2)
