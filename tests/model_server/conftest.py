"""Tests against a real model server; they run where COUNTERSIGN_MODEL_SERVER_PYTHON names a Python that has vLLM.

`./countersign test --model-server` makes such an environment and sets it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from bot.model_server_environment import PYTHON_VARIABLE
from inference.limits import ModelLimits
from inference.vllm import VllmModel
from tests.model_server.serving import Serving, tiny_model

SALT_KEY = bytes(32)


class _NotRun(pytest.Module):
    """A file of tests that says why it is not even read."""

    def collect(self) -> Iterator[pytest.Item]:
        pytest.skip(f"needs a model server ({PYTHON_VARIABLE}): ./countersign test --model-server")


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """One skip a file where there is no model server."""
    if os.environ.get(PYTHON_VARIABLE):
        return None
    return _NotRun.from_parent(parent, path=module_path)


@pytest.fixture(scope="session")
def server_python() -> Path:
    return Path(os.environ[PYTHON_VARIABLE])


@pytest.fixture(scope="session")
def server(server_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The server with the trained model; what it prints is beside the tests' other files."""
    folder = tiny_model(server_python, "trained")
    with Serving(server_python, folder, tmp_path_factory.mktemp("model-server") / "log") as server:
        yield server


@pytest.fixture(scope="session")
def untrained(server_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A second server, whose model answers anything but sense."""
    folder = tiny_model(server_python, "random")
    with Serving(server_python, folder, tmp_path_factory.mktemp("untrained") / "log", model="untrained") as server:
        yield server


@pytest.fixture
async def model(server: Serving) -> AsyncIterator[VllmModel]:
    limits = ModelLimits(first_token=timedelta(seconds=60), total=timedelta(seconds=120))
    model = VllmModel(server.url, server.model, limits=limits, salt_key=SALT_KEY)
    yield model
    await model.close()
