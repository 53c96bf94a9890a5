"""What is sent to one server goes to no other: neither a model's nor an embedder's client follows a redirect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from inference.limits import ModelLimits
from inference.model import Facts, ModelUnavailable, Utterance
from inference.remote_embeddings import RemoteEmbedder
from inference.vllm import VllmModel


class Elsewhere:
    """A server that sends everybody on to another, and what reached that one."""

    def __init__(self) -> None:
        self.reached: list[str] = []
        self.url = ""

    async def lead_away(self, request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(f"/elsewhere{request.path}")

    async def take(self, request: web.Request) -> web.Response:
        self.reached.append(await request.text())
        return web.json_response({"data": []})


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    found = Elsewhere()
    app = web.Application()
    app.router.add_route("*", "/v1/{path:.*}", found.lead_away)
    app.router.add_route("*", "/elsewhere/{path:.*}", found.take)
    server = TestServer(app)
    await server.start_server()
    found.url = str(server.make_url("/v1"))
    yield found
    await server.close()


async def test_a_model_is_not_asked_elsewhere(elsewhere: Elsewhere) -> None:
    model = VllmModel(elsewhere.url, "tiny", "key", ModelLimits())
    with pytest.raises(ModelUnavailable, match="307"):
        await model.summarise([Utterance("1", "Ana", "The release moves.", datetime(2026, 3, 2, tzinfo=UTC))])
    with pytest.raises(ModelUnavailable, match="307"):
        async for _ in model.reply("Hello", Facts()):
            pass
    await model.close()
    assert elsewhere.reached == []


async def test_texts_are_not_embedded_elsewhere(elsewhere: Elsewhere) -> None:
    embedder = RemoteEmbedder(elsewhere.url, "minilm", "key")
    with pytest.raises(ModelUnavailable, match="307"):
        await embedder.embed(["The release moves."])
    await embedder.close()
    assert elsewhere.reached == []
