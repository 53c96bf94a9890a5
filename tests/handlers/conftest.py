"""What tests of the dialog share: both databases, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from records.database import Database
from records.schema import metadata
from tests.postgres import postgres_url


class Records:
    """An empty database whose clock the test moves."""

    def __init__(self, url: str) -> None:
        self.passed = timedelta()
        self.database = Database(url, clock_shift=lambda: self.passed)
        metadata.create_all(self.database.engine)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One PostgreSQL database a module; whoever uses it leaves it empty."""
    with postgres_url(tmp_path_factory) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    """Both databases."""
    sqlite = f"sqlite:///{tmp_path / 'dialog.db'}"
    opened = Records(sqlite if request.param == "sqlite" else request.getfixturevalue("postgres"))
    yield opened
    if opened.database.dialect == "postgresql":
        metadata.drop_all(opened.database.engine)
    opened.database.close()
