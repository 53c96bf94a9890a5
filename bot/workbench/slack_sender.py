"""How the local Slack reaches an app: signed requests, three seconds of patience, and Slack's retries."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlencode

import aiohttp
import orjson

from bot.workbench.slack_workspace import Json

PATIENCE = 3.0
"""Seconds an app has to acknowledge."""
RETRY_DELAYS = (0.0, 60.0, 300.0)
"""Seconds before each retry of an event (docs.slack.dev, "Events API", retries)."""


class SlackSender:
    """Sends an app what happened.

    Faults to test with, each counted down as it is used: `lose_deliveries` (the request never arrives, Slack sees a
    timeout), `lose_acknowledgements` (it arrives, the answer does not), `duplicate_deliveries` (it arrives twice).
    """

    def __init__(
        self,
        *,
        signing_secret: str,
        events_url: str,
        retry_delays: Sequence[float] = RETRY_DELAYS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.events_url = events_url
        self.retry_delays = retry_delays
        self.lose_deliveries = 0
        self.lose_acknowledgements = 0
        self.duplicate_deliveries = 0
        self._secret = signing_secret.encode()
        self._sleep = sleep
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._retries: set[asyncio.Task[None]] = set()

    async def event(self, payload: Json) -> None:
        """Deliver an event; where the first try fails, further ones follow in the background."""
        body = orjson.dumps(payload)
        failure = await self._try(body, "application/json", {})
        if failure is None and self.duplicate_deliveries > 0:
            self.duplicate_deliveries -= 1
            failure = await self._try(body, "application/json", _retry_headers(1, "http_timeout"))
        if failure is not None and self.retry_delays:
            task = asyncio.create_task(self._retry(body, failure))
            self._retries.add(task)
            task.add_done_callback(self._retries.discard)

    async def command(self, form: dict[str, str]) -> str | None:
        """Deliver a slash command, once; what went wrong, or None."""
        return await self._try(urlencode(form).encode(), "application/x-www-form-urlencoded", {})

    async def interaction(self, payload: Json) -> str | None:
        """Deliver a press or a submission, once; what went wrong, or None."""
        form = urlencode({"payload": orjson.dumps(payload).decode()})
        content_type = "application/x-www-form-urlencoded"
        failure = await self._try(form.encode(), content_type, {})
        if failure is None and self.duplicate_deliveries > 0:
            self.duplicate_deliveries -= 1
            failure = await self._try(form.encode(), content_type, {})
        return failure

    def signed(self, body: bytes) -> dict[str, str]:
        """Slack's headers for a body, signed now."""
        timestamp = str(int(self._clock()))
        digest = hmac.new(self._secret, b"v0:" + timestamp.encode() + b":" + body, hashlib.sha256).hexdigest()
        return {"X-Slack-Request-Timestamp": timestamp, "X-Slack-Signature": f"v0={digest}"}

    async def settle(self) -> None:
        """Wait until no retry is outstanding."""
        while self._retries:
            await asyncio.gather(*self._retries, return_exceptions=True)

    async def close(self) -> None:
        """Give up what is outstanding and release the connections."""
        for task in self._retries:
            task.cancel()
        await self.settle()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _retry(self, body: bytes, reason: str) -> None:
        for number, delay in enumerate(self.retry_delays, start=1):
            await self._sleep(delay)
            failure = await self._try(body, "application/json", _retry_headers(number, reason))
            if failure is None:
                return
            reason = failure

    async def _try(self, body: bytes, content_type: str, headers: dict[str, str]) -> str | None:
        """One request; why Slack would call it failed, or None."""
        if self.lose_deliveries > 0:
            self.lose_deliveries -= 1
            return "http_timeout"
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE))
        sent = {"Content-Type": content_type, "User-Agent": "Slackbot 1.0", **self.signed(body), **headers}
        try:
            async with self._session.post(self.events_url, data=body, headers=sent, allow_redirects=False) as response:
                await response.read()
                status = response.status
        except TimeoutError:
            return "http_timeout"
        except aiohttp.ClientError:
            return "connection_failed"
        if self.lose_acknowledgements > 0:
            self.lose_acknowledgements -= 1
            return "http_timeout"
        return None if 200 <= status < 300 else "http_error"


def _retry_headers(number: int, reason: str) -> dict[str, str]:
    return {"X-Slack-Retry-Num": str(number), "X-Slack-Retry-Reason": reason}
