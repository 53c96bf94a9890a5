"""The supervisor with real processes: each test runs one `up` of small Python programs and watches it from outside."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from bot.readiness import Address, get
from bot.redis_server import EmbeddedRedis, RedisServerError, private_folder, socket_path

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")

LIMIT = 20
"""Seconds after which a condition that did not come true fails its test."""

WEB = """
import http.server, os, sys

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""

WORKER = """
import os, pathlib, signal, subprocess, sys
stubborn = len(sys.argv) > 2
if stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
partial = pathlib.Path(sys.argv[1] + ".partial")
partial.write_text(f"{os.getpid()} {grandchild.pid}")
partial.replace(sys.argv[1])
while True:
    signal.pause()
"""

BROKEN = """
import sys
print("first line")
sys.exit("the database is on fire")
"""

UP = """
import asyncio, json, sys
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from bot.supervisor import Child, Timing, run_up

told = json.loads(sys.argv[1])
timing = Timing(**{key: timedelta(seconds=value) for key, value in told["timing"].items()})
children = [Child(name, tuple(command)) for name, command in told["children"]]
sys.exit(asyncio.run(run_up(
    children, ready_url=f"http://127.0.0.1:{told['port']}/readyz", address="Open http://here.example",
    data=Path(told["data"]), timing=timing,
)))
"""


class Up:
    """One running `up` and everything it said so far."""

    def __init__(self, process: asyncio.subprocess.Process, data: Path, port: int) -> None:
        self.process = process
        self.data = data
        self.port = port
        self.said: list[str] = []

    async def line(self, part: str) -> str:
        """Return the next line that has the part in it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(LIMIT):
            while raw := await self.process.stdout.readline():
                self.said.append(raw.decode().rstrip())
                if part in self.said[-1]:
                    return self.said[-1]
        raise AssertionError(f"it ended without saying {part!r}: {self.said}")

    async def end(self) -> int:
        """Return the exit code, after reading what it still had to say."""
        assert self.process.stdout is not None
        async with asyncio.timeout(LIMIT):
            self.said += (await self.process.stdout.read()).decode().splitlines()
            return await self.process.wait()

    async def web_process(self) -> int | None:
        """Return the id of the process that answers on the port."""
        answer = await get(Address("127.0.0.1", self.port, "/"))
        return None if answer is None else int(answer.body)


@asynccontextmanager
async def up(data: Path, port: int, children: dict[str, list[str]], **timing: float) -> AsyncIterator[Up]:
    told = {"children": list(children.items()), "port": port, "data": str(data), "timing": timing}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        UP,
        json.dumps(told),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield Up(process, data, port)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until(condition: Callable[[], Awaitable[T | None]]) -> T:
    """Await a condition; returns its first value that is true."""
    async with asyncio.timeout(LIMIT):
        while True:
            if value := await condition():
                return value
            await asyncio.sleep(0.01)


def runs(process: int) -> bool:
    """Tell whether a process is there and not merely waiting to be collected."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def programs(tmp_path: Path) -> dict[str, str]:
    for name, text in {"web": WEB, "worker": WORKER, "broken": BROKEN}.items():
        (tmp_path / f"{name}.py").write_text(text)
    return {name: str(tmp_path / f"{name}.py") for name in ("web", "worker", "broken")}


def both(programs: dict[str, str], port: int, pids: Path, *extra: str) -> dict[str, list[str]]:
    return {
        "web": [sys.executable, programs["web"], str(port)],
        "worker": [sys.executable, programs["worker"], str(pids), *extra],
    }


def numbers_in(file: Path) -> list[int]:
    return [int(word) for word in file.read_text().split()] if file.exists() else []


async def worker_processes(pids: Path) -> list[int]:
    async def written() -> list[int]:
        return numbers_in(pids)

    return await until(written)


