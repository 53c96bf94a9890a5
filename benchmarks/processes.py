"""Child processes of a benchmark: started, waited for until they answer, and ended with it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from benchmarks.traffic import MakeRequest

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60.0


class Processes:
    """The children and the folder they work in.

    with Processes() as processes:
        server = processes.start("benchmarks.servers", "bolt", ...)
    """

    def __enter__(self) -> Processes:
        self._folder = tempfile.TemporaryDirectory(prefix="countersign-bench-")
        self.folder = Path(self._folder.name)
        self._children: list[subprocess.Popen[bytes]] = []
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for child in self._children:
            self.end(child)
        self._folder.cleanup()

    def start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Run a module of ours."""
        return self.run((sys.executable, "-m", module, *arguments))

    def run(self, command: Sequence[str], environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Run a command; what it prints goes to a file in the folder."""
        with (self.folder / f"{len(self._children)}.log").open("wb") as log:
            child = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            )
        self._children.append(child)
        return child

    def logs(self) -> str:
        """The last lines of what each child printed."""
        return "\n".join(log.read_text()[-2000:] for log in sorted(self.folder.glob("*.log")))

    def end(self, child: subprocess.Popen[bytes]) -> None:
        """Kill a child; what it still had to do is of no interest."""
        if child.poll() is None:
            child.kill()
            child.wait()


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def answers(port: int, make: MakeRequest) -> None:
    """Wait until the server takes a request with 200; raises TimeoutError."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(make())
            status = await asyncio.wait_for(reader.readline(), 5)
            writer.close()
            if b" 200 " in status:
                return
        except (OSError, TimeoutError):
            pass
        await asyncio.sleep(0.1)
    raise TimeoutError(f"the server on port {port} never answered 200")
