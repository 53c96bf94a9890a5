"""What a benchmark ran on, in one line a fact: numbers without it mean nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import version
from pathlib import Path

LOAD_CPU = 1
SERVER_CPU = 0
_PACKAGES = ("uvicorn", "uvloop", "slack_bolt", "botbuilder-core", "aiohttp", "SQLAlchemy", "rq")


def described() -> str:
    """The machine, the versions and how busy it was at the start."""
    versions = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    load = ", ".join(f"{average:.2f}" for average in os.getloadavg())
    return "\n".join(
        (
            f"CPU: {_processor()}, {os.cpu_count()} cores; kernel {platform.system()} {platform.release()}",
            f"{platform.python_implementation()} {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
            versions,
            f"load averages at the start: {load}",
        )
    )


def pin(cpu: int) -> bool:
    """Keep this process on one processor; False where the system has no such call or no such processor."""
    if not hasattr(os, "sched_setaffinity") or cpu not in os.sched_getaffinity(0):
        return False
    os.sched_setaffinity(0, {cpu})
    return True


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
