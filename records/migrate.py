"""Brings a database to the newest schema. Alembic is loaded only when there is something to do."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import inspect, text

from records.database import Database

FOLDER = Path(__file__).parent / "migrations"
_POSTGRES_LOCK = 7_201_845_119
"""Advisory lock: two processes that start together migrate one after the other."""


def newest() -> str:
    """The newest revision: files in `versions/` are named by their number."""
    return max(path.name.partition("_")[0] for path in (FOLDER / "versions").glob("[0-9]*.py"))


def current(database: Database) -> str | None:
    """The revision a database is at, None when it is empty."""
    with database.engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return None if found is None else str(found)


def upgrade(database: Database) -> bool:
    """Apply what is missing; False when nothing was. Safe to call from several processes."""
    if current(database) == newest():
        return False
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    with database.engine.connect() as connection:
        if database.dialect == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_lock({_POSTGRES_LOCK})"))
            connection.commit()
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            if database.dialect == "sqlite":
                connection.exec_driver_sql("COMMIT")
            else:
                connection.commit()
        except BaseException:
            if database.dialect == "sqlite":
                connection.exec_driver_sql("ROLLBACK")
            else:
                connection.rollback()
            raise
        finally:
            if database.dialect == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_unlock({_POSTGRES_LOCK})"))
                connection.commit()
    return True
