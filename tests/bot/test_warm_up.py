"""The web process loads its models after it is ready, and a model that cannot be loaded turns nobody away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import numpy as np

from bot.up import migrate
from bot.web import Web, build_server
from inference.model import ModelUnavailable
from tests.scenarios.house import House, until, write_people


class Held:
    """An embedder whose loading takes until it is let, and then works or not."""

    version = "held"

    def __init__(self, *, works: bool = True) -> None:
        self.warming, self.go_on, self.warm_now = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._works = works

    async def warm(self) -> None:
        self.warming.set()
        await self.go_on.wait()
        if not self._works:
            raise ModelUnavailable("not there")
        self.warm_now.set()

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        await self.warm()
        return np.ones((len(texts), 3), dtype=np.float32)

    async def close(self) -> None:
        pass


class Intents:
    """Prepared intents that note whether they were warmed."""

    def __init__(self) -> None:
        self.warm_now = asyncio.Event()

    async def warm(self) -> None:
        self.warm_now.set()

    async def close(self) -> None:
        pass


@asynccontextmanager
async def running(held: Held, intents: Intents) -> AsyncIterator[str]:
    """A real web process with these two; gives its address."""
    with TemporaryDirectory() as folder:
        house = House(Path(folder))
        write_people(house.data / "people.yaml")
        await house.start_redis()
        await asyncio.to_thread(migrate, house.settings())
        web = Web(house.settings())
        web.conversation.embedder = held
        web.conversation.intents = intents  # type: ignore[assignment]
        server = build_server(web)
        serving = asyncio.create_task(server._serve())
        await until(lambda: server.started)
        try:
            yield house.url
        finally:
            server.should_exit = True
            await serving
            house._children["redis"].kill()
            house._children["redis"].wait()


async def ready(url: str) -> int:
    async with aiohttp.ClientSession() as client, client.get(f"{url}/readyz") as answer:
        return answer.status


async def test_the_process_is_ready_while_its_models_are_still_loading() -> None:
    held, intents = Held(), Intents()
    async with running(held, intents) as url:
        await asyncio.wait_for(held.warming.wait(), 20)
        assert await ready(url) == 200
        assert not held.warm_now.is_set()
        held.go_on.set()
        await asyncio.wait_for(held.warm_now.wait(), 20)
        await asyncio.wait_for(intents.warm_now.wait(), 20)


async def test_a_model_that_cannot_be_loaded_stops_neither_the_process_nor_the_other_warm_ups() -> None:
    held, intents = Held(works=False), Intents()
    held.go_on.set()
    async with running(held, intents) as url:
        await asyncio.wait_for(intents.warm_now.wait(), 20)
        assert await ready(url) == 200


async def test_a_process_that_is_stopped_while_it_loads_stops() -> None:
    held, intents = Held(), Intents()
    async with running(held, intents):
        await asyncio.wait_for(held.warming.wait(), 20)
    assert not intents.warm_now.is_set()
