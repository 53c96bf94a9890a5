"""The load: raw HTTP/1.1 over kept connections, cheap enough that the server is what is measured.

Closed loop: each connection sends its next request when the last is answered; shows the peak.
Open loop: requests go out at Poisson moments whatever the server does, and their time counts from the moment they were
due, so that a stall is seen by all that it delays.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from benchmarks.traffic import MakeRequest

OPEN_CONNECTIONS = 64
PATIENCE_S = 30.0
_TICK_S = 0.0005


@dataclass(frozen=True, slots=True)
class Result:
    """What one measurement found; times in milliseconds."""

    per_second: float
    p50: float
    p99: float
    longest: float
    answers: int


class ServerRefused(Exception):
    """The server under load answered something other than 200."""


class _Connection(asyncio.Protocol):
    def __init__(self, answered: Callable[[_Connection], None]) -> None:
        self._answered = answered
        self._received = b""
        self.since = 0.0
        self.problem: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.problem = self.problem or "the connection was closed"

    def send(self, request: bytes, since: float) -> None:
        self.since = since
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        lowered = head.lower()
        if b"transfer-encoding: chunked" in lowered:
            if not body.endswith(b"0\r\n\r\n"):
                return
        else:
            _, _, length = lowered.partition(b"content-length:")
            if length and len(body) < int(length.split(b"\r\n", 1)[0]):
                return
        self._received = b""
        if b" 200 " not in head[:16]:
            self.problem = head[:40].decode("latin-1")
        self._answered(self)


async def closed_loop(port: int, make: MakeRequest, *, connections: int, seconds: float) -> Result:
    """As many requests as the server answers, `connections` at a time. Raises ServerRefused."""
    times: list[float] = []
    ended = asyncio.Event()
    open_now = connections
    end = time.perf_counter() + seconds

    def answered(connection: _Connection) -> None:
        nonlocal open_now
        now = time.perf_counter()
        times.append(now - connection.since)
        if now < end and connection.problem is None:
            connection.send(make(), time.perf_counter())
            return
        open_now -= 1
        if open_now == 0:
            ended.set()

    sockets = await _connect(port, connections, answered)
    begin = time.perf_counter()
    for connection in sockets:
        connection.send(make(), time.perf_counter())
    with _without_collector():
        await asyncio.wait_for(ended.wait(), seconds + PATIENCE_S)
    return _result(times, time.perf_counter() - begin, sockets)


async def open_loop(port: int, make: MakeRequest, *, rate: float, seconds: float) -> Result:
    """`rate` requests a second, whether they are answered or not. Raises ServerRefused."""
    gaps = random.Random(1)
    times: list[float] = []
    free: deque[_Connection] = deque()
    late: deque[float] = deque()
    outstanding = 0
    sent_all = False
    quiet = asyncio.Event()

    def answered(connection: _Connection) -> None:
        nonlocal outstanding
        outstanding -= 1
        times.append(time.perf_counter() - connection.since)
        if connection.problem is None and late:
            send(connection, late.popleft())
        else:
            free.append(connection)
        if not outstanding and sent_all:
            quiet.set()

    def send(connection: _Connection, since: float) -> None:
        nonlocal outstanding
        outstanding += 1
        connection.send(make(), since)

    sockets = await _connect(port, OPEN_CONNECTIONS, answered)
    free.extend(sockets)
    with _without_collector():
        begin = due = time.perf_counter()
        while due < begin + seconds:
            while due <= time.perf_counter():
                if free:
                    send(free.popleft(), due)
                else:
                    late.append(due)
                due += gaps.expovariate(rate)
            await asyncio.sleep(_TICK_S)
        sent_all = True
        if not outstanding:
            quiet.set()
        async with asyncio.timeout(PATIENCE_S):
            await quiet.wait()
    return _result(times, time.perf_counter() - begin, sockets)


async def _connect(port: int, connections: int, answered: Callable[[_Connection], None]) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: _Connection(answered), "127.0.0.1", port) for _ in range(connections)]
    return [connection for _, connection in made]


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """The load's own garbage collections would count as the server's slowness."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _result(times: list[float], seconds: float, sockets: list[_Connection]) -> Result:
    for connection in sockets:
        if connection.problem is not None:
            raise ServerRefused(connection.problem)
        connection.transport.close()
    times.sort()
    return Result(
        per_second=len(times) / seconds,
        p50=times[len(times) // 2] * 1000,
        p99=times[int(len(times) * 0.99)] * 1000,
        longest=times[-1] * 1000,
        answers=len(times),
    )
