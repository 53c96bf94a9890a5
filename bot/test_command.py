"""`countersign test`: lint, format, types, then the tests, each under a heading; pytest's closing line comes last.

`countersign test --audit` asks instead whether any locked package has a known vulnerability, and
`countersign test --model-server` runs the tests against a real vLLM server, in an environment it makes for that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bot.environment import TORCH, SetupError
from bot.model_server_environment import PYTHON_VARIABLE, ModelServerEnvironment
from bot.progress import Progress

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PROCESSES = "2"
"""Test processes; the suite starts servers of its own, so more of them gain little on small machines."""


def run_tests(arguments: Sequence[str], root: Path) -> int:
    """Run every step even when an earlier one fails, so that one run shows all; returns 0 when all passed.

    The arguments go to pytest; `--audit` alone runs the vulnerability check instead, and `--model-server` runs
    the tests that need a model server and no others.
    """
    if "--audit" in arguments:
        return audit(root)
    if "--model-server" in arguments:
        return model_server_tests([each for each in arguments if each != "--model-server"], root)
    if not arguments:
        provide_browser()
    checks = (
        ("Lint", ("ruff", "check")),
        ("Format", ("ruff", "format", "--check")),
        ("Types", ("mypy",)),
    )
    codes = [_step(heading, command, root) for heading, command in checks]
    codes.append(_step("Tests", ("pytest", "-n", PROCESSES, *arguments), root))
    return next((code for code in codes if code), 0)


def model_server_tests(arguments: Sequence[str], root: Path) -> int:
    """Run tests/model_server with a Python that has vLLM: the one that is named in the environment, or our own."""
    python = os.environ.get(PYTHON_VARIABLE)
    if not python:
        environment = ModelServerEnvironment(root)
        try:
            environment.provide(Progress(sys.stderr))
        except SetupError as error:
            print(f"countersign: {error}", file=sys.stderr)
            return 1
        python = str(environment.python)
    # In one process: they share a server, and its metrics are read as if nobody else were there.
    command = ("pytest", "tests/model_server", *arguments)
    return _step("Tests with a model server", command, root, {PYTHON_VARIABLE: python})


def audit(root: Path) -> int:
    """Look up every locked package, torch included, in the public vulnerability database."""
    with tempfile.TemporaryDirectory() as folder:
        # Not in the lock, because its CPU builds have no common hash.
        torch = Path(folder, "torch.txt")
        torch.write_text(f"{TORCH}\n")
        files = (
            (root / "requirements.lock", "--require-hashes"),
            (root / "requirements-dev.lock", "--require-hashes"),
            (root / "requirements-model-server.lock", "--require-hashes"),
            (torch, "--no-deps"),
        )
        tool = ("pip_audit", "--strict", "--progress-spinner", "off", "--disable-pip")
        codes = [
            _step(f"Known vulnerabilities: {file.name}", (*tool, how, "-r", str(file)), root) for file, how in files
        ]
    return next((code for code in codes if code), 0)


def find_browser() -> str | None:
    """Return the path of a Chromium the browser tests can drive, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def provide_browser() -> None:
    """Install Chromium where this process may; otherwise say that the browser tests are going to be skipped."""
    if find_browser():
        return
    if shutil.which("apt-get") and os.geteuid() == 0:
        _say("Installing Chromium for the browser tests (apt-get, once; about a minute)")
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (("apt-get", "-qq", "update"), ("apt-get", "-qq", "install", "-y", "chromium")):
            done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                _say(f"{' '.join(command)} failed: {(done.stderr.strip() or 'no reason given').splitlines()[-1]}")
                break
    if not find_browser():
        _say("No Chromium here: the browser tests will be skipped. Install chromium or google-chrome to run them.")


def _step(heading: str, command: Sequence[str], root: Path, variables: Mapping[str, str] | None = None) -> int:
    _say(f"== {heading}: {' '.join(command)}")
    environment = {**os.environ, **(variables or {})}
    return subprocess.run([sys.executable, "-m", *command], cwd=root, env=environment, check=False).returncode


def _say(line: str) -> None:
    # Flushed, so that the line comes before what the next process prints.
    print(line, flush=True)
