"""A local HTTP server that speaks the part of vLLM's protocol that Countersign uses, with faults on demand.

async with ModelServer() as server:
    server.answers["reply"] = "Hello there."
    server.fault = Fault.STALL
    model = VllmModel(server.url, "tiny")
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Any, Self

from aiohttp import web


class Fault(Enum):
    """What goes wrong with every request while it is set."""

    REFUSING = auto()
    """503, as a server without a model."""
    BUSY = auto()
    """429."""
    SLOW_FIRST_BYTE = auto()
    """Takes the request and never answers."""
    SLOW_FIRST_TOKEN = auto()
    """Answers 200 at once and never sends a token."""
    ONLY_COMMENTS = auto()
    """Keeps the stream alive with comments for ever and never sends a token."""
    STALL = auto()
    """Sends one token and nothing after it."""
    MALFORMED_CHUNK = auto()
    """Sends one token and then a chunk that is not JSON."""
    FOREIGN_CHUNK = auto()
    """Sends one token and then JSON of another shape."""
    EARLY_END = auto()
    """Sends one token and closes the stream properly, with no finish reason."""
    EARLY_DONE = auto()
    """Sends one token and `[DONE]`, with no finish reason."""
    BROKEN_CONNECTION = auto()
    """Sends one token and cuts the connection."""
    ERROR_EVENT = auto()
    """What vLLM does when its queue is full: 200, then the error as an event."""
    ERROR_EVENT_MIDWAY = auto()
    """One token, then the error as an event."""
    EMPTY_ANSWER = auto()
    """Finishes without a token."""
    WRONG_FORM_ONCE = auto()
    """Answers the next structured request with JSON of another schema, then clears itself."""
    WRONG_FORM_ALWAYS = auto()
    """Answers every structured request with JSON of another schema."""
    CUT_SHORT = auto()
    """Finishes for `length`, as at `max_tokens`."""


DEFAULT_ANSWERS = {
    "reply": "All is well here.",
    "summarise": json.dumps({"points": [], "decisions": [], "open_questions": []}),
    "classify": json.dumps({"label": None, "confidence": 0.9}),
    "propose_plan": json.dumps({"calls": [], "reason": "nothing to do"}),
}


@dataclass
class SeenRequest:
    """One request as it arrived."""

    body: dict[str, Any]
    headers: dict[str, str]
    """By lower-case name."""


@dataclass
class ModelServer:
    """See the module. Not for production: it answers what it was told to."""

    answers: dict[str, str] = field(default_factory=lambda: dict(DEFAULT_ANSWERS))
    """By the name of the JSON schema asked for; `reply` for plain text."""
    fault: Fault | None = None
    requests: list[SeenRequest] = field(default_factory=list)
    open: int = 0
    """Requests on their way now."""
    finished: int = 0
    """Requests answered to their end, faulty or not."""
    aborted: int = 0
    """Requests whose client went away."""
    url: str = ""

    def __post_init__(self) -> None:
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        await self.come_back()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.go_away()

    async def come_back(self) -> None:
        """Listen, on the port of before if there was one."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/health", self._health)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def go_away(self) -> None:
        """Close every connection and refuse new ones."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def idle(self) -> None:
        """Wait until no request is on its way."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.open == 0)

    async def busy(self) -> None:
        """Wait until a request is on its way."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.open > 0)

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(SeenRequest(await request.json(), {k.lower(): v for k, v in request.headers.items()}))
        self.open += 1
        await self._tell()
        try:
            response = await self._answer(request, self.requests[-1].body)
            self.finished += 1
            return response
        except (asyncio.CancelledError, ConnectionError):
            self.aborted += 1
            raise
        finally:
            self.open -= 1
            asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        fault = self.fault
        if fault is Fault.REFUSING:
            return web.json_response({"error": {"message": "no model", "code": 503}}, status=503)
        if fault is Fault.BUSY:
            return web.json_response({"error": {"message": "too many requests", "code": 429}}, status=429)
        if fault is Fault.SLOW_FIRST_BYTE:
            await asyncio.Event().wait()
        kind = body.get("response_format", {}).get("json_schema", {}).get("name", "reply")
        text = self.answers[kind]
        if kind != "reply" and fault in (Fault.WRONG_FORM_ONCE, Fault.WRONG_FORM_ALWAYS):
            text = json.dumps({"answer": 42})
            if fault is Fault.WRONG_FORM_ONCE:
                self.fault = None
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await self._stream(request, response, text, fault)
        return response

    async def _stream(self, request: web.Request, response: web.StreamResponse, text: str, fault: Fault | None) -> None:
        async def send(data: str) -> None:
            await response.write(f"data: {data}\n\n".encode())

        async def delta(content: str, finish: str | None = None) -> None:
            choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
            await send(json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}))

        async def fail() -> None:
            await send(json.dumps({"error": {"message": "queue full", "type": "ServiceUnavailable", "code": 503}}))
            await send("[DONE]")

        if fault is Fault.ERROR_EVENT:
            return await fail()
        # vLLM opens with the role and no content.
        await delta("")
        if fault is Fault.SLOW_FIRST_TOKEN:
            await asyncio.Event().wait()
        while fault is Fault.ONLY_COMMENTS:
            await response.write(b": still here\n\n")
            await asyncio.sleep(0.005)
        if fault is Fault.EMPTY_ANSWER:
            await delta("", "stop")
            return await send("[DONE]")
        words = text.split(" ")
        first, rest = words[0], words[1:]
        await delta(first)
        match fault:
            case Fault.STALL:
                await asyncio.Event().wait()
            case Fault.MALFORMED_CHUNK:
                await send('{"choices": [{"delta": {"cont')
            case Fault.FOREIGN_CHUNK:
                await send('{"choices": "none"}')
            case Fault.EARLY_END:
                return None
            case Fault.EARLY_DONE:
                return await send("[DONE]")
            case Fault.BROKEN_CONNECTION:
                assert request.transport is not None
                request.transport.abort()
                return None
            case Fault.ERROR_EVENT_MIDWAY:
                return await fail()
        for word in rest:
            await delta(f" {word}")
        await delta("", "length" if fault is Fault.CUT_SHORT else "stop")
        return await send("[DONE]")
