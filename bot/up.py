"""`countersign up`: everything on one machine under one supervisor, with nothing to install or configure by hand."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bot.settings import Settings, SettingsError, checked_port, load_settings, without_secrets

if TYPE_CHECKING:
    from policies.rules import Rules
    from records.database import Database

ROOT = Path(__file__).resolve().parent.parent
RULES_FOLDER = ROOT / "policies" / "rules"
LOCAL = "COUNTERSIGN_LOCAL"
"""Set by `up` for its children: the workbench plays the platforms that are not configured."""
NO_REDIS = "unix:///not-used"
"""Stands for a Redis where a command needs none."""
_OWN_HOSTS = ("127.0.0.1", "localhost", "0.0.0.0", "::")  # noqa: S104
"""Where the web process may listen under `up`, whose parts reach each other over 127.0.0.1."""


async def up(*, data: Path | None, port: int | None) -> int:
    """Prepare the data folder, then run Redis (unless REDIS_URL is set), web and worker until stopped."""
    from bot.redis_server import EmbeddedRedis
    from bot.supervisor import Child, run_up
    from bot.workbench.credentials import ensure_people_file

    environment = dict(os.environ)
    environment[LOCAL] = "1"
    if data is not None:
        environment["COUNTERSIGN_DATA"] = str(data)
    if port is not None:
        environment["COUNTERSIGN_PORT"] = str(checked_port("--port", port))
    children: list[Child] = []
    redis: EmbeddedRedis | None = None
    if not environment.get("REDIS_URL"):
        folder = load_settings({**environment, "REDIS_URL": NO_REDIS}).data
        redis = EmbeddedRedis(folder)
        environment["REDIS_URL"] = redis.url
    settings = _settings(environment, data, port)
    if settings.host not in _OWN_HOSTS:
        raise SettingsError(
            f"COUNTERSIGN_HOST is {settings.host!r}; `up` needs 127.0.0.1, or 0.0.0.0 to be reached from elsewhere"
        )
    environment["COUNTERSIGN_DATA"] = str(settings.data)
    if not environment.get("COUNTERSIGN_PEOPLE"):
        ensure_people_file(settings.people_file)
    # Looked at here, so that what is wrong is one line and not the end of some child's log.
    load_rules(settings)
    if redis is None:
        await asyncio.to_thread(check_redis, settings)
    migrate(settings)
    await _mention_model(settings)
    if redis is not None:
        children.append(Child("redis", redis.command(), ready=redis.wait_ready))
    for name, command in (("web", "serve"), ("worker", "work")):
        children.append(Child(name, (sys.executable, "-m", "bot.cli", command), environment))
    return await run_up(
        children,
        ready_url=f"http://127.0.0.1:{settings.port}/readyz",
        address=f"http://127.0.0.1:{settings.port}",
        data=settings.data,
    )


def settings_of(data: Path | None, port: int | None, *, redis_needed: bool = True) -> Settings:
    """The settings of this process's environment; raises SettingsError."""
    environment = dict(os.environ)
    if not redis_needed:
        environment.setdefault("REDIS_URL", NO_REDIS)
    return _settings(environment, data, port)


def load_rules(settings: Settings) -> Rules:
    """The rules with the people they are about; raises SettingsError, PeopleError or RulesError."""
    from policies.people import Directory
    from policies.rules import Rules

    if not settings.people_file.exists():
        raise SettingsError(
            f"there is no people file {settings.people_file}; copy policies/people.example.yaml there, or name yours "
            "in COUNTERSIGN_PEOPLE"
        )
    return Rules.load(RULES_FOLDER, Directory.load(settings.people_file))


def check_redis(settings: Settings) -> None:
    """Ask whether Redis answers. Blocks; raises SettingsError when it does not."""
    from actions.hints import Hints

    hints = Hints(settings.redis_url)
    try:
        if not hints.ping():
            raise SettingsError(
                f"REDIS_URL does not work: {without_secrets(settings.redis_url)} does not answer; check the address, "
                "its password and that it runs"
            )
    finally:
        hints.close()


def existing_database(settings: Settings) -> Database:
    """The database of an installation that has been started before; raises SettingsError when there is none."""
    from bot.app import open_database

    file = settings.data / "countersign.db"
    if settings.database_url == f"sqlite:///{file}" and not file.exists():
        raise SettingsError(
            f"there is no database in {settings.data}; name the data folder with --data or COUNTERSIGN_DATA"
        )
    return open_database(settings)


def migrate(settings: Settings) -> bool:
    """Bring the database to the newest schema; False when it was. Raises SettingsError."""
    from bot.app import open_database
    from records.migrate import upgrade

    settings.data.mkdir(parents=True, exist_ok=True)
    database = open_database(settings)
    try:
        return upgrade(database)
    finally:
        database.close()


async def _mention_model(settings: Settings) -> None:
    """Say that the model is away: no reason not to start, but nobody should have to find out by its absence."""
    if settings.model.fast is None:
        return
    from bot.doctor import examine_model

    finding = await examine_model(settings)
    if not finding.good:
        print(f"{finding.text}. Until it does, the offline engine answers.", flush=True)


def _settings(environment: dict[str, str], data: Path | None, port: int | None) -> Settings:
    credentials = None
    if environment.get(LOCAL) == "1":
        from bot.workbench.credentials import load_or_create_credentials

        folder = load_settings({**environment, "REDIS_URL": environment.get("REDIS_URL") or NO_REDIS}, data=data).data
        credentials = load_or_create_credentials(folder)
    return load_settings(environment, data=data, port=port, credentials=credentials)
