"""A model server that streams fixed tokens at a fixed pace, for next to nothing: clients are what is measured.

python -m benchmarks.stream_server PORT

The path says how much: `/tokens-200/pace-20/v1/chat/completions` is 200 tokens, the first at once and then one every
20 ms, each in a chunk of its own, as vLLM sends them, with the usage at the end.
"""

from __future__ import annotations

import asyncio
import re
import sys

from benchmarks.machine import SERVER_CPU, pin

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_PATH = re.compile(rb"/tokens-(\d+)/pace-(\d+)/")
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _event(rest: str) -> bytes:
    data = (
        'data: {"id":"chatcmpl-8f14e45fceea167a5a36dedd4bea2543","object":"chat.completion.chunk",'
        f'"created":1760000000,"model":"fixed",{rest}}}\n\n'
    ).encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


def _choice(delta: str, finish: str = "null") -> bytes:
    return _event(f'"choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]')


_OPENING = _choice('{"role":"assistant","content":""}')
_TOKEN = _choice('{"content":" word"}')
_END = _choice("{}", '"stop"')
_DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length, path = _LENGTH.search(head), _PATH.search(head)
            if length:
                await reader.readexactly(int(length[1]))
            if path is None:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                continue
            tokens, pace = int(path[1]), int(path[2]) / 1000
            writer.write(_HEAD + _OPENING + _TOKEN)
            due = asyncio.get_running_loop().time()
            for _ in range(tokens - 1):
                due += pace
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                writer.write(_TOKEN)
            usage = f'{{"prompt_tokens":100,"completion_tokens":{tokens},"total_tokens":{100 + tokens}}}'
            writer.write(_END + _event(f'"choices":[],"usage":{usage}') + _DONE)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    """Serve until killed."""
    pin(SERVER_CPU)
    server = await asyncio.start_server(_serve, "127.0.0.1", int(sys.argv[1]), backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
