"""Environments of what a benchmark compares with, made by the benchmark itself and kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def peers_environment(folder: Path, requirements: Path) -> Path | None:
    """The interpreter of an environment with exactly these requirements, made where it is missing; None where it cannot
    be made, with the reason on standard error."""
    interpreter = folder / "bin" / "python"
    stamp = folder / "installed.txt"
    if stamp.exists() and stamp.read_text() == requirements.read_text():
        return interpreter
    steps = (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(interpreter), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            print(f"{requirements.name} is left out: {done.stderr.strip()[-300:]}", file=sys.stderr)
            return None
    stamp.write_text(requirements.read_text())
    return interpreter
