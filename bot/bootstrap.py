"""The way from `./countersign <command>` to a running command: set up what is missing, then become `bot.cli`.

Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from bot.environment import Environment, SetupError
from bot.progress import Progress

USAGE = """\
Countersign: an AI work assistant for Slack and Microsoft Teams that lets the right person countersign what is risky.

usage: ./countersign <command> [options]

  up                start everything on this machine: web, worker, Redis, database, workbench
  setup [--dev]     only prepare the environment (every other command does it when needed)
  serve             the web process alone
  work              a worker process alone
  migrate           bring the database to the newest schema
  doctor            say what is configured, what is reachable, and what to do about the rest
  test [...]        lint, type-check and test; arguments go to pytest; `test --model-server` tests against a real vLLM
  model check       ask a configured language model whether it does what is needed
  train ...         fit classifiers and the encoder on your own examples
  decisions         print why the newest messages went where they went
  bench router      measure how messages find their skill, on your own examples
  embed             a process that answers embeddings for several web processes
  audit verify      check the audit log's chain        audit export      write it out
  catalogue         list the actions, their classes and owners
  policy check      check the rules and the people file
  manifest slack    print the Slack app manifest       manifest teams    write the Teams app package

./countersign <command> --help tells more about one command.
"""

INTERRUPTED = 130
TERMINATED = 143


def main(arguments: Sequence[str]) -> int:
    """Print help, set up, or replace this process by the command; returns an exit code unless replaced."""
    root = Path(__file__).resolve().parent.parent
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if arguments[0] == "setup" and not set(arguments[1:]) <= {"--dev"}:
        print("usage: ./countersign setup [--dev]", file=sys.stderr)
        return 2
    environment = Environment(folder=environment_folder(root, os.environ), root=root)
    development = arguments[0] == "test" or (arguments[0] == "setup" and "--dev" in arguments)
    signal.signal(signal.SIGTERM, _leave)
    try:
        environment.ensure(development=development, progress=Progress(sys.stderr))
    except SetupError as error:
        print(f"countersign: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nSet-up was interrupted; run the same command again to go on.", file=sys.stderr)
        return INTERRUPTED
    if arguments[0] == "setup":
        print("Countersign is set up. Start it with: ./countersign up")
        return 0
    # Replaces this process, so that signals and the exit code need no relay.
    python = str(environment.python)
    command = [python, "-P", "-m", "bot.cli", *arguments]
    return os.execve(python, command, command_environment(root, os.environ))  # noqa: S606


def environment_folder(root: Path, variables: Mapping[str, str]) -> Path:
    """Return where the packages go: COUNTERSIGN_ENV, or `.venv` beside the code."""
    chosen = variables.get("COUNTERSIGN_ENV")
    return Path(chosen).expanduser().absolute() if chosen else root / ".venv"


def command_environment(root: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for the command: this code is importable from whatever folder it was started in."""
    path = os.pathsep.join(part for part in (str(root), variables.get("PYTHONPATH", "")) if part)
    return {**variables, "PYTHONPATH": path}


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)
