"""A local HTTP server that speaks the part of vLLM's protocol that Countersign uses, with faults on demand.

async with ModelServer() as server:
    server.answers["reply"] = "Hello there."
    server.fault = Fault.STALL
    model = VllmModel(server.url, "tiny")

It also plays back what a real server once sent: `server.replay = Path("transcript.sse")`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import takewhile
from pathlib import Path
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
    RENAMED = auto()
    """404: it serves a model of another name."""
    SERVER_ERROR = auto()
    """500."""
    MALFORMED_TOOL_CALL = auto()
    """Sends a tool call whose delta is not one, whatever was asked for."""
    WRONG_ARGUMENTS_ONCE = auto()
    """Calls a tool with arguments its schema does not allow, then clears itself; only where tools are given."""
    NO_TOOL_PARSER = auto()
    """400 to every request with tools."""
    NO_USAGE = auto()
    """Never says what an answer cost."""
    SLOW_USAGE = auto()
    """Ends every answer properly and then never says what it cost, nor closes the stream."""


SPARES_REPLIES = frozenset(
    {
        Fault.WRONG_FORM_ONCE,
        Fault.WRONG_FORM_ALWAYS,
        Fault.WRONG_ARGUMENTS_ONCE,
        Fault.NO_TOOL_PARSER,
        Fault.NO_USAGE,
        Fault.SLOW_USAGE,
        Fault.CUT_SHORT,
    }
)
"""Faults under which an answer in free words still comes."""

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
    """By the name of the JSON schema asked for; `reply` for plain text. Where tools are given, the calls of
    `propose_plan` come as tool calls and its reason as words."""
    fault: Fault | None = None
    replay: Path | bytes | None = None
    """The body of a streamed answer as a real server sent it: given to every request as it is, whatever the fault."""
    refuses_priority: bool = False
    """As vLLM without `--scheduling-policy priority`: 400 to every priority but 0."""
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
        self._last_prompts: dict[str, str] = {}
        """By `cache_salt`: what stands in for a prefix cache."""

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

    @property
    def connections(self) -> int:
        """Connections that clients hold open now, busy or kept."""
        server = self._runner.server if self._runner is not None else None
        return len(server.connections) if server is not None else 0

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
        body = await request.json()
        self.requests.append(SeenRequest(body, {k.lower(): v for k, v in request.headers.items()}))
        self.open += 1
        await self._tell()
        try:
            response = await self._answer(request, body)
            self.finished += 1
            return response
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        except ConnectionError:
            self.aborted += 1
            return web.Response()
        finally:
            self.open -= 1
            asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        fault = self.fault
        if fault is Fault.SLOW_FIRST_BYTE:
            await asyncio.Event().wait()
        if self.refuses_priority and body.get("priority", 0):
            return _error(400, "BadRequestError", "Got priority 10 but priority scheduling is not enabled.")
        refusal = _refusal(fault, body)
        if refusal is not None and self.replay is None:
            return refusal
        tools = [tool["function"]["name"] for tool in body.get("tools", ())]
        asked = body.get("response_format", {}).get("json_schema", {}).get("name", "reply")
        kind = "propose_plan" if tools else asked
        text = self.answers[kind]
        wrong_form = kind != "reply" and fault in (Fault.WRONG_FORM_ONCE, Fault.WRONG_FORM_ALWAYS)
        if wrong_form or (tools and fault is Fault.WRONG_ARGUMENTS_ONCE):
            wrong = {"answer": 42}
            text = json.dumps({"calls": [{"tool": tools[0], "arguments": wrong}], "reason": ""} if tools else wrong)
            if fault is not Fault.WRONG_FORM_ALWAYS:
                self.fault = None
        recorded = self.replay.read_bytes() if isinstance(self.replay, Path) else self.replay
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if recorded is not None:
            for event in re.findall(rb".+?(?:\n\n|\Z)", recorded, re.DOTALL):
                await response.write(event)
            return response
        deltas = _called(text) if tools else _spoken(text)
        await self._stream(request, body, response, deltas, fault)
        return response

    async def _stream(
        self,
        request: web.Request,
        body: Mapping[str, Any],
        response: web.StreamResponse,
        deltas: list[dict[str, Any]],
        fault: Fault | None,
    ) -> None:
        async def send(data: str) -> None:
            await response.write(f"data: {data}\n\n".encode())

        async def delta(delta: Mapping[str, Any], finish: str | None = None) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            await send(json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}))

        async def fail() -> None:
            await send(json.dumps({"error": {"message": "queue full", "type": "ServiceUnavailable", "code": 503}}))
            await send("[DONE]")

        if fault is Fault.ERROR_EVENT:
            return await fail()
        # vLLM opens with the role and no content.
        await delta({"role": "assistant", "content": ""})
        if fault is Fault.SLOW_FIRST_TOKEN:
            await asyncio.Event().wait()
        while fault is Fault.ONLY_COMMENTS:
            await response.write(b": still here\n\n")
            await asyncio.sleep(0.005)
        if fault is Fault.MALFORMED_TOOL_CALL:
            await delta({"tool_calls": [{"index": "first", "function": {"name": 7}}]})
        if fault is Fault.EMPTY_ANSWER:
            await delta({}, "stop")
            return await send("[DONE]")
        first, *rest = deltas
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
        for each in rest:
            await delta(each)
        calls_tools = any("tool_calls" in each for each in deltas)
        await delta({}, "length" if fault is Fault.CUT_SHORT else "tool_calls" if calls_tools else "stop")
        if fault is Fault.SLOW_USAGE:
            await asyncio.Event().wait()
        if body.get("stream_options", {}).get("include_usage") and fault is not Fault.NO_USAGE:
            usage = self._usage(body, len(deltas))
            await send(json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": usage}))
        return await send("[DONE]")

    def _usage(self, body: Mapping[str, Any], completion: int) -> dict[str, Any]:
        """Four characters a token, and blocks of sixteen tokens in the prefix cache."""
        prompt = json.dumps([body.get("tools"), body["messages"]])
        salt = body.get("cache_salt", "")
        pairs = zip(prompt, self._last_prompts.get(salt, ""), strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        self._last_prompts[salt] = prompt
        tokens = len(prompt) // 4
        return {
            "prompt_tokens": tokens,
            "completion_tokens": completion,
            "total_tokens": tokens + completion,
            "prompt_tokens_details": {"cached_tokens": shared // 64 * 16},
        }


def _refusal(fault: Fault | None, body: Mapping[str, Any]) -> web.Response | None:
    """An answer with an error status, in vLLM's words; None where the fault is no such one."""
    status, kind, message = {
        Fault.REFUSING: (503, "ServiceUnavailableError", "no model"),
        Fault.BUSY: (429, "TooManyRequestsError", "too many requests"),
        Fault.SERVER_ERROR: (500, "InternalServerError", "EngineCore encountered an issue."),
        Fault.RENAMED: (404, "NotFoundError", f"The model `{body.get('model')}` does not exist."),
        Fault.NO_TOOL_PARSER: (
            400,
            "BadRequestError",
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        ),
    }.get(fault, (0, "", ""))  # type: ignore[arg-type]
    if not status or (fault is Fault.NO_TOOL_PARSER and "tools" not in body):
        return None
    return _error(status, kind, message)


def _error(status: int, kind: str, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": kind, "code": status}}, status=status)


def _spoken(text: str) -> list[dict[str, Any]]:
    words = text.split(" ")
    return [{"content": words[0]}, *({"content": f" {word}"} for word in words[1:])]


def _called(text: str) -> list[dict[str, Any]]:
    """A plan in JSON as vLLM streams it with a tool parser: words first, then each call's name and pieces of its
    arguments. Text that is no such plan stays text."""
    try:
        plan = json.loads(text)
        calls, reason = plan["calls"], plan["reason"]
    except (ValueError, TypeError, KeyError):
        return _spoken(text)
    deltas = _spoken(reason) if reason or not calls else []
    for index, call in enumerate(calls):
        name = re.sub(r"[^a-zA-Z0-9_-]", "_", call["tool"])
        start = {"index": index, "id": f"call-{index}", "type": "function", "function": {"name": name}}
        deltas.append({"tool_calls": [start]})
        arguments = json.dumps(call["arguments"])
        for position in range(0, len(arguments), 7):
            piece = {"index": index, "function": {"arguments": arguments[position : position + 7]}}
            deltas.append({"tool_calls": [piece]})
    return deltas
