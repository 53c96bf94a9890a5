"""`countersign up`: everything on one machine under one supervisor, with nothing to install or configure by hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bot.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parent.parent
RULES_FOLDER = ROOT / "policies" / "rules"
LOCAL = "COUNTERSIGN_LOCAL"
"""Set by `up` for its children: the workbench plays the platforms that are not configured."""
_NO_REDIS = "unix:///not-used"


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
        environment["COUNTERSIGN_PORT"] = str(port)
    children: list[Child] = []
    redis: EmbeddedRedis | None = None
    if not environment.get("REDIS_URL"):
        folder = load_settings({**environment, "REDIS_URL": _NO_REDIS}).data
        redis = EmbeddedRedis(folder)
        environment["REDIS_URL"] = redis.url
    settings = _settings(environment, data, port)
    environment["COUNTERSIGN_DATA"] = str(settings.data)
    if "COUNTERSIGN_PEOPLE" not in environment:
        ensure_people_file(settings.people_file)
    migrate(settings)
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
        environment.setdefault("REDIS_URL", _NO_REDIS)
    return _settings(environment, data, port)


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


def _settings(environment: dict[str, str], data: Path | None, port: int | None) -> Settings:
    credentials = None
    if environment.get(LOCAL) == "1":
        from bot.workbench.credentials import load_or_create_credentials

        folder = load_settings({**environment, "REDIS_URL": environment.get("REDIS_URL") or _NO_REDIS}, data=data).data
        credentials = load_or_create_credentials(folder)
    return load_settings(environment, data=data, port=port, credentials=credentials)
