"""The wire to a server that speaks OpenAI's `/v1/chat/completions`, as vLLM does: one streamed request at a time.

Whatever goes wrong on the wire is `ModelUnavailable`, within the limits, and the connection is closed with it: vLLM
aborts a request whose client has gone, so nothing is computed for nobody.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from structlog.contextvars import get_contextvars

from inference.limits import ModelLimits
from inference.model import ModelUnavailable

LONGEST_LINE = 1 << 20
"""Bytes of one server-sent event line. A peer that sends more is not speaking the protocol."""

CONNECTIONS = 64
"""Requests on their way at once; vLLM queues what it cannot run."""

NATURAL_ENDS = frozenset({"stop", "length"})


class ChatCompletions:
    """A pooled client of one model server. `close` it."""

    def __init__(self, base_url: str, *, api_key: str | None = None) -> None:
        """`base_url` with or without its `/v1`. No request is made and no socket opened yet."""
        root = base_url.rstrip("/").removesuffix("/v1")
        self._url = f"{root}/v1/chat/completions"
        self._authorisation = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._session: aiohttp.ClientSession | None = None

    async def stream(self, body: Mapping[str, Any], limits: ModelLimits, deadline: float) -> AsyncGenerator[str, None]:
        """The text of one answer, piece by piece; ends only where the server says the answer ends.

        `deadline` is the event loop's time by which all of it must be done. An answer cut at `max_tokens` ends in an
        ellipsis. Raises `ModelUnavailable`. Close the iterator to abort the request.
        """
        loop = asyncio.get_running_loop()
        patience = _Patience(min(loop.time() + limits.first_token.total_seconds(), deadline))
        said_anything = False
        try:
            async with patience.limit():
                response = await self._pool().post(
                    self._url, json={**body, "stream": True}, headers=self._headers(), allow_redirects=False
                )
            try:
                if response.status != 200:
                    raise ModelUnavailable(f"the model server answered {response.status}")
                async with aclosing(_events(response, patience)) as events:
                    async for event in events:
                        text, finish = _text_and_finish(event)
                        if text is not None:
                            patience.until = min(loop.time() + limits.between_tokens.total_seconds(), deadline)
                            patience.awaited = "next"
                        if text:
                            said_anything = True
                            yield text
                        if finish is not None:
                            if not said_anything:
                                raise ModelUnavailable("the model server ended an answer without a word")
                            if finish not in NATURAL_ENDS:
                                raise ModelUnavailable(f"the model server ended the answer with {finish[:40]!r}")
                            if finish == "length":
                                yield " …"
                            return
            finally:
                response.close()
        except aiohttp.ClientError as error:
            raise ModelUnavailable(f"the model server cannot be reached: {type(error).__name__}") from error
        raise ModelUnavailable("the model server's stream ended before the answer did")

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _pool(self) -> aiohttp.ClientSession:
        # Made here and not in __init__: a session belongs to the loop that runs it.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS),
                # Our own limits apply, and they are stricter where it matters.
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session

    def _headers(self) -> dict[str, str]:
        request_id = get_contextvars().get("request_id")
        return self._authorisation | ({"X-Request-Id": str(request_id)} if request_id else {})


@dataclass(slots=True)
class _Patience:
    """The loop's time until which the next piece of text must be there."""

    until: float
    awaited: str = "first"

    @asynccontextmanager
    async def limit(self) -> AsyncIterator[None]:
        """Turn lateness into `ModelUnavailable`. Never held across a yield to the consumer: it would hit them."""
        try:
            async with asyncio.timeout_at(self.until):
                yield
        except TimeoutError:
            raise ModelUnavailable(f"the model server was too slow with the {self.awaited} token") from None


async def _events(response: aiohttp.ClientResponse, patience: _Patience) -> AsyncGenerator[Mapping[str, Any], None]:
    """The `data:` of each server-sent event, parsed, until `[DONE]` or the end of the stream."""
    pending = b""
    while True:
        async with patience.limit():
            chunk = await response.content.readany()
        if not chunk:
            return
        *lines, pending = (pending + chunk).split(b"\n")
        if len(pending) > LONGEST_LINE:
            raise ModelUnavailable("the model server sent a line without end")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            try:
                event = json.loads(data)
            except ValueError:
                raise ModelUnavailable("the model server sent something that is not JSON") from None
            if not isinstance(event, dict):
                raise ModelUnavailable("the model server sent something that is not a chunk")
            yield event


def _text_and_finish(event: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The piece of text in a chunk and why the answer ends here; None where the chunk says neither.

    Text is "" for a token that people do not see (a model thinking): progress, but no words. A full queue shows up
    here and not in the status: with `stream` vLLM answers 200 and then sends the error as an event.
    """
    if "error" in event or event.get("object") == "error":
        error = event.get("error", event)
        code = error.get("code") if isinstance(error, dict) else None
        raise ModelUnavailable(f"the model server reported an error in its stream (code {code})")
    choices = event.get("choices")
    if choices == [] and "usage" in event:
        return None, None
    try:
        choice = event["choices"][0]
        delta = choice.get("delta") or {}
        finish = choice.get("finish_reason")
        content = delta.get("content")
        thinking = delta.get("reasoning_content") or delta.get("reasoning")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ModelUnavailable("the model server sent something that is not a chunk") from None
    if not isinstance(content, str | None) or not isinstance(finish, str | None):
        raise ModelUnavailable("the model server sent something that is not a chunk")
    return content or ("" if thinking else None), finish
