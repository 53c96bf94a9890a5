"""From the approver's click to the call of the connector: a real web process, a real worker process, a real Redis.

python -m benchmarks.approve [--approvals N]

One approval after another on an idle machine. The time runs from the moment the signed click is written to the socket
to the moment its effect stands in the ticketing system's own file, which is looked at every millisecond. The platforms
are played by this process: it keeps the cards it is sent, and presses their buttons.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import urlencode

import orjson
import uvicorn
import uvloop

from actions.connectors.sandbox_ticketing import SandboxTicketing
from benchmarks.installation import CHANNEL, Installation
from benchmarks.machine import described
from benchmarks.platforms import Platforms
from benchmarks.processes import Processes, answers, free_port
from benchmarks.traffic import activity, slack_request, slash_command, slash_commands, teams_request
from bot.redis_server import EmbeddedRedis
from bot.workbench.credentials import PEOPLE, SLACK_TEAM

ROSA, AMIR = PEOPLE
PATIENCE_S = 30.0
LOOK_EVERY_S = 0.001
SETTLE_S = 0.3
"""Between a card and its click: the reconciler, the drawings and the trace have ended by then, as they have when a
person needs seconds to read."""
TEAMS_CHANNEL = "19:benchmark@thread.tacv2"


class Bench:
    """The processes, and a person with a ticket to close for every approval."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._platforms_port = free_port()
        self.port = free_port()
        self.installation = Installation(processes.folder / "home", self._platforms_port)
        self.platforms = Platforms(self.installation)
        self._ticketing = self.installation.folder / "sandbox" / "ticketing.db"

    async def start(self) -> None:
        """Platforms, Redis, web, worker."""
        config = uvicorn.Config(self.platforms, port=self._platforms_port, log_level="critical", lifespan="off")
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server.serve())
        redis = EmbeddedRedis(self.installation.folder)
        self._processes.run(redis.command())
        await redis.wait_ready()
        self.installation.settings(self.port)
        environment = {"REDIS_URL": redis.url}
        where = (str(self.installation.folder), str(self.port), str(self._platforms_port))
        for kind in ("countersign", "worker"):
            self._processes.run((sys.executable, "-m", "benchmarks.servers", kind, *where, "unpinned"), environment)
        await answers(self.port, slash_commands(self.installation))
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)

    async def stop(self) -> None:
        """End what runs in this process."""
        self._writer.close()
        self._server.should_exit = True
        await self._serving

    async def one(self, platform: str) -> float:
        """Ask, wait for the card, press Approve: seconds until the effect stood in the file."""
        ticketing = SandboxTicketing(self._ticketing, "http://127.0.0.1", samples=False)
        effect = await ticketing.perform(
            "ticketing.create",
            {"title": "A lamp flickers", "requester": ROSA.id},
            key=secrets.token_hex(8),
            expected=None,
        )
        await ticketing.close()
        await self._send(self._request(platform, f"close {effect.record}"))
        card = await self._until(lambda: self.platforms.card(effect.record), "the card")
        await asyncio.sleep(SETTLE_S)
        click = self._click(platform, *card)
        with closing(sqlite3.connect(self._ticketing)) as connection:
            before = _effects(connection)
            pressed = time.perf_counter()
            sending = asyncio.create_task(self._send(click))
            await self._until(lambda: _effects(connection) > before, "the effect")
            took = time.perf_counter() - pressed
        await sending
        return took

    def _request(self, platform: str, text: str) -> bytes:
        if platform == "slack":
            return slash_command(self.installation, text, trigger_id=f"1.{secrets.token_hex(16)}")
        said = activity(self.installation, ROSA.teams, channel=TEAMS_CHANNEL)
        bot = said["recipient"]
        mention = {"type": "mention", "mentioned": bot, "text": "<at>Countersign</at>"}
        said |= {"text": f"<at>Countersign</at> {text}", "entities": [mention]}
        return teams_request(self.installation.identity.bearer(self.installation.service_url), said)

    def _click(self, platform: str, message_id: str, button: dict[str, Any]) -> bytes:
        if platform == "slack":
            payload = {
                "type": "block_actions",
                "user": {"id": AMIR.slack, "team_id": SLACK_TEAM},
                "team": {"id": SLACK_TEAM},
                "api_app_id": "A0WORKBENCH",
                "channel": {"id": CHANNEL},
                "container": {"type": "message", "message_ts": message_id, "channel_id": CHANNEL},
                "message": {"type": "message", "ts": message_id},
                "trigger_id": f"1.{secrets.token_hex(16)}",
                "actions": [{**button, "block_id": "b0", "action_ts": "1700000000.000000"}],
            }
            body = urlencode({"payload": orjson.dumps(payload).decode()}).encode()
            return slack_request(self.installation, body, "application/x-www-form-urlencoded")
        pressed = activity(self.installation, AMIR.teams, channel=TEAMS_CHANNEL)
        execute = {"type": "Action.Execute", "verb": button["verb"], "data": button["data"]}
        pressed |= {
            "type": "invoke",
            "id": f"f:{secrets.token_hex(8)}",
            "name": "adaptiveCard/action",
            "replyToId": message_id,
            "value": {"action": execute, "trigger": "manual"},
        }
        return teams_request(self.installation.identity.bearer(self.installation.service_url), pressed)

    async def _send(self, request: bytes) -> None:
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head[:16]:
            raise RuntimeError(f"the web process answered {head[:30]!r}")
        _, _, length = head.lower().partition(b"content-length:")
        await self._reader.readexactly(int(length.split(b"\r\n", 1)[0]))

    async def _until(self, look: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            found = look()
            if found:
                return found
            await asyncio.sleep(LOOK_EVERY_S)
        raise TimeoutError(f"{what} never came; the processes said:\n{self._processes.logs()}")


def _effects(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM effects").fetchone()[0])


async def measure(approvals: int) -> None:
    """Measure both platforms and print."""
    print(described())
    print(f"{approvals} approvals one after another on each platform, nothing else running\n")
    print("| click on | p50 ms | p90 ms | p99 ms | longest ms |\n|---|---|---|---|---|")
    with Processes() as processes:
        bench = Bench(processes)
        await bench.start()
        for platform in ("slack", "teams"):
            for _ in range(3):
                await bench.one(platform)
            times = sorted([await bench.one(platform) * 1000 for _ in range(approvals)])
            print(
                f"| {platform} | {statistics.median(times):.1f} | {times[int(len(times) * 0.9)]:.1f} "
                f"| {times[int(len(times) * 0.99)]:.1f} | {times[-1]:.1f} |",
                flush=True,
            )
        await bench.stop()
    print("\nNot shown: a network, PostgreSQL, a busy machine, and a connector that has somewhere to call.")


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--approvals", type=int, default=100, help="on each platform")
    uvloop.run(measure(parser.parse_args().approvals))


if __name__ == "__main__":
    main()
