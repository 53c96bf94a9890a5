"""The whole product in one process, for scenarios: real web server, real Redis, real database, a worker on demand.

What people do goes in as signed HTTP requests of the local platforms; what comes out is read at those platforms and
in the ticketing system.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import uvicorn
import yaml

from actions.sweep import Sweep
from bot.app import ROOT, Work
from bot.redis_server import EmbeddedRedis
from bot.settings import Settings, load_settings
from bot.up import LOCAL, migrate
from bot.web import Web, build_server
from bot.workbench.credentials import SLACK_TEAM, TEAMS_TENANT, load_or_create_credentials
from bot.workbench.platform import LocalMessage

PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Someone:
    """A person of the scenarios."""

    id: str
    name: str
    slack: str
    teams: str


def _person(number: int, name: str) -> Someone:
    return Someone(name.lower(), name, f"U0{name.upper()}", f"5f0b5b5e-3d5c-4c53-9f5e-0c0de00000{number:02d}")


ROSA = _person(11, "Rosa")
"""Asks; may not sign."""
AMIR = _person(12, "Amir")
"""An approver."""
NOOR = _person(13, "Noor")
"""Another approver."""
EVE = _person(14, "Eve")
"""In the workspace, in no people file."""
PEOPLE = (ROSA, AMIR, NOOR, EVE)


class House:
    """A running installation.

    await house.start()
    card = await house.ask_to_close(house.slack, ROSA)
    """

    def __init__(
        self, data: Path, *, database_url: str | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        self.data = data
        self.port = free_port()
        self.redis = EmbeddedRedis(data)
        self.variables = {
            "COUNTERSIGN_DATA": str(data),
            "COUNTERSIGN_PORT": str(self.port),
            "REDIS_URL": self.redis.url,
            LOCAL: "1",
            **({"DATABASE_URL": database_url} if database_url else {}),
            **(variables or {}),
        }
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self.web: Web
        self._server: uvicorn.Server
        self._serving: asyncio.Task[None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self) -> Settings:
        return load_settings(self.variables, credentials=load_or_create_credentials(self.data))

    async def start(self, *, worker: bool = True) -> None:
        """Redis, then the web process in here, then a worker process."""
        self.data.mkdir(parents=True, exist_ok=True)
        write_people(self.data / "people.yaml")
        await self.start_redis()
        await asyncio.to_thread(migrate, self.settings())
        await self.start_web()
        if worker:
            self.start_worker()

    async def start_redis(self) -> None:
        self._children["redis"] = await asyncio.to_thread(
            subprocess.Popen, self.redis.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await self.redis.wait_ready()

    async def start_web(self) -> None:
        self.web = Web(self.settings())
        assert self.web.local is not None
        assert self.web.local.slack is not None
        assert self.web.local.teams is not None
        self.slack, self.teams = self.web.local.slack, self.web.local.teams
        self._server = build_server(self.web)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._serving = asyncio.create_task(self._server._serve())
        await until(lambda: self._server.started)

    async def stop_web(self) -> None:
        self._server.should_exit = True
        await self._serving

    def start_worker(self, *, fault: str | None = None) -> subprocess.Popen[bytes]:
        """A worker process; with `fault`, one that dies by SIGKILL when it reaches that point."""
        environment = {**os.environ, **self.variables, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "bot.cli", "work"]
        if fault is not None:
            command = [sys.executable, "-m", "tests.scenarios.faulty_worker", fault]
        log = (self.data / "worker.log").open("ab")
        self._children["worker"] = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=ROOT)
        return self._children["worker"]

    def kill(self, child: str, how: int = signal.SIGKILL) -> None:
        process = self._children.pop(child, None)
        if process is not None:
            process.send_signal(how)
            process.wait(timeout=15)

    async def stop(self) -> None:
        await asyncio.to_thread(self.kill, "worker", signal.SIGKILL)
        await self.stop_web()
        await asyncio.to_thread(self.kill, "redis", signal.SIGKILL)

    async def sweep(self) -> None:
        """What a worker's sweep does, with this process's clock."""
        await Sweep(self.web.core.database, self.web.core.hints).once()
        await self.web.core.projector.sweep()

    def let_pass(self, time: timedelta) -> None:
        """Move this process's database clock."""
        self.web.core.clock_shift += time

    async def run_here(self, execution_id: str) -> None:
        """Run an execution in this process, as a worker would."""
        work = Work(self.web.core)
        await work.executor.run(execution_id)
        await work.close()

    def tickets(self) -> dict[str, tuple[str, int]]:
        """State and version of every ticket, read from the ticketing system's own file."""
        with closing(sqlite3.connect(self.data / "sandbox" / "ticketing.db")) as connection:
            rows = connection.execute("SELECT number, state, version FROM tickets").fetchall()
        return {f"TCK-{number}": (state, version) for number, state, version in rows}

    def effects(self) -> int:
        """How many calls the ticketing system has carried out."""
        with closing(sqlite3.connect(self.data / "sandbox" / "ticketing.db")) as connection:
            return int(connection.execute("SELECT count(*) FROM effects").fetchone()[0])

    async def new_ticket(self, title: str = "A lamp flickers") -> str:
        """A ticket of Rosa's, made in the ticketing system directly."""
        ticketing = self.web.core.connectors[0]
        effect = await ticketing.perform(
            "ticketing.create",
            {"title": title, "requester": ROSA.id},
            key=os.urandom(8).hex(),
            expected=None,
        )
        return effect.record


