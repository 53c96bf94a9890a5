"""The sandbox ticketing system: a small real one, with its own SQLite file.

It has ids, versions, comments of state, and idempotency keys: a call with a key it has seen answers with the first
result and changes nothing, also when the process died between the call and our bookkeeping. A change carries the
version the caller last saw and is refused when the ticket has moved on.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from actions.catalogue import (
    ActionClass,
    ActionSpec,
    Effect,
    Refused,
    Repeat,
    Reversibility,
    Target,
    TargetChanged,
    Unreachable,
)

TICKET_ID = r"^TCK-[0-9]{1,9}$"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tickets (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    title TEXT NOT NULL,
    description TEXT NOT NULL,
    priority TEXT NOT NULL,
    state TEXT NOT NULL,
    resolution TEXT NOT NULL,
    requester TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS effects (key TEXT PRIMARY KEY, action TEXT NOT NULL, effect TEXT NOT NULL);
"""

SAMPLES: tuple[tuple[str, str, Priority], ...] = (
    ("Printer on the third floor jams on every second page", "Since Monday; the toner is new.", "normal"),
    ("VPN drops every ten minutes from home", "Started after the last client update.", "high"),
    ("New starter needs a laptop by the first", "Design team, external screen too.", "normal"),
)


Priority = Literal["low", "normal", "high", "urgent"]


class CreateTicket(BaseModel):
    """Arguments of `ticketing.create`."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    title: str = Field(min_length=3, max_length=200, description="What is wrong or wanted, in one line.")
    description: str = Field(default="", max_length=4000, description="Everything else that helps.")
    priority: Priority = Field(default="normal", description="How urgent it is.")
    requester: str = Field(
        default="",
        max_length=100,
        description="Filled in by the assistant: who asks.",
        json_schema_extra={"x-filled-by": "assistant"},
    )


class CloseTicket(BaseModel):
    """Arguments of `ticketing.close`."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    ticket: str = Field(pattern=TICKET_ID, description="The ticket's id, like TCK-12.")
    resolution: str = Field(default="", max_length=1000, description="Why it can be closed.")


class MyTickets(BaseModel):
    """Arguments of `ticketing.mine`."""

    model_config = ConfigDict(extra="forbid")

    requester: str = Field(
        default="", description="Filled in by the assistant.", json_schema_extra={"x-filled-by": "assistant"}
    )


@dataclass(frozen=True, slots=True)
class Ticket:
    """One ticket as the system holds it."""

    id: str
    title: str
    description: str
    priority: Priority
    state: str
    """`open` or `closed`."""
    resolution: str
    requester: str
    version: int
    created_at: datetime
    updated_at: datetime


