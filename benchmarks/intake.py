"""From a platform's request to its acknowledgement: Countersign beside the frameworks it could have been built on.

python -m benchmarks.intake [--seconds N] [--rounds N]

Every server runs in a process of its own on one processor, the load on another. All are measured in turn, round after
round, so that a slow moment of the machine meets all of them. What it found and does not show: docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from benchmarks.installation import Installation
from benchmarks.load import Result, closed_loop, open_loop
from benchmarks.machine import LOAD_CPU, described, pin
from benchmarks.processes import Processes, answers, free_port
from benchmarks.traffic import MakeRequest, activities, slash_commands

CONNECTIONS = 16
WARM_UP_S = 0.5
OURS, OURS_WORKING = "countersign-way-in", "countersign"
SHOWN = {
    "signature": "bare ASGI function that checks the signature",
    "bolt": "Bolt AsyncApp, default",
    "bolt-tuned": "Bolt AsyncApp, process_before_response",
    "botbuilder": "botbuilder BotFrameworkAdapter in aiohttp",
    "botbuilder-cloud": "botbuilder CloudAdapterBase in aiohttp",
    OURS: "Countersign: stored durably, then acknowledged",
    OURS_WORKING: "Countersign, handling what it stored meanwhile",
}
COMPARED = {
    "slack": ("signature", "bolt", "bolt-tuned", OURS, OURS_WORKING),
    "teams": ("botbuilder", "botbuilder-cloud", OURS, OURS_WORKING),
}
BASELINES = {"slack": ("bolt", "bolt-tuned"), "teams": ("botbuilder", "botbuilder-cloud")}


@dataclass(slots=True)
class Measured:
    """What the rounds found for one server."""

    one: list[Result] = field(default_factory=list)
    many: list[Result] = field(default_factory=list)
    steady: list[Result] = field(default_factory=list)
    handled: list[float] = field(default_factory=list)
    """Events a second handled to their end while `many` ran."""


class Comparison:
    """One platform's servers under the same load."""

    def __init__(self, platform: str, processes: Processes, *, seconds: float, rounds: int) -> None:
        self._platform = platform
        self._processes = processes
        self._seconds = seconds
        self._rounds = rounds
        self._platforms_port = free_port()
        self._home = Installation(processes.folder / f"{platform}-platforms", self._platforms_port)
        self._started = 0
        self.measured = {kind: Measured() for kind in COMPARED[platform]}

    async def run(self) -> None:
        """All rounds: closed loop at 1 and 16 connections, then open loop at half of each one's peak."""
        self._processes.start("benchmarks.platforms", str(self._home.folder), str(self._platforms_port))
        for _ in range(self._rounds):
            for kind in COMPARED[self._platform]:
                await self._closed(kind)
        for _ in range(self._rounds):
            for kind in COMPARED[self._platform]:
                await self._steady(kind)

    async def _closed(self, kind: str) -> None:
        found = self.measured[kind]
        async with _Server(self, kind) as server:
            await closed_loop(server.port, server.make, connections=CONNECTIONS, seconds=WARM_UP_S)
            found.one.append(await closed_loop(server.port, server.make, connections=1, seconds=self._seconds / 2))
            before = await server.handled()
            many = await closed_loop(server.port, server.make, connections=CONNECTIONS, seconds=self._seconds)
            found.many.append(many)
            found.handled.append((await server.handled() - before) / self._seconds)

    async def _steady(self, kind: str) -> None:
        rate = _median(self.measured[kind].many, "per_second") / 2
        async with _Server(self, kind) as server:
            await closed_loop(server.port, server.make, connections=CONNECTIONS, seconds=WARM_UP_S)
            self.measured[kind].steady.append(
                await open_loop(server.port, server.make, rate=rate, seconds=self._seconds)
            )

    def table(self) -> str:
        """What was measured, medians of the rounds, with ratios to the frameworks."""
        head = [
            "server",
            "1 conn. p50 ms",
            "16 conn. /s",
            "p50 ms",
            "p99 ms",
            "p99 ms at half of its peak",
            "handled /s",
        ]
        rows = [[*head, *(f"÷ {baseline}" for baseline in BASELINES[self._platform])]]
        for kind, found in self.measured.items():
            rate = _median(found.many, "per_second")
            handled = f"{statistics.median(found.handled):,.0f}" if kind == OURS_WORKING else ""
            ratios = [
                f"{rate / _median(self.measured[baseline].many, 'per_second'):.2f}"
                for baseline in BASELINES[self._platform]
            ]
            rows.append(
                [
                    SHOWN[kind],
                    f"{_median(found.one, 'p50'):.2f}",
                    f"{rate:,.0f}",
                    f"{_median(found.many, 'p50'):.2f}",
                    f"{_median(found.many, 'p99'):.1f}",
                    f"{_median(found.steady, 'p99'):.1f}",
                    handled,
                    *ratios,
                ]
            )
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])

    def place(self) -> tuple[Path, int]:
        """A folder for one more server, with the secrets that the platforms know, and their port."""
        self._started += 1
        folder = self._processes.folder / f"{self._platform}-{self._started}"
        (folder / "workbench").mkdir(parents=True)
        secrets = Path("workbench") / "credentials.json"
        (folder / secrets).write_bytes((self._home.folder / secrets).read_bytes())
        return folder, self._platforms_port

    def make(self) -> MakeRequest:
        """Requests nobody has seen."""
        return (slash_commands if self._platform == "slack" else activities)(self._home)

    @property
    def processes(self) -> Processes:
        """Where servers are started."""
        return self._processes