class Seat:
    """One person at one platform: what they say, see and press there, the same for Slack and Teams."""

    def __init__(self, house: House, platform: str, someone: Someone) -> None:
        self.house = house
        self.name = platform
        self.someone = someone

    @property
    def _platform(self) -> Any:
        return self.house.slack if self.name == "slack" else self.house.teams

    @property
    def user(self) -> str:
        return self.someone.slack if self.name == "slack" else self.someone.teams

    def room(self, *, direct: bool = False) -> str:
        return next(room.id for room in self._platform.rooms(self.user) if room.direct == direct)

    async def say(self, text: str, *, direct: bool = False, thread: str | None = None) -> None:
        await self._platform.say(self.user, self.room(direct=direct), text, thread)

    def seen(self, *, direct: bool = False) -> list[LocalMessage]:
        return list(self._platform.messages(self.room(direct=direct), self.user))

    async def sees(self, *words: str, direct: bool = False) -> LocalMessage:
        """The newest message from the assistant that shows all of the words, waiting for it."""
        return await until(
            lambda: next(
                (
                    message
                    for message in reversed(self.seen(direct=direct))
                    if message.from_assistant and all(word in shown(message) for word in words)
                ),
                None,
            ),
            why=lambda: (
                f"{self.someone.name} on {self.name} never saw {words}; saw "
                + str([shown(m)[:300] for m in self.seen(direct=direct)[-4:]])
            ),
        )

    async def press(self, message: LocalMessage, label: str, **inputs: str) -> str | None:
        """Press a button as the platform would send it; returns what the platform shows the person for it."""
        action = button(message, label)
        if self.name == "teams":
            action = {**action, "inputs": inputs}
        said: str | None = await self._platform.press(self.user, message.room, message.id, action)
        if self.name == "slack" and inputs:
            await until(lambda: self._platform.modal(self.user) is not None)
            await self._platform.submit_modal(self.user, inputs)
        return said

    async def told(self, words: str, before: int, *, said: str | None = None, direct: bool = False) -> str:
        """The outcome shown to this person alone: Slack's ephemeral or Teams' answer to the click."""
        if said is not None and words in said:
            return said
        message = await until(
            lambda: next(
                (
                    m
                    for m in self.seen(direct=direct)[before:]
                    if m.from_assistant and words in shown(m) and (m.only_for == self.user or self.name == "teams")
                ),
                None,
            ),
            why=lambda: (
                f"{self.someone.name} was never told {words!r}; said {said!r}, saw "
                + str([(m.only_for, shown(m)[:200]) for m in self.seen(direct=direct)[before:]])
            ),
        )
        return shown(message)


def shown(message: LocalMessage) -> str:
    """Everything a message says, whatever its shape."""
    found: list[str] = [message.text]

    def walk(value: Any) -> None:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, Mapping):
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                walk(inner)

    walk(message.payload)
    return unescape("\n".join(found))


def buttons(message: LocalMessage) -> dict[str, dict[str, Any]]:
    """The buttons of a message by label, as the platform's own JSON of the pressed element."""
    found: dict[str, dict[str, Any]] = {}

    def walk(value: Any) -> None:
        if isinstance(value, Mapping):
            if value.get("type") == "button" and isinstance(value.get("text"), Mapping):
                found[value["text"]["text"]] = dict(value)
            if value.get("type") == "Action.Execute":
                found[value.get("title", "")] = {"verb": value.get("verb"), "data": value.get("data", {})}
            if value.get("type") == "Action.ShowCard":
                inner = _first_execute(value["card"])
                found[value.get("title", "")] = {"verb": inner.get("verb"), "data": inner.get("data", {})}
                return
            for each in value.values():
                walk(each)
        elif isinstance(value, list | tuple):
            for each in value:
                walk(each)

    walk(message.payload)
    return found


def button(message: LocalMessage, label: str) -> dict[str, Any]:
    """One button; an assertion when the message has none of this label."""
    found = buttons(message)
    assert label in found, f"no button {label!r} among {sorted(found)}"
    return found[label]


def _first_execute(card: Mapping[str, Any]) -> Mapping[str, Any]:
    stack: list[Any] = [card]
    while stack:
        value = stack.pop()
        if isinstance(value, Mapping):
            if value.get("type") == "Action.Execute":
                return value
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
    raise AssertionError("a show-card without an action")


async def until(condition: Callable[[], Any], *, why: Callable[[], str] | None = None) -> Any:
    """Wait for something to become true, looking every 10 ms; the last look's value."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(why() if why else f"it never happened: {condition}")
        await asyncio.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_people(path: Path, *, approvers: tuple[Someone, ...] = (AMIR, NOOR)) -> None:
    """Rosa asks; the approvers sign. Eve is nobody."""
    people = [
        {
            "id": person.id,
            "name": person.name,
            "email": f"{person.id}@example.com",
            "roles": ["employee"],
            "groups": ["approvers", "finance", "security-admins"] if person in approvers else ["support"],
            "slack": [f"{SLACK_TEAM}/{person.slack}"],
            "teams": [f"{TEAMS_TENANT}/{person.teams}"],
        }
        for person in PEOPLE
        if person is not EVE
    ]
    path.write_text(yaml.safe_dump({"people": people}))
