"""The embedding process over HTTP: the same vectors as in the web process, and bounds that say so."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
import pytest
import uvicorn

from bot.embedding_server import ALIAS, EmbeddingBounds, EmbeddingServer, build_config
from bot.model_settings import load_model_settings
from bot.models import build_embedder
from inference.breaker import CircuitBreaker
from inference.embeddings import OnnxEmbedder
from inference.model import ModelUnavailable
from inference.prepare import prepare
from inference.remote_embeddings import RemoteEmbedder

TEXTS = ["close TCK-12", "", "Können wir das Ticket schließen? 🎉", "word " * 400, "close TCK-12"]


@pytest.fixture(scope="module")
def model_dir() -> Path:
    return prepare(Path(__file__).parents[2] / ".countersign" / "models" / "minilm", print)


@asynccontextmanager
async def running(config: uvicorn.Config) -> AsyncIterator[str]:
    """A real server on a free port; gives its address."""
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done()
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving


@pytest.fixture
async def url(model_dir: Path) -> AsyncIterator[str]:
    async with running(build_config(OnnxEmbedder(model_dir), "127.0.0.1", 0)) as url:
        yield url


async def test_vectors_and_version_are_exactly_those_of_the_model_in_the_process(url: str, model_dir: Path) -> None:
    own, remote = OnnxEmbedder(model_dir), RemoteEmbedder(f"{url}/v1", ALIAS)
    await remote.prepare()
    assert remote.version == own.version
    assert np.array_equal(await remote.embed(TEXTS), await own.embed(TEXTS))
    await remote.close()
    await own.close()


async def test_both_encodings_and_both_names_give_the_same_vectors(url: str, model_dir: Path) -> None:
    digest = OnnxEmbedder(model_dir).version
    async with aiohttp.ClientSession() as client:
        async with client.get(f"{url}/v1/models") as answer:
            assert [model["id"] for model in (await answer.json())["data"]] == [digest, ALIAS]
        bodies: list[dict[str, Any]] = [
            {"model": digest, "input": "hello"},
            {"model": ALIAS, "input": ["hello"], "encoding_format": "float"},
        ]
        vectors = []
        for body in bodies:
            async with client.post(f"{url}/v1/embeddings", json=body) as answer:
                content = await answer.json()
                assert content["model"] == digest
                vectors.append(content["data"][0]["embedding"])
        assert vectors[0] == vectors[1]
        async with client.get(f"{url}/health") as answer:
            assert (await answer.json())["ready"] is True


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "other", "input": "x"}, 404, "model_not_found"),
        ({"model": ALIAS, "input": ["x"] * 129}, 400, "too_many_texts"),
        ({"model": ALIAS, "input": "x" * 20_001}, 400, "text_too_long"),
        ({"model": ALIAS, "input": "x" * 2_000_000}, 413, "too_long"),
        ({"model": ALIAS, "input": []}, 400, "invalid"),
        ({"model": ALIAS, "input": [1, 2]}, 400, "invalid"),
        ({"input": "secret text"}, 400, "invalid"),
    ],
)
async def test_what_it_does_not_take_is_an_error_as_openai_shapes_it(
    url: str, body: dict[str, Any], status: int, code: str
) -> None:
    async with aiohttp.ClientSession() as client, client.post(f"{url}/v1/embeddings", json=body) as answer:
        assert answer.status == status
        error = (await answer.json())["error"]
        assert error["code"] == code
        assert error["type"] == "invalid_request_error"
        assert "secret text" not in error["message"]


class Held:
    """An embedder that answers when it is let."""

    version = "held"

    def __init__(self) -> None:
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.set()
        await self.go_on.wait()
        return np.ones((len(texts), 3), dtype=np.float32)


async def test_a_full_queue_says_when_to_come_again_and_takes_texts_once_it_is_empty() -> None:
    held = Held()
    app = EmbeddingServer(held, EmbeddingBounds(waiting=3)).app
    async with running(uvicorn.Config(app, port=0, log_config=None)) as url, aiohttp.ClientSession() as client:

        async def ask(count: int) -> tuple[int, str | None]:
            body = {"model": ALIAS, "input": ["x"] * count}
            async with client.post(f"{url}/v1/embeddings", json=body) as answer:
                return answer.status, answer.headers.get("Retry-After")

        first = asyncio.create_task(ask(2))
        await held.asked.wait()
        assert await ask(2) == (429, "1")
        held.go_on.set()
        assert await first == (200, None)
        assert await ask(3) == (200, None)


async def test_with_a_key_only_who_brings_it_is_answered() -> None:
    held = Held()
    held.go_on.set()
    app = EmbeddingServer(held, api_key="sesame").app
    async with running(uvicorn.Config(app, port=0, log_config=None)) as url, aiohttp.ClientSession() as client:
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer no"}, 401),
            ({"Authorization": "Bearer sesame"}, 200),
        ):
            body = {"model": ALIAS, "input": "x"}
            async with client.post(f"{url}/v1/embeddings", json=body, headers=headers) as answer:
                assert answer.status == status


async def test_the_product_brings_the_key_of_its_settings(model_dir: Path, tmp_path: Path) -> None:
    embedder = OnnxEmbedder(model_dir)
    async with running(build_config(embedder, "127.0.0.1", 0, api_key="sesame")) as url:
        variables = {"EMBEDDINGS_URL": url, "EMBEDDINGS_MODEL": ALIAS, "EMBEDDINGS_API_KEY": "sesame"}
        with_key = build_embedder(load_model_settings(variables), tmp_path, model_dir)
        without = build_embedder(load_model_settings({**variables, "EMBEDDINGS_API_KEY": ""}), tmp_path, model_dir)
        assert (await with_key.embed(["hello"])).shape == (1, 384)
        with pytest.raises(ModelUnavailable):
            await without.embed(["hello"])
        await with_key.close()
        await without.close()


def test_the_command_serves_the_products_own_encoder_and_loads_little_to_do_so() -> None:
    from bot.app import MODEL_FOLDER
    from bot.commands.embed import SHIPPED_MODEL

    assert SHIPPED_MODEL == MODEL_FOLDER


async def test_the_command_answers_until_it_is_told_to_stop(model_dir: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bot.cli", "embed", "--port", str(port), "--data", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(*command, cwd=Path(__file__).parents[2])
    remote = RemoteEmbedder(f"http://127.0.0.1:{port}/v1", ALIAS, breaker=CircuitBreaker(failures=10_000))
    async with asyncio.timeout(60):
        while True:
            try:
                await remote.prepare()
                break
            except ModelUnavailable:
                assert process.returncode is None
                await asyncio.sleep(0.05)
    resident = psutil.Process(process.pid).memory_info().rss
    assert remote.version == OnnxEmbedder(model_dir).version
    await remote.close()
    process.send_signal(signal.SIGTERM)
    assert await process.wait() in (0, -signal.SIGTERM)
    assert resident < 200 * 2**20
