"""The wire to a server that speaks OpenAI's `/v1/chat/completions`, as vLLM does: one streamed request at a time.

Whatever goes wrong on the wire is `ModelUnavailable`, within the limits, and the connection is closed with it: vLLM
aborts a request whose client has gone, so nothing is computed for nobody.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any

import aiohttp
import orjson

from inference.chunks import Answer, Lines, ToolCall, parsed
from inference.limits import ModelLimits
from inference.model import ModelUnavailable
from inference.purpose import Lane, Purpose
from inference.usage import Usage

CONNECTIONS = 64
"""Requests on their way at once; vLLM queues what it cannot run."""

KEPT_ALIVE = 4.0
"""Seconds an idle connection is kept; vLLM closes its end after 5."""

USAGE_PATIENCE = 0.5
"""Seconds after an answer's end in which the server may still say what it cost."""

BACKGROUND_PRIORITY = 10
"""vLLM runs lower numbers first; people waiting have 0, which every server takes."""

NATURAL_ENDS = frozenset({"stop", "length", "tool_calls"})

LONGEST_REFUSAL = 64 << 10
"""Bytes read of what a server says when it does not take a request."""


class Dialect(StrEnum):
    """Which additions to OpenAI's protocol a server takes."""

    VLLM = "vllm"
    """`priority` and `cache_salt`."""
    OPENAI = "openai"
    """None."""


class RequestRefused(ModelUnavailable):
    """The server answered with a status other than 200."""

    def __init__(self, message: str, status: int, said: str) -> None:
        super().__init__(message)
        self.status = status
        self.said = said
        """The server's own words, which may quote the request: to be looked at, never to be shown or logged."""


class ChatCompletions:
    """A pooled client of one model server. `close` it."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        dialect: Dialect = Dialect.VLLM,
        salt_key: bytes = b"",
        connections: int = CONNECTIONS,
    ) -> None:
        """`base_url` with or without its `/v1`. No request is made and no socket opened yet.

        `salt_key`: 32 secret bytes from which each tenant's `cache_salt` is made, so that nobody can tell by time to
        first token what another tenant has asked. Without it none is sent.
        """
        root = base_url.rstrip("/").removesuffix("/v1")
        self._url = f"{root}/v1/chat/completions"
        self._headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._dialect = dialect
        self._salt_key = salt_key
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._takes_priority = True

    def stream(
        self, body: Mapping[str, Any], limits: ModelLimits, deadline: float, purpose: Purpose | None = None
    ) -> Exchange:
        """Ask for one answer. `deadline` is the event loop's time by which all of it must be done."""
        return Exchange(self, body, limits, deadline, purpose or Purpose())

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def open(self, body: Mapping[str, Any], purpose: Purpose) -> aiohttp.ClientResponse:
        """Send a request and wait for the status. Raises `RequestRefused` and aiohttp's errors; knows no limit."""
        response = await self._posted(body, purpose)
        if response.status == 200:
            return response
        try:
            said = (await response.content.read(LONGEST_REFUSAL)).decode(errors="replace")
        finally:
            response.close()
        if response.status == 400 and self._sends_priority(purpose) and "priority" in said.lower():
            # A server without `--scheduling-policy priority` takes no other than 0.
            self._takes_priority = False
            return await self.open(body, purpose)
        raise RequestRefused(_refusal(response.status, said, body.get("model")), response.status, said)

    async def _posted(self, body: Mapping[str, Any], purpose: Purpose) -> aiohttp.ClientResponse:
        data = orjson.dumps({**body, **self._additions(purpose)})
        headers = {**self._headers, **_tracing(purpose.request_id)}
        try:
            return await self._pool().post(self._url, data=data, headers=headers, allow_redirects=False)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # A kept connection that the server closed just as it was used. Asking again costs no more than tokens.
            return await self._pool().post(self._url, data=data, headers=headers, allow_redirects=False)

    def _additions(self, purpose: Purpose) -> dict[str, Any]:
        added: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
        if self._sends_priority(purpose):
            added["priority"] = BACKGROUND_PRIORITY
        if self._dialect is Dialect.VLLM and self._salt_key:
            digest = hmac.digest(self._salt_key, purpose.tenant.encode(), hashlib.sha256)
            added["cache_salt"] = urlsafe_b64encode(digest).rstrip(b"=").decode()
        return added

    def _sends_priority(self, purpose: Purpose) -> bool:
        return self._dialect is Dialect.VLLM and purpose.lane is Lane.RICH and self._takes_priority

    def _pool(self) -> aiohttp.ClientSession:
        # Made here and not in __init__: a session belongs to the loop that runs it.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=KEPT_ALIVE),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Our own limits apply, and they are stricter where it matters.
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session


