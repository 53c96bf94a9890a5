"""Asks a process of ours over HTTP whether it is ready, with nothing but asyncio, so that `up` starts at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

LONGEST_ANSWER = 65536
"""Bytes of an answer that are read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from the address."""

    status: int
    body: str


@dataclass(frozen=True, slots=True)
class Address:
    """A plain HTTP address of this machine."""

    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> Address:
        """Take an `http://host:port/path` URL apart; raises ValueError for any other."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url} is no http:// address")
        return cls(host=parts.hostname, port=parts.port or 80, path=parts.path or "/")


async def get(address: Address, *, limit: timedelta = timedelta(seconds=2)) -> Answer | None:
    """Return the answer to one GET, or None when nobody answers HTTP there within the limit."""
    request = f"GET {address.path} HTTP/1.1\r\nHost: {address.host}:{address.port}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(limit.total_seconds()):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            try:
                writer.write(request.encode())
                answer = await _all(reader)
            finally:
                writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return Answer(status=int(head.split(None, 2)[1]), body=body.decode(errors="replace").strip())
    except (OSError, TimeoutError, IndexError, ValueError):
        return None


async def listens(address: Address, *, limit: timedelta = timedelta(seconds=2)) -> bool:
    """Tell whether something accepts connections there."""
    try:
        async with asyncio.timeout(limit.total_seconds()):
            _reader, writer = await asyncio.open_connection(address.host, address.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _all(reader: asyncio.StreamReader) -> bytes:
    data = b""
    while len(data) < LONGEST_ANSWER and (chunk := await reader.read(LONGEST_ANSWER)):
        data += chunk
    return data
