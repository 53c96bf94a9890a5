"""One way to the database, on SQLite and on PostgreSQL: a function of a transaction, run off the event loop.

Invariant: `write` returns only after the commit is durable, and a function that raises leaves nothing behind.

On SQLite there is one writer thread. It takes every function that waits, gives each a savepoint, and commits once:
sixteen requests that arrive together cost one fsync, which is what makes "stored before acknowledged" affordable.
On PostgreSQL each function has its own connection and transaction, and is run again after a deadlock; so a function
may run more than once and touches nothing but its transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, CursorResult, Engine, Executable, Table, create_engine, event
from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from records.schema import from_microseconds

T = TypeVar("T")

GROUP_COMMIT = 128
"""Functions that share one commit at most; bounds how long the first of them waits for the last."""
POSTGRES_CONNECTIONS = 8
READERS = 4
BUSY_TIMEOUT_MS = 10_000

_SQLITE_NOW = "SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"
_POSTGRES_NOW = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"
_POSTGRES_RETRY = frozenset({"40001", "40P01"})


class DatabaseUnavailable(Exception):
    """The database cannot be reached or used; the message says where and why, without credentials."""


class Transaction:
    """What a function of the database works with: statements, and the database's clock."""

    __slots__ = ("_clock", "_connection", "dialect")

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self.dialect = connection.dialect.name

    def execute(
        self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """Run a SQLAlchemy Core statement."""
        return self._connection.execute(statement, parameters)

    def insert(self, table: Table) -> PostgresInsert | SqliteInsert:
        """An INSERT that can say what to do when the row is there already (`on_conflict_do_nothing`, `…_do_update`)."""
        return SqliteInsert(table) if self.dialect == "sqlite" else PostgresInsert(table)

    def execute_prepared(self, sql: str, values: Sequence[tuple[Any, ...]]) -> int:
        """Run one statement in the driver's own words for each tuple of values; returns how many rows it changed.

        For what every inbound event needs (`Inbox.store`, `finish_all`, `renew`), where SQLAlchemy costs more than
        the database does; everything else uses `execute`. The text is compiled from a Core
        statement, once; the values are in the form they are stored in, because no column type converts them.
        """
        if self.dialect == "sqlite":
            try:
                return _driver(self._connection).executemany(sql, values).rowcount
            except sqlite3.Error as error:
                raise _as_sqlalchemy_error(sql, error) from error
        return sum(self._connection.exec_driver_sql(sql, each).rowcount for each in values)

    @property
    def now(self) -> datetime:
        """The database's clock, read once a transaction: every row it writes has the same time."""
        return self._clock.now


class Clock:
    """One reading of the database's clock, taken when it is first asked for."""

    __slots__ = ("_now", "_read", "_shift")

    def __init__(self, read: Callable[[], int], shift: Callable[[], timedelta]) -> None:
        self._read = read
        self._shift = shift
        self._now: datetime | None = None

    @property
    def now(self) -> datetime:
        """The time of this reading."""
        if self._now is None:
            self._now = from_microseconds(self._read()) + self._shift()
        return self._now


Work = Callable[[Transaction], T]


class Database:
    """The one door to stored data.

        approval = await database.read(lambda tx: approvals.find(tx, approval_id))
        outcome = await database.write(lambda tx: approvals.sign(tx, ...))

    `transact` and `query` are the same for code that has no event loop (the command line).
    """

    def __init__(self, url: str, *, clock_shift: Callable[[], timedelta] = timedelta) -> None:
        """Open the database at a SQLAlchemy URL. `clock_shift` is added to its clock, for tests that move time.

        Raises DatabaseUnavailable when the URL cannot be understood or the server does not answer.
        """
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise DatabaseUnavailable(f"{url!r} is not a database URL") from error
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.dialect = parsed.get_backend_name()
        if self.dialect not in ("sqlite", "postgresql"):
            raise DatabaseUnavailable(f"{self.dialect} is not supported; use SQLite or PostgreSQL")
        self._shown = parsed.render_as_string(hide_password=True)
        self._shift = clock_shift
        if self.dialect == "sqlite":
            self.engine = _sqlite_engine(parsed.render_as_string(hide_password=False))
            self._writer: _SqliteWriter | None = _SqliteWriter(self.engine, self._transaction)
            self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="database-read")
        else:
            self.engine = create_engine(
                parsed,
                pool_size=POSTGRES_CONNECTIONS,
                max_overflow=0,
                pool_pre_ping=True,
                connect_args={"connect_timeout": 5},
                # Errors end up in logs, and parameters are what people wrote.
                hide_parameters=True,
            )
            self._writer = None
            self._pool = ThreadPoolExecutor(POSTGRES_CONNECTIONS, thread_name_prefix="database")

    def check(self) -> None:
        """Ask the database one question; raises DatabaseUnavailable when it does not answer."""
        try:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("SELECT 1")
        except SQLAlchemyError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise DatabaseUnavailable(f"the database {self._shown} does not answer: {reason}") from error

    async def write(self, work: Work[T]) -> T:
        """Run a function in one transaction and return its value once it is durable.

        Cancelling it before its turn takes the function back; afterwards it is carried out and nobody is told.
        """
        loop = asyncio.get_running_loop()
        if self._writer is None:
            return await loop.run_in_executor(self._pool, self._postgres_write, work)
        future: asyncio.Future[T] = loop.create_future()
        self._writer.submit(_Waiting(work, future, loop))
        return await future

    async def read(self, work: Work[T]) -> T:
        """Run a function that only reads; it sees one consistent state."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self.query, work)

    def transact(self, work: Work[T]) -> T:
        """`write` for callers without an event loop."""
        if self._writer is None:
            return self._postgres_write(work)
        future: Future[T] = Future()
        self._writer.submit(_Waiting(work, future, None))
        return future.result()

    def query(self, work: Work[T]) -> T:
        """`read` for callers without an event loop."""
        with self.engine.connect() as connection:
            if self.dialect != "sqlite":
                # PostgreSQL's default looks anew at each statement; one consistent state is one snapshot.
                connection.execution_options(isolation_level="REPEATABLE READ")
                return work(self._transaction(connection))
            driver = _driver(connection)
            driver.execute("BEGIN")
            try:
                return work(self._transaction(connection))
            finally:
                driver.execute("ROLLBACK")

    def close(self) -> None:
        """Finish what was handed in and release every connection."""
        if self._writer is not None:
            self._writer.close()
        self._pool.shutdown(wait=True)
        self.engine.dispose()

    def _transaction(self, connection: Connection) -> Transaction:
        def read_clock() -> int:
            if self.dialect == "sqlite":
                return int(_driver(connection).execute(_SQLITE_NOW).fetchone()[0])
            return int(connection.exec_driver_sql(_POSTGRES_NOW).scalar_one())

        return Transaction(connection, Clock(read_clock, self._shift))

    def _postgres_write(self, work: Work[T]) -> T:
        for last_try in (False, False, True):
            try:
                with self.engine.begin() as connection:
                    return work(self._transaction(connection))
            except DBAPIError as error:
                if last_try or getattr(error.orig, "sqlstate", None) not in _POSTGRES_RETRY:
                    raise
        raise AssertionError("unreachable")


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=READERS + 1,
        max_overflow=2,
        # Transactions are opened by hand: the driver's own begin is deferred, which would let two writers deadlock.
        isolation_level="AUTOCOMMIT",
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        _use_write_ahead_log(connection)
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch a new file to WAL. Two processes that both try are told "locked" at once, whatever the busy timeout is:
    SQLite does not wait here, so we do."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _as_sqlalchemy_error(sql: str | None, error: sqlite3.Error) -> DBAPIError:
    """The error as SQLAlchemy would raise it, so that callers have one kind to catch."""
    wrapped = DBAPIError.instance(sql, None, error, sqlite3.Error, hide_parameters=True)
    assert isinstance(wrapped, DBAPIError)
    return wrapped


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A function handed to the writer, and who waits for it."""

    work: Work[Any]
    future: asyncio.Future[Any] | Future[Any]
    loop: asyncio.AbstractEventLoop | None
    """The loop the future belongs to; None for a thread that blocks on it."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    waiting: _Waiting
    value: Any = None
    error: BaseException | None = None


class _SqliteWriter:
    """The one thread that writes, on one connection that it keeps.

    Begin, savepoint and commit go straight to the driver: through SQLAlchemy they cost more than what they enclose.
    """

    def __init__(self, engine: Engine, transaction: Callable[[Connection], Transaction]) -> None:
        self._engine = engine
        self._transaction = transaction
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._connection: Connection | None = None

    def submit(self, waiting: _Waiting) -> None:
        # Started on first use: a process that only reads, or that forks before it writes, has no thread to lose.
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="database-write", daemon=True)
                    self._thread.start()
        self._waiting.put(waiting)

    def close(self) -> None:
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        closing = False
        while not closing:
            entry = self._waiting.get()
            group: list[_Waiting] = []
            while True:
                if entry is None:
                    closing = True
                elif not entry.future.cancelled():
                    group.append(entry)
                if closing or len(group) >= GROUP_COMMIT or self._waiting.empty():
                    break
                entry = self._waiting.get()
            if group:
                _tell(self._commit(group))
        self._release_connection()

    def _commit(self, group: list[_Waiting]) -> list[_Outcome]:
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            driver = _driver(self._connection)
            driver.execute("BEGIN IMMEDIATE")
            transaction = self._transaction(self._connection)
            if len(group) == 1:
                outcome = _attempt(group[0], transaction)
                driver.execute("COMMIT" if outcome.error is None else "ROLLBACK")
                return [outcome]
            outcomes = []
            for waiting in group:
                driver.execute("SAVEPOINT one")
                outcome = _attempt(waiting, transaction)
                if outcome.error is not None:
                    driver.execute("ROLLBACK TO one")
                driver.execute("RELEASE one")
                outcomes.append(outcome)
            driver.execute("COMMIT")
            return outcomes
        except BaseException as problem:  # the whole group failed to become durable, so each of them did
            # Whatever state the connection is in, closing it rolls back; the next group gets a new one.
            self._release_connection()
            failure = _as_sqlalchemy_error(None, problem) if isinstance(problem, sqlite3.Error) else problem
            return [_Outcome(waiting, error=failure) for waiting in group]

    def _release_connection(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None


def _attempt(waiting: _Waiting, transaction: Transaction) -> _Outcome:
    try:
        return _Outcome(waiting, value=waiting.work(transaction))
    except StopIteration as error:  # the one exception that a future refuses to carry
        failure = RuntimeError("a function of the database raised StopIteration")
        failure.__cause__ = error
        return _Outcome(waiting, error=failure)
    except Exception as error:
        return _Outcome(waiting, error=error)


def _tell(outcomes: list[_Outcome]) -> None:
    """Wake everybody of a group: one call into an event loop for all who wait on it, however many they are."""
    by_loop: dict[asyncio.AbstractEventLoop | None, list[_Outcome]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome.waiting.loop, []).append(outcome)
    for loop, theirs in by_loop.items():
        if loop is None:
            _resolve(theirs)
        else:
            # A closed loop: whoever waited on it is gone as well.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, theirs)


def _resolve(outcomes: list[_Outcome]) -> None:
    for outcome in outcomes:
        future = outcome.waiting.future
        if future.done():
            continue
        if outcome.error is None:
            future.set_result(outcome.value)
        else:
            future.set_exception(outcome.error)