class Exchange:
    """One request and its answer. Iterate over it once; `aclose` it to abort the request on the server.

        exchange = server.stream(body, limits, deadline)
        async with aclosing(exchange):
            async for piece in exchange:
                ...
        exchange.calls, exchange.usage

    Its pieces end only where the server says that the answer ends, and raise `ModelUnavailable`. An answer cut at
    `max_tokens` ends in an ellipsis.
    """

    def __init__(
        self,
        server: ChatCompletions,
        body: Mapping[str, Any],
        limits: ModelLimits,
        deadline: float,
        purpose: Purpose,
    ) -> None:
        self._server = server
        self._body = body
        self._limits = limits
        self._deadline = deadline
        self._purpose = purpose
        self._answer = Answer()
        self._was_taken = False
        self._pieces = self._read()

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tools the model calls, in its order; complete once the pieces have ended."""
        return tuple(call for _, call in sorted(self._answer.calls.items()))

    @property
    def usage(self) -> Usage:
        """What the request cost so far: the server's count where it gave one, else an estimate.

        Nothing for a request that the server did not take.
        """
        if self._answer.usage is not None:
            return self._answer.usage
        was_read = self._was_taken and not self._answer.turned_away
        return self._answer.estimate(_characters(self._body) if was_read else 0)

    def __aiter__(self) -> AsyncIterator[str]:
        return self._pieces

    async def aclose(self) -> None:
        """Stop; the connection is closed at once where the answer has not ended."""
        await self._pieces.aclose()

    async def _read(self) -> AsyncGenerator[str, None]:
        patience = _Patience(self._limits, self._deadline)
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._opened(patience)
            self._was_taken = True
            patience.watch(response.content)
            lines = Lines()
            while self._answer.finish is None:
                chunk = await patience.bytes()
                if not chunk:
                    raise ModelUnavailable("the model server's stream ended before the answer did")
                for data in lines.feed(chunk):
                    if self._answer.finish is not None:
                        self._overhear(data)
                        continue
                    if data == b"[DONE]":
                        raise ModelUnavailable("the model server's stream ended before the answer did")
                    text = self._answer.take(parsed(data))
                    if text is not None:
                        patience.progress()
                        if text:
                            yield text
            self._check_end()
            if self._answer.finish == "length" and not self._answer.calls:
                yield " …"
            await self._hear_out(lines, patience)
        except aiohttp.ClientError as error:
            happened = "broke the connection" if response is not None else "cannot be reached"
            raise ModelUnavailable(f"the model server {happened}: {type(error).__name__}") from error
        finally:
            patience.end()
            if response is not None:
                response.close()

    async def _opened(self, patience: _Patience) -> aiohttp.ClientResponse:
        try:
            async with asyncio.timeout_at(patience.until):
                return await self._server.open(self._body, self._purpose)
        except TimeoutError:
            # It may be working on it, or it may only have been slow to take the connection: count the worse.
            self._was_taken = True
            raise patience.lost() from None
        except asyncio.CancelledError:
            self._was_taken = True
            raise

    def _check_end(self) -> None:
        if self._answer.finish not in NATURAL_ENDS:
            raise ModelUnavailable(f"the model server ended the answer with {str(self._answer.finish)[:40]!r}")
        if self._answer.empty:
            raise ModelUnavailable("the model server ended an answer without a word")

    async def _hear_out(self, lines: Lines, patience: _Patience) -> None:
        """Read to the end of the stream: what the answer cost, and a connection that can be used again.

        Every word has been given by now, so nothing that goes wrong here is an error.
        """
        patience.last(USAGE_PATIENCE)
        try:
            while chunk := await patience.bytes():
                for data in lines.feed(chunk):
                    self._overhear(data)
        except (ModelUnavailable, aiohttp.ClientError):
            return

    def _overhear(self, data: bytes) -> None:
        if data != b"[DONE]":
            with suppress(ModelUnavailable):
                self._answer.take_usage(parsed(data))


class _Patience:
    """How long the next piece of text may take. One timer a request, that looks again when it was too early, because a
    timer a token costs more than reading the token."""

    def __init__(self, limits: ModelLimits, deadline: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._between = limits.between_tokens.total_seconds()
        self._deadline = deadline
        self._awaited = "first"
        self._content: aiohttp.StreamReader
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0.0
        self._waiting_beyond: int | None = None
        """Bytes that had arrived when the reader began to wait for more; None while it is not waiting."""
        self.until = min(self._loop.time() + limits.first_token.total_seconds(), deadline)
        """The loop's time until which it must be there."""

    def watch(self, content: aiohttp.StreamReader) -> None:
        """From now on `bytes` reads this."""
        self._content = content

    async def bytes(self) -> bytes:
        """What has arrived, or b"" at the end. Raises `ModelUnavailable` when nothing did in time.

        Never held while the consumer has its turn: their slowness is not the server's.
        """
        if self._loop.time() >= self._deadline:
            raise self.lost()
        if self._timer is None:
            self._arm()
        self._waiting_beyond = self._content.total_bytes
        try:
            return await self._content.readany()
        finally:
            self._waiting_beyond = None

    def progress(self) -> None:
        """A token came: the next one has the time between tokens."""
        self._awaited = "next"
        self.until = min(self._loop.time() + self._between, self._deadline)
        if self._timer is not None and self.until < self._armed_for:
            self._arm()

    def last(self, seconds: float) -> None:
        """All the rest has this long."""
        self.until = min(self._loop.time() + seconds, self._deadline)
        self._arm()

    def lost(self) -> ModelUnavailable:
        """The error to raise."""
        return ModelUnavailable(f"the model server was too slow with the {self._awaited} token")

    def end(self) -> None:
        """Nothing is awaited any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self.end()
        self._armed_for = self.until
        self._timer = self._loop.call_at(self.until, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._loop.time() < self.until:
            self._arm()
        elif self._waiting_beyond == self._content.total_bytes:
            # Not where bytes came in this very turn of the loop: the reader is about to get them, and the error would
            # stay with the connection and hit the next wait.
            self._content.set_exception(self.lost())


def _tracing(request_id: str) -> dict[str, str]:
    """Headers that tie the server's own logs and traces to the request (W3C Trace Context, version 00)."""
    if not request_id:
        return {}
    trace_id = hashlib.sha256(request_id.encode()).hexdigest()[:32]
    return {"X-Request-Id": request_id, "traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}


def _refusal(status: int, said: str, model: object) -> str:
    """A status in words, without the server's own, which may quote what was sent."""
    known = said.lower()
    if status == 404 and "model" in known:
        return f"the model server does not serve {str(model)[:100]!r} (404)"
    if status == 400 and ("context length" in known or "maximum model length" in known):
        return "the request is longer than the model server's model can read (400)"
    if status in (401, 403):
        return f"the model server does not accept the API key ({status})"
    if status == 429:
        return "the model server has too many requests (429)"
    return f"the model server answered {status}"


def _characters(body: Mapping[str, Any]) -> int:
    return sum(len(message.get("content") or "") for message in body["messages"]) + sum(
        len(orjson.dumps(tool)) for tool in body.get("tools", ())
    )
