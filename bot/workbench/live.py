"""Tells an open page what changed, as server-sent events; what it changed to, the page then asks for.

The platforms and the trace are watched only while a page is connected. The stream ends when the page goes away or
when `LiveStreams.close` is called, so that an open page cannot hold up the end of the process.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import structlog

from bot.workbench.platform import LocalPlatform
from records.trace import TraceEntry

ReadTrace = Callable[[int, int], Awaitable[list[TraceEntry]]]
"""`read_trace(after, limit)`: entries with an id above `after`, oldest first; with 0, the newest of all."""

TRACE_EVERY = timedelta(milliseconds=500)
HEARTBEAT_EVERY = timedelta(seconds=10)
"""Often enough for a page to notice within seconds that a machine went to sleep."""

_TRACE_PAGE = 200

logger = structlog.get_logger(__name__)


class LiveStreams:
    """The open pages' event streams."""

    def __init__(self, platforms: Sequence[LocalPlatform], read_trace: ReadTrace) -> None:
        self._platforms = platforms
        self._read_trace = read_trace
        self._closed = asyncio.Event()

    def close(self) -> None:
        """End every stream; a page that is still there reconnects, or says that the server is away."""
        self._closed.set()

    async def events(self, after: int) -> AsyncIterator[str]:
        """Server-sent events for one page that has the trace up to entry `after`.

        `room` carries `{"platform", "room"}`, `modal` `{"platform"}`, `trace` `{"last"}`; comments keep it alive.
        """
        queue: asyncio.Queue[str] = asyncio.Queue()
        watchers = [
            asyncio.create_task(work)
            for work in (
                *(_watch_platform(platform, queue) for platform in self._platforms),
                self._watch_trace(after, queue),
            )
        ]
        closing = asyncio.create_task(self._closed.wait())
        waiting = asyncio.create_task(queue.get())
        try:
            yield _event("hello", {})
            while True:
                done, _ = await asyncio.wait(
                    (waiting, closing, *watchers),
                    timeout=HEARTBEAT_EVERY.total_seconds(),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if waiting in done:
                    yield waiting.result()
                    waiting = asyncio.create_task(queue.get())
                elif done:
                    break
                else:
                    yield ": still here\n\n"
        finally:
            for task in (waiting, closing, *watchers):
                task.cancel()
            await _report_failures(watchers)

    async def _watch_trace(self, last: int, queue: asyncio.Queue[str]) -> None:
        while True:
            try:
                entries = await self._read_trace(last, _TRACE_PAGE)
            except Exception:
                # A busy database must not end the page's stream; the next look may go well.
                logger.warning("workbench_trace_unreadable", exc_info=True)
                entries = []
            if entries:
                last = entries[-1].id
                queue.put_nowait(_event("trace", {"last": last}))
            await asyncio.sleep(TRACE_EVERY.total_seconds())


async def _watch_platform(platform: LocalPlatform, queue: asyncio.Queue[str]) -> None:
    async for changed in platform.changes():
        if changed == "modal":
            queue.put_nowait(_event("modal", {"platform": platform.name}))
        else:
            queue.put_nowait(_event("room", {"platform": platform.name, "room": changed}))


async def _report_failures(watchers: Sequence[asyncio.Task[None]]) -> None:
    """Log what ended a stream early; the page reconnects by itself."""
    for outcome in await asyncio.gather(*watchers, return_exceptions=True):
        if isinstance(outcome, Exception):
            logger.error("workbench_watch_failed", exc_info=outcome)


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
