"""One running house a database for the whole session; scenarios share it and keep to tickets of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.postgres import postgres_url
from tests.scenarios.house import House, Seat


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """None is SQLite in the house's own folder."""
    if request.param == "sqlite":
        yield None
        return
    with postgres_url(tmp_path_factory) as url:
        yield url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def house(database_url: str | None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A house with a worker."""
    running = House(short_folder(tmp_path_factory), database_url=database_url)
    await running.start()
    yield running
    await running.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def own_house(database_url: str | None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A house of the test's own, not yet started, for tests that break things."""
    if database_url is not None:
        with postgres_url(tmp_path_factory) as fresh:
            running = House(short_folder(tmp_path_factory), database_url=fresh)
            yield running
            await running.stop()
        return
    running = House(short_folder(tmp_path_factory))
    yield running
    await running.stop()


@pytest.fixture(params=["slack", "teams"])
def platform(request: pytest.FixtureRequest) -> str:
    """Each scenario runs on both."""
    return str(request.param)


@pytest.fixture
def rosa(house: House, platform: str) -> Seat:
    """The requester's seat."""
    from tests.scenarios.house import ROSA

    return Seat(house, platform, ROSA)


@pytest.fixture
def amir(house: House, platform: str) -> Seat:
    """An approver's seat."""
    from tests.scenarios.house import AMIR

    return Seat(house, platform, AMIR)


@pytest.fixture
def noor(house: House, platform: str) -> Seat:
    """Another approver's seat."""
    from tests.scenarios.house import NOOR

    return Seat(house, platform, NOOR)


def short_folder(factory: pytest.TempPathFactory) -> Path:
    """A data folder."""
    return factory.mktemp("house")
