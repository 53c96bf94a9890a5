"""One client under measurement, in a process of its own: streams in parallel, one request after the other on each.

python benchmarks/stream_clients.py CLIENT URL STREAMS REQUESTS SPREAD MODEL

Prints one line of JSON. Runs under the product's interpreter or the peers', so it imports each client only when asked
for it, and nothing of the benchmark's.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

WORDS = "What did we decide about the release, and who told the customers?"
SYSTEM = "You are Countersign, an assistant at work. You answer people in chat: short, concrete, in their language."
CLIENT_CPU = 1
KEY = os.environ["STREAMING_BENCHMARK_KEY"]
"""What every server of the benchmark takes; the LiteLLM proxy does not start without one."""

Stream = Callable[[], AsyncIterator[str]]
"""Starts one request and gives the pieces of its answer."""


async def bare(url: str, streams: int, model_name: str) -> tuple[Stream, Callable[[], Awaitable[None]]]:
    """The least that reads a stream: aiohttp for HTTP, orjson for JSON, no limits, no checks, no usage."""
    import aiohttp
    import orjson

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=streams))
    body = {
        "model": model_name,
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": WORDS}],
        "stream": True,
    }

    async def stream() -> AsyncIterator[str]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        async with session.post(f"{url}/v1/chat/completions", data=orjson.dumps(body), headers=headers) as response:
            assert response.status == 200, await response.text()
            pending = b""
            async for chunk in response.content.iter_any():
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    if line.startswith(b"data: {"):
                        choices = orjson.loads(line[6:])["choices"]
                        if choices and (content := choices[0]["delta"].get("content")):
                            yield content

    return stream, session.close


async def countersign(url: str, streams: int, model_name: str) -> tuple[Stream, Callable[[], Awaitable[None]]]:
    """The product's client as the product uses it: prompt rendered, limits, checks, trace, salt and usage included."""
    from inference.model import Facts
    from inference.purpose import Purpose
    from inference.vllm import VllmModel

    model = VllmModel(url, model_name, KEY, salt_key=bytes(32), connections=streams)
    facts = Facts(skills=("Close a ticket. For example: close TCK-12", "Draft a reply. For example: draft a reply"))

    async def stream() -> AsyncIterator[str]:
        async for piece in model.on_behalf_of(Purpose(tenant="T1", request_id="turn-1")).reply(WORDS, facts):
            yield piece

    return stream, model.close


async def openai(url: str, streams: int, model_name: str) -> tuple[Stream, Callable[[], Awaitable[None]]]:
    """OpenAI's own client."""
    from openai import AsyncOpenAI  # type: ignore[import-not-found]

    client = AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)

    async def stream() -> AsyncIterator[str]:
        chunks: Any = await client.chat.completions.create(
            model=model_name,
            messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": WORDS}],
            stream=True,
        )
        async for chunk in chunks:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content

    return stream, client.close


CLIENTS = {"bare": bare, "countersign": countersign, "openai": openai}


async def measured(client: str, url: str, streams: int, requests: int, spread: float, model: str) -> dict[str, Any]:
    """Times to first token in ms, and the CPU seconds of this process for all the tokens.

    The streams begin over `spread` seconds, so that a request starts while the others are being read.
    """
    stream, close = await CLIENTS[client](url, streams, model)
    first: list[float] = []
    tokens = 0

    async def one(counts: bool) -> None:
        nonlocal tokens
        started = time.perf_counter()
        begun = 0.0
        async for _ in stream():
            begun = begun or time.perf_counter()
            tokens += counts
        if counts:
            first.append((begun - started) * 1000)

    async def many(position: int) -> None:
        await asyncio.sleep(position * spread / streams)
        for _ in range(requests):
            await one(True)

    await asyncio.gather(*(one(False) for _ in range(streams)))
    gc.collect()
    gc.freeze()
    processor, clock = time.process_time(), time.perf_counter()
    await asyncio.gather(*(many(position) for position in range(streams)))
    found = {
        "first_ms": first,
        "tokens": tokens,
        "cpu_s": time.process_time() - processor,
        "wall_s": time.perf_counter() - clock,
    }
    await close()
    return found


def main() -> None:
    """Measure and print."""
    with suppress(AttributeError, OSError):
        os.sched_setaffinity(0, {CLIENT_CPU})
    client, url, streams, requests, spread, model = sys.argv[1:]
    print(json.dumps(asyncio.run(measured(client, url, int(streams), int(requests), float(spread), model))))


if __name__ == "__main__":
    main()