class SandboxTicketing:
    """Connector `ticketing`: create and close tickets, and look them up."""

    name = "ticketing"

    def __init__(self, path: Path, public_url: str, *, samples: bool = False) -> None:
        """Keep tickets in the SQLite file at `path`; records are shown under `public_url`.

        `samples` puts three open tickets into a file that is new, so that there is something to try things on.
        """
        self._path = path
        self._public_url = public_url.rstrip("/")
        self._samples = samples
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    @property
    def actions(self) -> tuple[ActionSpec, ...]:
        return (
            ActionSpec(
                name="ticketing.create",
                version=1,
                title="Create a ticket",
                description="Create a ticket in the ticketing system.",
                arguments=CreateTicket,
                action_class=ActionClass.EXTERNAL,
                reversibility=Reversibility.REVERSIBLE,
                repeat=Repeat.IDEMPOTENT_KEY,
                owner="support",
            ),
            ActionSpec(
                name="ticketing.close",
                version=1,
                title="Close a ticket",
                description="Close an open ticket in the ticketing system.",
                arguments=CloseTicket,
                action_class=ActionClass.DESTRUCTIVE,
                reversibility=Reversibility.COMPENSABLE,
                repeat=Repeat.IDEMPOTENT_KEY,
                owner="support",
                target_argument="ticket",
            ),
            ActionSpec(
                name="ticketing.mine",
                version=1,
                title="List my tickets",
                description="List the open tickets of the person who asks.",
                arguments=MyTickets,
                action_class=ActionClass.READ,
                reversibility=Reversibility.REVERSIBLE,
                repeat=Repeat.NATURAL,
                owner="support",
            ),
        )

    async def read_target(self, action: str, record: str) -> Target:
        ticket = await self.ticket(record)
        if action == "ticketing.close" and ticket.state == "closed":
            raise Refused(f"{ticket.id} is closed already.")
        return Target(ticket.id, ticket.title, str(ticket.version), self.link(ticket.id))

    async def read(self, action: str, arguments: Mapping[str, Any]) -> Sequence[Target]:
        if action != "ticketing.mine":
            raise Refused(f"The ticketing system has nothing to read for {action}.")
        tickets = await self.open_tickets(MyTickets.model_validate(dict(arguments)).requester)
        return [Target(ticket.id, ticket.title, str(ticket.version), self.link(ticket.id)) for ticket in tickets]

    async def perform(self, action: str, arguments: Mapping[str, Any], *, key: str, expected: str | None) -> Effect:
        operations: dict[str, Callable[[sqlite3.Connection], Effect]] = {
            "ticketing.create": lambda db: self._create(db, CreateTicket.model_validate(dict(arguments))),
            "ticketing.close": lambda db: self._close_ticket(db, CloseTicket.model_validate(dict(arguments)), expected),
        }
        if action not in operations:
            raise Refused(f"The ticketing system has no operation {action}.")
        return await asyncio.to_thread(self._once, key, action, operations[action])

    async def find_effect(self, action: str, key: str) -> Effect | None:
        effect: Effect | None = await asyncio.to_thread(self._run, lambda db: _known_effect(db, key))
        return effect

    async def ticket(self, ticket_id: str) -> Ticket:
        """One ticket; raises Refused when there is none of this id."""
        ticket: Ticket = await asyncio.to_thread(self._run, lambda db: self._read(db, ticket_id))
        return ticket

    async def open_tickets(self, requester: str) -> list[Ticket]:
        """A person's open tickets, oldest first."""
        found: list[Ticket] = await asyncio.to_thread(
            self._run,
            lambda db: [
                _ticket(row)
                for row in db.execute(
                    "SELECT * FROM tickets WHERE requester = ? AND state = 'open' ORDER BY number", (requester,)
                )
            ],
        )
        return found

    def link(self, ticket_id: str) -> str:
        """Where a browser shows the ticket."""
        return f"{self._public_url}/records/tickets/{ticket_id}"

    async def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=10, isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(_SCHEMA)
            self._connection = connection
            if self._samples:
                connection.execute("BEGIN IMMEDIATE")
                if connection.execute("SELECT count(*) FROM tickets").fetchone()[0] == 0:
                    for title, description, priority in SAMPLES:
                        _insert(connection, title, description, priority, "sample")
                connection.execute("COMMIT")
        return self._connection

    def _run(self, operation: Callable[[sqlite3.Connection], Any]) -> Any:
        try:
            with self._lock:
                connection = self._open()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    value = operation(connection)
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
                return value
        except sqlite3.Error as error:
            raise Unreachable(f"The ticketing system does not answer ({type(error).__name__}).") from error

    def _once(self, key: str, action: str, operation: Callable[[sqlite3.Connection], Effect]) -> Effect:
        def keyed(db: sqlite3.Connection) -> Effect:
            known = _known_effect(db, key)
            if known is not None:
                return known
            effect = operation(db)
            stored = json.dumps({"record": effect.record, "text": effect.text, "url": effect.url})
            db.execute("INSERT INTO effects (key, action, effect) VALUES (?, ?, ?)", (key, action, stored))
            return effect

        effect: Effect = self._run(keyed)
        return effect

    def _create(self, db: sqlite3.Connection, wanted: CreateTicket) -> Effect:
        number = _insert(db, wanted.title, wanted.description, wanted.priority, wanted.requester)
        ticket_id = f"TCK-{number}"
        return Effect(ticket_id, f"Created {ticket_id}: {wanted.title}", self.link(ticket_id))

    def _close_ticket(self, db: sqlite3.Connection, wanted: CloseTicket, expected: str | None) -> Effect:
        ticket = self._read(db, wanted.ticket)
        if ticket.state == "closed":
            raise Refused(f"{ticket.id} is closed already.")
        if expected is not None and str(ticket.version) != expected:
            raise TargetChanged(f"{ticket.id} was changed by someone else since it was shown. Nothing was closed.")
        db.execute(
            "UPDATE tickets SET state = 'closed', resolution = ?, version = version + 1, updated_at = ?"
            " WHERE number = ?",
            (wanted.resolution, _now(), _number(ticket.id)),
        )
        return Effect(ticket.id, f"Closed {ticket.id}: {ticket.title}", self.link(ticket.id))

    def _read(self, db: sqlite3.Connection, ticket_id: str) -> Ticket:
        row = db.execute("SELECT * FROM tickets WHERE number = ?", (_number(ticket_id),)).fetchone()
        if row is None:
            raise Refused(f"There is no ticket {ticket_id}.")
        return _ticket(row)


def _insert(db: sqlite3.Connection, title: str, description: str, priority: Priority, requester: str) -> int:
    cursor = db.execute(
        "INSERT INTO tickets (title, description, priority, state, resolution, requester, version, created_at,"
        " updated_at) VALUES (?, ?, ?, 'open', '', ?, 1, ?, ?)",
        (title, description, priority, requester, _now(), _now()),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _known_effect(db: sqlite3.Connection, key: str) -> Effect | None:
    row = db.execute("SELECT effect FROM effects WHERE key = ?", (key,)).fetchone()
    return None if row is None else Effect(**json.loads(row["effect"]))


def _ticket(row: sqlite3.Row) -> Ticket:
    return Ticket(
        id=f"TCK-{row['number']}",
        title=row["title"],
        description=row["description"],
        priority=row["priority"],
        state=row["state"],
        resolution=row["resolution"],
        requester=row["requester"],
        version=row["version"],
        created_at=datetime.fromisoformat(row["created_at"]),
        updated_at=datetime.fromisoformat(row["updated_at"]),
    )


def _number(ticket_id: str) -> int:
    try:
        return int(ticket_id.removeprefix("TCK-"))
    except ValueError:
        raise Refused(f"{ticket_id} is not a ticket id; they look like TCK-12.") from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
