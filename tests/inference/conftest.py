"""The embedding model that the tests of this floor share: the folder the product uses, made once and kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from inference.embeddings import OnnxEmbedder
from inference.prepare import prepare


@pytest.fixture(scope="session")
def model_dir() -> Path:
    return prepare(Path(__file__).parents[2] / ".countersign" / "models" / "minilm", print)


@pytest.fixture
async def embedder(model_dir: Path) -> AsyncIterator[OnnxEmbedder]:
    embedder = OnnxEmbedder(model_dir)
    yield embedder
    await embedder.close()