async def test_the_address_is_said_once_when_ready_answers_200(
    tmp_path: Path, programs: dict[str, str], port: int
) -> None:
    async with up(tmp_path / "data", port, {"web": [sys.executable, programs["web"], str(port)]}) as running:
        await running.line("Open http://here.example")
        first = await running.web_process()
        assert first is not None
        os.kill(first, signal.SIGKILL)

        async def another() -> bool:
            return await running.web_process() not in (None, first)

        await until(another)
        running.process.send_signal(signal.SIGTERM)
        assert await running.end() == 0
    assert sum("here.example" in line for line in running.said) == 1


async def test_a_killed_child_is_started_again(tmp_path: Path, programs: dict[str, str], port: int) -> None:
    pids = tmp_path / "pids"
    async with up(tmp_path / "data", port, both(programs, port, pids)) as running:
        await running.line("here.example")
        worker, grandchild = await worker_processes(pids)
        pids.unlink()
        os.kill(worker, signal.SIGKILL)
        said = await running.line("worker stopped")
        assert "SIGKILL" in said
        assert "0.2 s" in said
        again, _ = await worker_processes(pids)
        assert again != worker
        assert not runs(grandchild)


async def test_each_death_doubles_the_delay(tmp_path: Path, programs: dict[str, str], port: int) -> None:
    pids = tmp_path / "pids"
    async with up(tmp_path / "data", port, both(programs, port, pids), first_delay=0.01, longest_delay=0.02) as running:
        await running.line("here.example")
        delays = []
        for _ in range(3):
            worker, _grandchild = await worker_processes(pids)
            pids.unlink()
            os.kill(worker, signal.SIGKILL)
            delays.append((await running.line("worker stopped")).split(" again in ")[1].split(" s.")[0])
    assert delays == ["0.01", "0.02", "0.02"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_everything_and_leaves_no_process(
    tmp_path: Path, programs: dict[str, str], port: int, number: signal.Signals
) -> None:
    pids = tmp_path / "pids"
    async with up(tmp_path / "data", port, both(programs, port, pids)) as running:
        await running.line("here.example")
        processes = [*await worker_processes(pids), await running.web_process() or 0]
        assert all(runs(process) for process in processes)
        running.process.send_signal(number)
        assert await running.end() == 0
    assert not any(runs(process) for process in processes)


async def test_a_child_that_ignores_the_request_to_end_is_killed_after_the_grace(
    tmp_path: Path, programs: dict[str, str], port: int
) -> None:
    pids = tmp_path / "pids"
    async with up(tmp_path / "data", port, both(programs, port, pids, "stubborn"), grace=0.05) as running:
        await running.line("here.example")
        processes = await worker_processes(pids)
        running.process.send_signal(signal.SIGTERM)
        await running.line("worker did not stop within 0.05 s")
        assert await running.end() == 0
    assert not any(runs(process) for process in processes)


async def test_a_second_signal_kills_at_once(tmp_path: Path, programs: dict[str, str], port: int) -> None:
    pids = tmp_path / "pids"
    async with up(tmp_path / "data", port, both(programs, port, pids, "stubborn"), grace=600) as running:
        await running.line("here.example")
        processes = await worker_processes(pids)
        running.process.send_signal(signal.SIGINT)
        await running.line("Stopping")
        running.process.send_signal(signal.SIGINT)
        assert await running.end() == 130
    assert not any(runs(process) for process in processes)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's parent-death signal is Linux's")
async def test_the_children_die_with_a_killed_supervisor(tmp_path: Path, programs: dict[str, str], port: int) -> None:
    pids = tmp_path / "pids"
    async with up(tmp_path / "data", port, both(programs, port, pids)) as running:
        await running.line("here.example")
        worker, grandchild = await worker_processes(pids)
        web = await running.web_process()
        running.process.kill()
        await running.process.wait()

        async def gone() -> bool:
            return not runs(worker) and not runs(web or 0)

        await until(gone)
        os.kill(grandchild, signal.SIGKILL)


async def test_a_second_up_on_the_same_data_is_refused_in_one_line(
    tmp_path: Path, programs: dict[str, str], port: int
) -> None:
    web = {"web": [sys.executable, programs["web"], str(port)]}
    async with up(tmp_path / "data", port, web) as first:
        await first.line("here.example")
        async with up(tmp_path / "data", free_port(), web) as second:
            assert await second.end() == 1
        assert second.said == [
            f"countersign: Countersign already runs on {tmp_path / 'data'} (process {first.process.pid}). "
            "Stop it first, or choose another data folder."
        ]
        assert await first.web_process() is not None


async def test_a_taken_port_is_refused_in_one_line(tmp_path: Path, programs: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with up(tmp_path / "data", port, {"web": [sys.executable, programs["web"], str(port)]}) as running:
            assert await running.end() == 1
    assert len(running.said) == 1
    assert f"Port {port} is taken" in running.said[0]


async def test_a_child_that_cannot_start_ends_it_with_the_last_lines_of_its_log(
    tmp_path: Path, programs: dict[str, str], port: int
) -> None:
    children = {**both(programs, port, tmp_path / "pids"), "broken": [sys.executable, programs["broken"]]}
    del children["web"]
    async with up(tmp_path / "data", port, children, first_delay=0.01) as running:
        assert await running.end() == 1
    assert "countersign: broken can't start (exit code 1)." in running.said
    assert running.said[-1] == "  the database is on fire"
    assert not any(runs(process) for process in numbers_in(tmp_path / "pids"))


async def test_a_program_that_is_not_there_is_reported_at_once(tmp_path: Path, port: int) -> None:
    async with up(tmp_path / "data", port, {"web": ["/nowhere/program"]}) as running:
        assert await running.end() == 1
    assert running.said[0].startswith("countersign: web can't be started: ")


async def test_it_says_what_it_waits_for_and_gives_up_in_time(
    tmp_path: Path, programs: dict[str, str], port: int
) -> None:
    worker = {"worker": both(programs, port, tmp_path / "pids")["worker"]}
    async with up(tmp_path / "data", port, worker, slow_after=0.05, give_up_after=1) as running:
        await running.line("Still starting: nothing answers yet")
        assert await running.end() == 1
    assert "countersign: Not ready after 1 s; giving up." in running.said
    assert f"The end of {tmp_path / 'data' / 'logs' / 'worker.log'}:" in running.said


async def test_what_children_print_goes_to_logs_that_are_rotated_at_start(
    tmp_path: Path, programs: dict[str, str], port: int
) -> None:
    for _ in range(2):
        async with up(
            tmp_path / "data", port, {"broken": [sys.executable, programs["broken"]]}, first_delay=0.01
        ) as it:
            await it.end()
    logs = tmp_path / "data" / "logs"
    assert {log.name for log in logs.iterdir()} == {"broken.log", "broken.log.1"}
    assert (logs / "broken.log").read_text().count("on fire") == 3


async def test_the_embedded_redis_keeps_its_data_and_listens_on_a_private_socket_only(tmp_path: Path) -> None:
    from redis.asyncio import Redis

    embedded = EmbeddedRedis(tmp_path)
    for value in (b"first", b"second"):
        process = await asyncio.create_subprocess_exec(*embedded.command(), stdout=asyncio.subprocess.DEVNULL)
        await embedded.wait_ready()
        async with Redis.from_url(embedded.url) as client:
            assert await client.get("kept") == (None if value == b"first" else b"first")
            await client.set("kept", value)
            assert (await client.config_get("port"))["port"] == "0"
        assert socket_path(tmp_path / "redis").stat().st_mode & 0o777 == 0o600
        process.terminate()
        await process.wait()


def test_a_long_data_path_gets_a_short_private_socket_that_every_process_finds(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    path = socket_path(long / "redis")
    assert len(os.fsencode(path)) < 104
    assert EmbeddedRedis(long).url == EmbeddedRedis(long).url == f"unix://{path}"


def test_a_socket_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RedisServerError, match="REDIS_URL"):
        private_folder(tmp_path / "link")


def test_a_server_that_does_not_run_here_says_to_set_redis_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "pdp11")
    with pytest.raises(RedisServerError, match="set REDIS_URL"):
        EmbeddedRedis(tmp_path).command()
