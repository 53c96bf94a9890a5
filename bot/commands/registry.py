"""How a group adds its commands: `add(name, run, help)` gives the parser to add arguments to.

    def register(add: Add) -> None:
        check = add("model", None, "the language model").add_subparsers(required=True).add_parser("check", help=...)
        check.set_defaults(run=_check)

Modules are light at import: `bot.cli` loads all of them for every command.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

Run = Callable[[argparse.Namespace], int]
Add = Callable[[str, Run | None, str], argparse.ArgumentParser]


class CommandFailed(Exception):
    """A command cannot go on; the message is one line for the operator."""
