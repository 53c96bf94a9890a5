"""A real `up`: the command as a user starts it, in a process of its own, on a data folder and a port of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 40.0
"""Seconds after which a condition that did not come true fails its test."""
OURS = ("COUNTERSIGN_", "SLACK_", "TEAMS_", "VLLM_", "REDIS_URL", "DATABASE_URL")
"""What the variables that we read begin with."""
CHILDREN = {"web": "bot.cli serve", "worker": "bot.cli work", "redis": "valkey-server"}
"""What the command line of each child has in it."""


def clean_environment(**variables: str) -> dict[str, str]:
    """This process's environment without any variable of ours, and with the given ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**kept, **variables}


def command(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one `countersign` command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "bot.cli", *arguments],
        cwd=cwd,
        env=clean_environment(PYTHONPATH=str(ROOT), **variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def until(condition: Callable[[], Any], *, what: str) -> Any:
    """The condition's first value that counts as true; fails after `PATIENCE`."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {PATIENCE:.0f} s")


def processes(of: int) -> dict[int, str]:
    """Command lines of all that a process started, at any depth, by process id."""
    listing = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()]
    parents = {int(pid): int(parent) for pid, parent, *_ in rows}
    commands = {int(row[0]): row[2] if len(row) > 2 else "" for row in rows}

    def descends(pid: int) -> bool:
        while pid in parents and pid != of:
            pid = parents[pid]
        return pid == of

    return {pid: line for pid, line in commands.items() if pid != of and descends(pid)}


class Up:
    """`countersign up`, until the end of the block.

    with Up(tmp_path / "data") as up:
        up.client.get("/readyz")
        up.stop()
        up.start()          # the same folder and port again
    """

    def __init__(self, data: Path, variables: Mapping[str, str] | None = None) -> None:
        self.data = data
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=10)
        self._output = data.with_name(f"{data.name}.out")
        self._variables = dict(variables or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return once it has said where it is."""
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bot.cli", "up", "--data", str(self.data), "--port", str(self.port)],
                cwd=ROOT,
                env=clean_environment(**self._variables),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

        def up() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.said()
            return self.url in self.said()

        until(up, what="up")

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(timeout=PATIENCE)

    def said(self) -> str:
        """What it printed since it was last started."""
        return self._output.read_text()

    def children(self) -> dict[int, str]:
        """What it has started, by process id."""
        assert self._process is not None
        return processes(self._process.pid)

    def child(self, name: str) -> int:
        """Process id of `web`, `worker` or `redis`."""
        (pid,) = until(lambda: self._running(name), what=f"a running {name}")
        return int(pid)

    def kill(self, name: str) -> None:
        """Kill a child as the kernel does when memory runs out."""
        os.kill(self.child(name), signal.SIGKILL)

    def logs(self) -> str:
        """Everything in all logs."""
        return "\n".join(file.read_text() for file in sorted((self.data / "logs").iterdir()))

    def say(self, text: str, *, platform: str = "slack", person: int = 0) -> None:
        """Write in the channel, as the requester (0) or the approver (1)."""
        user, room = self._seat(platform, person)
        body = {"platform": platform, "person": user, "room": room, "text": text}
        self.client.post("/workbench/say", json=body).raise_for_status()

    def channel(self, *, platform: str = "slack", person: int = 0) -> str:
        """Everything in the channel as its JSON."""
        user, room = self._seat(platform, person)
        answer = self.client.get("/workbench/messages", params={"platform": platform, "person": user, "room": room})
        return answer.raise_for_status().text

    def _running(self, name: str) -> list[int]:
        return [pid for pid, line in self.children().items() if CHILDREN[name] in line]

    def _seat(self, platform: str, person: int) -> tuple[str, str]:
        state = self.client.get("/workbench/state").raise_for_status().json()
        found = next(one for one in state["platforms"] if one["name"] == platform)
        user = found["people"][person]["id"]
        room = next(room["id"] for room in found["rooms"][user] if not room["direct"])
        return user, room

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self.stop()
