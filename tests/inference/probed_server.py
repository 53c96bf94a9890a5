"""A model server for the probe's tests that does all that is asked of it; attributes take something away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from aiohttp import web

from inference.probe_requests import PLAIN_REQUESTS

OUTLINED = json.dumps({"colour": "gamboge", "chapters": ["tide", "storm"]})
RIGHT_CALLS = {words: (tool.replace(".", "_"), arguments) for words, tool, arguments in PLAIN_REQUESTS}


MODELS = {"data": [{"id": "good", "max_model_len": 16384}]}


class GoodServer:
    """A model server that does all that is asked; subclasses and attributes take something away."""

    models: Any = MODELS
    status = 200
    key: str | None = None
    refuses: Mapping[str, str] = MappingProxyType({})
    """Fields of a request that it answers with 400, and its words."""
    outlined = OUTLINED
    calls: Mapping[str, tuple[str, dict[str, str]]] = RIGHT_CALLS
    caches = True
    tells_cached = True
    has_metrics = True
    stops = True

    def __init__(self) -> None:
        self.running = 0
        self.hits = 0
        self.asked: list[dict[str, Any]] = []
        self.url = ""

    async def listen(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/v1/chat/completions", self.complete)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _models(self, request: web.Request) -> web.StreamResponse:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.Response(status=401)
        if isinstance(self.models, str):
            return web.Response(status=self.status, text=self.models)
        return web.json_response(self.models, status=self.status)

    async def _metrics(self, request: web.Request) -> web.Response:
        if not self.has_metrics:
            return web.Response(status=404)
        return web.Response(
            text=f'vllm:num_requests_running{{engine="0"}} {self.running}\nvllm:prefix_cache_hits_total {self.hits}\n'
        )

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        refused = next((said for field, said in self.refuses.items() if field in body), None)
        if refused is not None:
            return web.json_response({"error": {"message": refused}}, status=400)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self.running += 1
        try:
            await self._stream(response, body)
        except (asyncio.CancelledError, ConnectionError):
            self.running += not self.stops
            raise
        finally:
            self.running -= 1
        return response

    async def _stream(self, response: web.StreamResponse, body: dict[str, Any]) -> None:
        async def send(delta: Mapping[str, Any], finish: str | None = None) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            await response.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")

        seen_before = body["messages"] in self.asked
        self.asked.append(body["messages"])
        self.hits += 500 * (seen_before and self.caches)
        await self._answer(body, send)
        usage: dict[str, Any] = {"prompt_tokens": 600, "completion_tokens": 20}
        if self.tells_cached:
            usage["prompt_tokens_details"] = {"cached_tokens": 500 if seen_before and self.caches else 0}
        await response.write(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n")

    async def _answer(self, body: dict[str, Any], send: Callable[..., Awaitable[None]]) -> None:
        if body["max_tokens"] > 1000:
            while True:
                await send({"content": "on "})
                await asyncio.sleep(0.001)
        if "tools" in body:
            asked = body["messages"][-1]["content"]
            found = next((call for words, call in self.calls.items() if json.dumps(words) in asked), None)
            if found is None:
                return await send({"content": "none"}, "stop")
            function = {"name": found[0], "arguments": json.dumps(found[1])}
            return await send({"tool_calls": [{"index": 0, "id": "c", "function": function}]}, "tool_calls")
        for piece in [self.outlined] if "response_format" in body else [f"{number} " for number in range(20)]:
            await send({"content": piece})
            await asyncio.sleep(0.0005)
        return await send({}, "stop")
