"""Each invariant is shown on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.invariants.approval_world import World
from tests.postgres import postgres_url


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One PostgreSQL database a test process; whoever uses it leaves it empty."""
    with postgres_url(tmp_path_factory) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'world.db'}"
    return str(request.getfixturevalue("postgres"))


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    """An installation with nothing asked for yet."""
    built = World(tmp_path, database_url)
    yield built
    if built.database.dialect == "postgresql":
        built.clear()
    built.close()