class _Server:
    """One server for one measurement: a fresh process and, for ours, a fresh database."""

    def __init__(self, comparison: Comparison, kind: str) -> None:
        self._comparison = comparison
        self._kind = kind
        self.port = free_port()
        self.make = comparison.make()

    async def __aenter__(self) -> _Server:
        folder, platforms_port = self._comparison.place()
        self._child = self._comparison.processes.start(
            "benchmarks.servers", self._kind, str(folder), str(self.port), str(platforms_port)
        )
        try:
            await answers(self.port, self.make)
        except TimeoutError:
            print(self._comparison.processes.logs(), file=sys.stderr)
            raise
        return self

    async def __aexit__(self, *problem: object) -> None:
        self._comparison.processes.end(self._child)

    async def handled(self) -> float:
        """Events the product has handled so far; 0 for the others."""
        if self._kind != OURS_WORKING:
            return 0.0

        def read() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as page:
                return str(page.read().decode())

        lines = (await asyncio.to_thread(read)).splitlines()
        counted = [
            line for line in lines if line.startswith("countersign_events_total") and 'outcome="handled"' in line
        ]
        return sum(float(line.rpartition(" ")[2]) for line in counted)


def _median(results: list[Result], what: str) -> float:
    return float(statistics.median(getattr(result, what) for result in results))


async def compare(platforms: list[str], *, seconds: float, rounds: int) -> None:
    """Measure and print."""
    pinned = pin(LOAD_CPU)
    print(described())
    print(
        f"servers and load pinned to a processor each: {'yes' if pinned else 'no'}; {rounds} rounds of {seconds:g} s\n"
    )
    with Processes() as processes:
        for platform in platforms:
            comparison = Comparison(platform, processes, seconds=seconds, rounds=rounds)
            await comparison.run()
            print(f"{platform}\n\n{comparison.table()}\n", flush=True)
    print("Not shown: a network, TLS, a proxy, PostgreSQL, more than one process, and what the platforms cost.")


def main() -> None:
    """Read the arguments and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each server; medians are shown")
    parser.add_argument("--platform", choices=sorted(COMPARED), action="append", help="one platform only")
    parsed = parser.parse_args()
    uvloop.run(compare(parsed.platform or sorted(COMPARED), seconds=parsed.seconds, rounds=parsed.rounds))


if __name__ == "__main__":
    main()
