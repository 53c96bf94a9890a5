"""Microsoft's local Teams client, driven by its own HTTP interface, with what it shows read from its page's stream."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

PACKAGE = "node_modules/@microsoft/m365agentsplayground"
HERE = Path(__file__).parent
START_SECONDS = 60.0
WAIT_SECONDS = 20.0


class PlaygroundMissing(Exception):
    """The client cannot be had here; the message says why."""


def install(folder: Path) -> Path:
    """Fetch the pinned client into a folder unless it is there; returns its command's script."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise PlaygroundMissing("Microsoft's local Teams client needs node and npm, which are not here")
    script = folder / PACKAGE / "cli.js"
    pinned = json.loads((HERE / "package.json").read_text())["devDependencies"]["@microsoft/m365agentsplayground"]
    manifest = folder / PACKAGE / "package.json"
    if script.exists() and json.loads(manifest.read_text())["version"] == pinned:
        return script
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder / name)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    except subprocess.TimeoutExpired as error:
        raise PlaygroundMissing("npm did not fetch Microsoft's local Teams client in time") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise PlaygroundMissing(f"npm could not fetch Microsoft's local Teams client: {last}")
    return script


class Playground:
    """A running client with one personal chat, one group chat and one team."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session
        self.events: list[dict[str, Any]] = []
        """What the client's page was told to show, oldest first."""
        self._changed = asyncio.Condition()
        self.config: dict[str, Any] = {}

    async def load(self) -> None:
        """Read the people and conversations there are."""
        async with self._session.get(f"{self.url}/_internal/v1/config") as response:
            self.config = (await response.json())["config"]

    async def install_app(self, conversation: str) -> None:
        """Add the app to a conversation."""
        await self._post(f"/_debug/conversation/{conversation}/installation", {})

    async def say(self, conversation: str, text: str, mentions: list[dict[str, Any]]) -> None:
        """Write as the current user."""
        message = {
            "type": "text",
            "text": text,
            "textFormat": "plain",
            "from": {"id": self.config["currentUser"]["id"]},
            "mentions": mentions,
        }
        await self._post(f"/_conversation/v1/conversations/{conversation}/messages", message)

    async def send(self, activity: dict[str, Any]) -> Any:
        """Send a whole activity through the client's custom activity door; returns what it reports."""
        return await self._post("/_internal/v1/customActivities", activity)

    async def shows(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first event that meets a condition, waited for."""
        async with self._changed, asyncio.timeout(WAIT_SECONDS):
            await self._changed.wait_for(lambda: any(map(condition, self.events)))
        return next(filter(condition, self.events))

    async def watch(self) -> None:
        """Follow the page's stream until it closes."""
        address = f"{self.url}/_ws_conversation/v1/conversations/stream".replace("http", "ws", 1)
        async with self._session.ws_connect(address) as stream:
            async for message in stream:
                if message.type is aiohttp.WSMsgType.TEXT:
                    async with self._changed:
                        self.events.append(json.loads(message.data))
                        self._changed.notify_all()

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        async with self._session.post(f"{self.url}{path}", json=body) as response:
            answer = await response.text()
            assert response.status < 300, f"{path}: {response.status} {answer[:500]}"
            return json.loads(answer) if answer.startswith(("{", "[")) else answer


@asynccontextmanager
async def running_playground(script: Path, messages_url: str, folder: Path) -> AsyncIterator[Playground]:
    """Start the client on a free port, talking to our door; its logs go to the folder."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = (folder / "playground.log").open("wb")
    arguments = ["start", "-e", messages_url, "-c", "msteams", "--disable-telemetry", "-p", str(port)]
    process = await asyncio.create_subprocess_exec(
        "node", str(script), *arguments, cwd=folder, stdout=log, stderr=log, start_new_session=True
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as session:
            playground = Playground(url, session)
            await _until_up(session, url, process)
            await playground.load()
            watching = asyncio.create_task(playground.watch())
            try:
                yield playground
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGTERM)
            await process.wait()
        log.close()


async def _until_up(session: aiohttp.ClientSession, url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(START_SECONDS):
        while process.returncode is None:
            try:
                async with session.get(f"{url}/_debug/ping") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
    raise PlaygroundMissing("Microsoft's local Teams client ended while starting")
