"""The offline engine in a real server's place: while it is killed in the middle of an answer, away, and back again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from inference.breaker import CircuitBreaker
from inference.embeddings import OnnxEmbedder
from inference.handover import AWAY, INTERRUPTED, Engine
from inference.model import Facts, ModelUnavailable
from inference.offline import OfflineEngine
from inference.prepare import prepare
from inference.purpose import Endpoint
from inference.remote_embeddings import RemoteEmbedder
from inference.tier import Tier
from inference.vllm import MOST_TOKENS, VllmModel
from tests.model_server.serving import LONG, Serving

STORY = "tell me a long story"
BACK = 30.0
"""Seconds in which a server that runs again has to be asked again."""
EMBEDDINGS = Path(__file__).parents[2] / ".countersign" / "models" / "minilm"


@pytest.fixture
async def engine(server: Serving) -> AsyncIterator[Engine]:
    embedder = OnnxEmbedder(prepare(EMBEDDINGS, print))
    tier = Tier(
        VllmModel(server.url, server.model),
        Endpoint("127.0.0.1/tiny", inside=True, receives="nothing"),
        breaker=CircuitBreaker(failures=1, cool_down=timedelta(seconds=0.2)),
    )
    engine = Engine(OfflineEngine(embedder), tier)
    yield engine
    await engine.close()
    await embedder.close()
    if not server.runs:
        # The tests that come after this one need it, whatever has become of this one.
        server.start()


async def test_a_server_killed_in_the_middle_of_an_answer_is_replaced_until_it_is_back(
    server: Serving, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else all of it has arrived before the first piece is looked at.
    monkeypatch.setitem(MOST_TOKENS, "reply", LONG)
    async with engine.reply(STORY, Facts()) as reply:
        pieces: list[str] = []
        async for piece in reply:
            if not pieces:
                server.kill()
            pieces.append(piece)
    assert (reply.engine, reply.degraded) == ("tiny", INTERRUPTED)
    assert INTERRUPTED in pieces[-1]

    started = time.monotonic()
    async with engine.reply("hello", Facts()) as reply:
        assert await reply.text()
    assert (reply.engine, reply.degraded, engine.state) == ("offline engine", AWAY, "away")
    assert time.monotonic() - started < 1

    server.start()
    async with asyncio.timeout(BACK):
        while engine.state == "away":
            await server.metrics()
    async with engine.reply("hello", Facts()) as reply:
        assert await reply.text()
    assert (reply.engine, reply.degraded) == ("tiny", None)


async def test_a_server_that_makes_no_embeddings_is_an_honest_error(server: Serving) -> None:
    embedder = RemoteEmbedder(f"{server.url}/v1", server.model)
    with pytest.raises(ModelUnavailable, match="embedding"):
        await embedder.prepare()
    await embedder.close()
