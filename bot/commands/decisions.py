"""`countersign decisions`: the decision log, for whoever wants to know why a message went where it went."""

from __future__ import annotations

import argparse
from pathlib import Path

from bot.commands.registry import Add


def register(add: Add) -> None:
    """Add the commands of this group."""
    command = add("decisions", _decisions, "print the newest decisions of the router as JSON lines, newest first")
    command.add_argument("--limit", type=int, default=200, help="how many (200)")
    command.add_argument("--data", type=Path, help="folder of everything that must survive a restart")


def _decisions(parsed: argparse.Namespace) -> int:
    import dataclasses

    import orjson

    from bot.up import existing_database, settings_of
    from handlers.decisions import recent

    database = existing_database(settings_of(parsed.data, None, redis_needed=False))
    try:
        for decision in database.query(lambda tx: recent(tx, max(0, parsed.limit))):
            print(orjson.dumps(dataclasses.asdict(decision)).decode())
    finally:
        database.close()
    return 0
