"""What the tests of this floor share: the embedding model's folder, which is the product's, made once and kept; a model
server's double, and a tier that asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from inference.breaker import CircuitBreaker
from inference.embeddings import OnnxEmbedder
from inference.prepare import prepare
from inference.tier import Tier
from inference.vllm import VllmModel
from tests.doubles.model_server import ModelServer
from tests.inference.engine_parts import INSIDE, TINY, Pause, Seen


@pytest.fixture(scope="session")
def model_dir() -> Path:
    return prepare(Path(__file__).parents[2] / ".countersign" / "models" / "minilm", print)


@pytest.fixture
async def embedder(model_dir: Path) -> AsyncIterator[OnnxEmbedder]:
    embedder = OnnxEmbedder(model_dir)
    yield embedder
    await embedder.close()


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest.fixture
def pause() -> Pause:
    return Pause()


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def tier(server: ModelServer, pause: Pause) -> Tier:
    breaker = CircuitBreaker(failures=2, cool_down=timedelta(seconds=10), clock=pause.clock)
    return Tier(VllmModel(server.url, "tiny", None, TINY), INSIDE, breaker=breaker, pause=pause)
