"""Migrations make exactly the tables the code declares, once, however many processes begin at the same time."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import BigInteger, LargeBinary, inspect, text
from sqlalchemy.types import TypeDecorator

import actions
import bot.teams
import handlers
import inference
import policies
import records
from records import migrate
from records.database import Database
from records.schema import Json, Moment, metadata
from tests.postgres import postgres_url

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'migrated.db'}"
        return
    with postgres_url(tmp_path_factory) as fresh:
        yield fresh


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """A door to it."""
    opened = Database(url)
    yield opened
    opened.close()


def _load_all_tables() -> None:
    """Every module that may register a table has been imported."""
    for package in (records, policies, inference, actions, handlers, bot.teams):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if not module.ispkg:
                importlib.import_module(module.name)


def _same_type(context: Any, inspected: Any, declared: Any, inspected_type: Any, declared_type: Any) -> bool | None:
    """False means no difference. Our own types are compared by what they are stored as."""
    if isinstance(declared_type, TypeDecorator):
        stored = {Moment: BigInteger, Json: LargeBinary}.get(type(declared_type))
        assert stored is not None, f"{declared} has a type this test does not know"
        return not isinstance(inspected_type, stored)
    return None


def test_an_empty_database_is_migrated_to_exactly_the_declared_tables(database: Database) -> None:
    _load_all_tables()
    assert migrate.current(database) is None
    assert migrate.upgrade(database)
    assert migrate.current(database) == migrate.newest()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": _same_type, "compare_server_default": True}
        )
        differences = compare_metadata(context, metadata)
        tables = set(inspect(connection).get_table_names())
    assert differences == []
    assert tables == {*metadata.tables, "alembic_version"}


def test_the_comparison_sees_a_column_of_another_type_and_a_missing_index(database: Database) -> None:
    _load_all_tables()
    migrate.upgrade(database)
    with database.engine.begin() as connection:
        if database.dialect == "postgresql":
            connection.execute(text("ALTER TABLE plans ALTER COLUMN about TYPE text USING ''"))
        else:
            connection.execute(text("ALTER TABLE plans DROP COLUMN about"))
            connection.execute(text("ALTER TABLE plans ADD COLUMN about TEXT NOT NULL DEFAULT ''"))
        connection.execute(text("DROP INDEX executions_due"))
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": _same_type})
        differences = compare_metadata(context, metadata)
    assert len(differences) == 2


def test_upgrading_again_does_nothing(database: Database) -> None:
    assert migrate.upgrade(database)
    assert not migrate.upgrade(database)
    assert not migrate.upgrade(database)


def test_two_processes_that_start_together_both_end_with_the_newest_schema(database: Database, url: str) -> None:
    program = (
        "import sys; from records.database import Database; from records import migrate\n"
        "database = Database(sys.argv[1]); print('ready', flush=True); sys.stdin.readline()\n"
        "migrate.upgrade(database); database.close(); print('done', flush=True)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, url], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out.endswith("done\n")
    assert migrate.current(database) == migrate.newest()
    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1


def test_a_migration_that_fails_leaves_an_empty_database_on_both(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic import command

    def half_way(config: Any, revision: str) -> None:
        config.attributes["connection"].execute(text("CREATE TABLE half (id INTEGER)"))
        raise RuntimeError("the power went")

    with monkeypatch.context() as patched:
        patched.setattr(command, "upgrade", half_way)
        with pytest.raises(RuntimeError):
            migrate.upgrade(database)
    with database.engine.connect() as connection:
        assert inspect(connection).get_table_names() == []
    assert migrate.upgrade(database), "and the lock was given back"
