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
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
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

BUSY_SECONDS = 10.0
"""How long one process waits for another that writes to the same file."""

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
    due TEXT,
    assignee TEXT NOT NULL DEFAULT '',
    version INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS effects (key TEXT PRIMARY KEY, action TEXT NOT NULL, effect TEXT NOT NULL);
"""

_ADDED_COLUMNS = {"due": "TEXT", "assignee": "TEXT NOT NULL DEFAULT ''"}
"""Columns that files made by an earlier version lack."""

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
    due: date | None = Field(default=None, description="The day it has to be done by.")
    assignee: str = Field(
        default="",
        max_length=100,
        description="Who is to do it, by the organisation's own short name for the person.",
        json_schema_extra={"x-slot": "person"},
    )
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


class ReadTicket(BaseModel):
    """Arguments of `ticketing.read`."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    ticket: str = Field(pattern=TICKET_ID, description="The ticket's id, like TCK-12.")


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
    due: date | None
    """The day it has to be done by."""
    assignee: str
    """Id of the person who is to do it; "" for nobody yet."""
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
                version=2,
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
            ActionSpec(
                name="ticketing.read",
                version=1,
                title="Read a ticket",
                description="Read one ticket.",
                arguments=ReadTicket,
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
        if action == "ticketing.read":
            one = await self.ticket(ReadTicket.model_validate(dict(arguments)).ticket)
            return [Target(one.id, one.title, str(one.version), self.link(one.id), one.description)]
        if action != "ticketing.mine":
            raise Refused(f"The ticketing system has nothing to read for {action}.")
        tickets = await self.open_tickets(MyTickets.model_validate(dict(arguments)).requester)
        return [Target(ticket.id, _line(ticket), str(ticket.version), self.link(ticket.id)) for ticket in tickets]

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
            connection = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            connection.row_factory = sqlite3.Row
            _use_write_ahead_log(connection)
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(_SCHEMA)
            # Two processes may open an old file at once: one of them adds the columns, the other sees them.
            connection.execute("BEGIN IMMEDIATE")
            _add_columns(connection)
            if self._samples and connection.execute("SELECT count(*) FROM tickets").fetchone()[0] == 0:
                for title, description, priority in SAMPLES:
                    sample = CreateTicket(title=title, description=description, priority=priority, requester="sample")
                    _insert(connection, sample)
            connection.execute("COMMIT")
            self._connection = connection
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
        ticket_id = f"TCK-{_insert(db, wanted)}"
        text = f"Created {ticket_id}: {wanted.title}{_terms(wanted.due, wanted.assignee)}"
        return Effect(ticket_id, text, self.link(ticket_id))

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


def _use_write_ahead_log(db: sqlite3.Connection) -> None:
    """Switch a file to WAL. SQLite tells the second of two processes that try at once "locked", whatever the busy
    timeout is, so the waiting is done here (on the connector's own thread)."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _add_columns(db: sqlite3.Connection) -> None:
    known = {row["name"] for row in db.execute("PRAGMA table_info(tickets)")}
    for name, kind in _ADDED_COLUMNS.items():
        if name not in known:
            db.execute(f"ALTER TABLE tickets ADD COLUMN {name} {kind}")


def _insert(db: sqlite3.Connection, wanted: CreateTicket) -> int:
    cursor = db.execute(
        "INSERT INTO tickets (title, description, priority, state, resolution, requester, due, assignee, version,"
        " created_at, updated_at) VALUES (?, ?, ?, 'open', '', ?, ?, ?, 1, ?, ?)",
        (
            wanted.title,
            wanted.description,
            wanted.priority,
            wanted.requester,
            None if wanted.due is None else wanted.due.isoformat(),
            wanted.assignee,
            _now(),
            _now(),
        ),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _line(ticket: Ticket) -> str:
    """A ticket's title with what a list of tickets is read for."""
    return ticket.title + _terms(ticket.due, ticket.assignee)


def _terms(due: date | None, assignee: str) -> str:
    terms = [f"due {due.isoformat()}"] if due is not None else []
    terms += [f"assigned to {assignee}"] if assignee else []
    return f" ({', '.join(terms)})" if terms else ""


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
        due=None if row["due"] is None else date.fromisoformat(row["due"]),
        assignee=row["assignee"],
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
