"""Embeddings from another server: together in few requests, of one model only, and honest when it is away."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from inference.breaker import CircuitBreaker
from inference.model import ModelUnavailable
from inference.remote_embeddings import PROBES, TEXTS_A_REQUEST, EmbeddingLimits, RemoteEmbedder

Answer = Callable[[list[str]], Awaitable[web.StreamResponse]]


def vector_of(text: str, *, dimensions: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *text.encode()]).normal(size=dimensions).astype(np.float32) * 3


class Server:
    """Another vendor's embedding server, that does what it is told."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.authorizations: list[str | None] = []
        self.answer: Answer = self.well
        self.dimensions, self.seed = 8, 0
        self.base64 = False
        self.has_models_page = True
        self.transports: set[asyncio.Transport] = set()

    async def well(self, texts: list[str]) -> web.StreamResponse:
        vectors = [vector_of(text, dimensions=self.dimensions, seed=self.seed) for text in texts]
        data: list[dict[str, Any]] = [
            {
                "index": place,
                "embedding": base64.b64encode(vector.tobytes()).decode() if self.base64 else vector.tolist(),
            }
            for place, vector in enumerate(vectors)
        ]
        return web.json_response({"data": data[::-1], "model": "m"})

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        assert isinstance(request.transport, asyncio.Transport)
        self.transports.add(request.transport)
        self.authorizations.append(request.headers.get("Authorization"))
        body = await request.json()
        self.requests.append(body["input"])
        return await self.answer(body["input"])

    async def models(self, request: web.Request) -> web.StreamResponse:
        if not self.has_models_page:
            raise web.HTTPNotFound
        return web.json_response({"data": [{"id": "m", "owned_by": "somebody", "root": "/weights"}]})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        app = web.Application()
        app.add_routes([web.post("/v1/embeddings", self.embeddings), web.get("/v1/models", self.models)])
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            await runner.cleanup()


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def url(server: Server) -> AsyncIterator[str]:
    async with server.running() as url:
        yield url


@pytest.fixture
async def remote(url: str) -> AsyncIterator[RemoteEmbedder]:
    limits = EmbeddingLimits(total=timedelta(seconds=0.5))
    remote = RemoteEmbedder(url, "m", "a key", limits=limits, breaker=CircuitBreaker(failures=50))
    yield remote
    await remote.close()


@pytest.mark.parametrize("as_base64", [False, True])
async def test_vectors_are_normalised_and_in_the_order_of_the_texts(
    server: Server, remote: RemoteEmbedder, as_base64: bool
) -> None:
    server.base64 = as_base64
    vectors = await remote.embed(["one", "two", "one"])
    assert vectors.dtype == np.float32
    for vector, text in zip(vectors, ["one", "two", "one"], strict=True):
        expected = vector_of(text)
        assert np.allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)
    assert (await remote.embed([])).shape == (0, 8)
    assert remote.dimensions == 8
    assert set(server.authorizations) == {"Bearer a key"}


async def test_what_waits_while_a_request_is_under_way_goes_together(server: Server, remote: RemoteEmbedder) -> None:
    await remote.prepare()
    server.requests.clear()
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def held(texts: list[str]) -> web.StreamResponse:
        arrived.set()
        await go_on.wait()
        return await server.well(texts)

    server.answer = held
    first = asyncio.create_task(remote.embed(["first"]))
    await arrived.wait()
    long = asyncio.create_task(remote.embed([f"part {number}" for number in range(100)]))
    others = [asyncio.create_task(remote.embed(["same", f"own {number}"])) for number in range(20)]
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(first, long, *others)
    assert [len(texts) for texts in server.requests] == [1, TEXTS_A_REQUEST, 1 + 100 + 20 - TEXTS_A_REQUEST]
    assert {"same", *(f"own {number}" for number in range(20))} <= set(server.requests[1])


async def test_a_text_that_was_embedded_is_not_sent_again(server: Server, remote: RemoteEmbedder) -> None:
    await remote.embed(["one"])
    sent = len(server.requests)
    await remote.embed(["one"])
    assert len(server.requests) == sent


