"""Records what a real server sends, byte for byte, for the tests that play it back without one.

    python -m tests.model_server.record

writes tests/doubles/wire/ anew, with a server of its own. Everything recorded comes from the tests' own model.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from bot.model_server_environment import ModelServerEnvironment
from bot.progress import Progress
from inference import tool_calls
from inference.probe_requests import OUTLINE, TOOLS
from tests.model_server.serving import LONG, Serving, tiny_model

FOLDER = Path(__file__).parents[1] / "doubles" / "wire"


def requests() -> dict[str, dict[str, Any]]:
    """What is recorded, by the name of its file."""
    named = tool_calls.tool_names(TOOLS)
    tools = {"tools": tool_calls.declarations(named, always_strict=True), "tool_choice": "auto"}
    agreed = {"type": "json_schema", "json_schema": {"name": "outline", "schema": OUTLINE, "strict": True}}
    return {
        "reply": _asked("hello", max_tokens=40),
        "cut-short": _asked("tell me a long story", max_tokens=12),
        "tool-call": _asked("Please close ticket TCK-48.", max_tokens=200, **tools),
        "no-tool-call": _asked("thanks, that is all", max_tokens=200, **tools),
        "structured": _asked("hello", max_tokens=200, response_format=agreed),
        "too-long": _asked("lamp door " * 20000, max_tokens=40),
        "unknown-model": _asked("hello", max_tokens=40) | {"model": "another"},
    }


def _asked(words: str, **body: Any) -> dict[str, Any]:
    common = {"model": "tiny", "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    return {**common, "messages": [{"role": "user", "content": words}], **body}


async def record(server: Serving) -> None:
    """Ask everything and write the bodies as they came; a refused request is no stream and ends in `.json`."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{server.url}/version") as answer:
            version = (await answer.json())["version"]
        for name, body in requests().items():
            status, sent = await _sent(session, server, body)
            (FOLDER / f"{name}.{'sse' if status == 200 else f'{status}.json'}").write_bytes(sent)
        (FOLDER / "aborted.sse").write_bytes(await _begun(session, server))
    (FOLDER / "README.md").write_text(
        f"What vLLM {version} sent to the requests in `tests/model_server/record.py`, byte for byte; `aborted.sse` is "
        "what had come when the server was killed. Made by `python -m tests.model_server.record`.\n"
    )


async def _sent(session: aiohttp.ClientSession, server: Serving, body: Mapping[str, Any]) -> tuple[int, bytes]:
    async with session.post(f"{server.url}/v1/chat/completions", json=body) as answer:
        return answer.status, await answer.read()


async def _begun(session: aiohttp.ClientSession, server: Serving) -> bytes:
    """The beginning of a long answer whose server is killed in the middle, to the last byte that arrived."""
    body = _asked("tell me a long story", max_tokens=LONG, ignore_eos=True)
    sent = b""
    with suppress(aiohttp.ClientError):
        async with session.post(f"{server.url}/v1/chat/completions", json=body) as answer:
            async for chunk, _ in answer.content.iter_chunks():
                if not sent:
                    server.kill()
                sent += chunk
    if b"[DONE]" in sent:
        raise RuntimeError("the answer ended before the server was killed")
    return sent


def main() -> None:
    """Record everything, with the environment that `./countersign test --model-server` uses."""
    environment = ModelServerEnvironment(FOLDER.parents[2])
    environment.provide(Progress(sys.stderr))
    model = tiny_model(environment.python, "trained")
    with (
        tempfile.TemporaryDirectory() as folder,
        Serving(environment.python, model, Path(folder, "log")) as server,
    ):
        asyncio.run(record(server))


if __name__ == "__main__":
    main()