async def test_the_version_is_the_same_for_the_same_model_and_another_for_another(server: Server, url: str) -> None:
    versions = []
    for seed, models_page in ((0, True), (0, False), (1, True)):
        server.seed, server.has_models_page = seed, models_page
        remote = RemoteEmbedder(url, "m")
        with pytest.raises(ModelUnavailable, match="not known yet"):
            _ = remote.version
        await remote.prepare()
        versions.append(remote.version)
        await remote.close()
    assert versions[0] == versions[1] != versions[2]
    assert versions[0].startswith("m@")


async def test_a_server_that_changes_its_model_is_learnt_anew_before_another_vector_is_given(
    server: Server, remote: RemoteEmbedder
) -> None:
    await remote.embed(["one"])
    before = remote.version
    server.dimensions, server.seed = 12, 1
    with pytest.raises(ModelUnavailable, match="changed its model"):
        await remote.embed(["two"])
    assert (await remote.embed(["one"])).shape == (1, 12)
    assert remote.version != before


async def test_a_text_that_the_server_refuses_fails_its_own_caller_only(server: Server, remote: RemoteEmbedder) -> None:
    await remote.prepare()

    async def picky(texts: list[str]) -> web.StreamResponse:
        return web.json_response({"error": {}}, status=400) if "bad" in texts else await server.well(texts)

    server.answer = picky
    outcomes = await asyncio.gather(
        *(remote.embed([text]) for text in ("good", "bad", "fine", "well")), return_exceptions=True
    )
    assert [isinstance(outcome, ModelUnavailable) for outcome in outcomes] == [False, True, False, False]
    assert "bad" not in str(outcomes[1])


async def _garbage(texts: list[str]) -> web.StreamResponse:
    return web.Response(body=b"<html>", content_type="text/html")


async def _too_few(texts: list[str]) -> web.StreamResponse:
    return web.json_response({"data": []})


async def _uneven(texts: list[str]) -> web.StreamResponse:
    return web.json_response({"data": [{"index": 0, "embedding": [[1.0], "x"]}]})


async def _not_finite(texts: list[str]) -> web.StreamResponse:
    return web.json_response({"data": [{"index": 0, "embedding": [0.0] * 8}]})


async def _busy(texts: list[str]) -> web.StreamResponse:
    return web.json_response({}, status=429, headers={"Retry-After": "1"})


async def _broken(texts: list[str]) -> web.StreamResponse:
    return web.json_response({}, status=500)


async def _renamed(texts: list[str]) -> web.StreamResponse:
    return web.json_response({}, status=404)


async def _silent(texts: list[str]) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


FAULTS = (_garbage, _too_few, _uneven, _not_finite, _busy, _broken, _renamed, _silent)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_each_fault_is_honest_within_its_limit_and_leaves_nothing_behind(
    server: Server, remote: RemoteEmbedder, fault: Answer
) -> None:
    await remote.prepare()
    server.answer = fault
    async with asyncio.timeout(5):
        with pytest.raises(ModelUnavailable):
            await remote.embed(["one"])
    server.answer = server.well
    assert (await remote.embed(["one"])).shape == (1, 8)


async def test_a_server_that_is_away_is_left_alone_after_a_few_tries() -> None:
    now = 0.0
    async with Server().running() as gone:
        pass
    remote = RemoteEmbedder(gone, "m", breaker=CircuitBreaker(clock=lambda: now))
    told = []
    for _ in range(5):
        with pytest.raises(ModelUnavailable) as failure:
            await remote.embed(["one"])
        told.append(str(failure.value))
    assert ["left alone" in text for text in told] == [False, False, False, True, True]
    await remote.close()


async def test_a_pooled_connection_that_the_server_gave_up_costs_nobody_an_answer(
    server: Server, remote: RemoteEmbedder
) -> None:
    await remote.prepare()

    async def hang_up_once(texts: list[str]) -> web.StreamResponse:
        server.answer = server.well
        for transport in server.transports:
            transport.abort()
        raise asyncio.CancelledError

    server.answer = hang_up_once
    assert (await remote.embed(["one"])).shape == (1, 8)


async def test_closing_refuses_who_waits(server: Server, remote: RemoteEmbedder) -> None:
    await remote.prepare()
    arrived = asyncio.Event()

    async def silent(texts: list[str]) -> web.StreamResponse:
        arrived.set()
        return await _silent(texts)

    server.answer = silent
    waiting = asyncio.create_task(remote.embed(["one"]))
    await arrived.wait()
    await remote.close()
    with pytest.raises(ModelUnavailable):
        await waiting
    assert PROBES[0] in server.requests[0]
