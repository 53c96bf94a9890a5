"""One way to the database, on SQLite and on PostgreSQL: a function of a transaction, run off the event loop.

Invariant: `write` returns only after the commit is durable, and a function that raises leaves nothing behind.

On SQLite there is one writer thread. It takes every function that waits, gives each a savepoint, and commits once:
sixteen requests that arrive together cost one fsync, which is what makes "stored before acknowledged" affordable.
On PostgreSQL each function has its own connection and transaction, and is run again after a deadlock.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, CursorResult, Engine, Executable, create_engine, event
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

    __slots__ = ("_connection", "_now", "_now_sql", "_shift", "dialect")

    def __init__(self, connection: Connection, now_sql: str, shift: Callable[[], timedelta]) -> None:
        self._connection = connection
        self.dialect = connection.dialect.name
        self._now_sql = now_sql
        self._shift = shift
        self._now: datetime | None = None

    def execute(
        self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """Run a SQLAlchemy Core statement."""
        return self._connection.execute(statement, parameters)

    @property
    def now(self) -> datetime:
        """The database's clock, read once a transaction: every row it writes has the same time."""
        if self._now is None:
            value = self._connection.exec_driver_sql(self._now_sql).scalar_one()
            self._now = from_microseconds(int(value)) + self._shift()
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
            self._now_sql = _SQLITE_NOW
            self._writer: _SqliteWriter | None = _SqliteWriter(self.engine, self._transaction)
            self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="database-read")
        else:
            self.engine = create_engine(
                parsed,
                pool_size=POSTGRES_CONNECTIONS,
                max_overflow=0,
                pool_pre_ping=True,
                connect_args={"connect_timeout": 5},
            )
            self._now_sql = _POSTGRES_NOW
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
        """Run a function in one transaction and return its value once it is durable."""
        return await asyncio.wrap_future(self._submit(work))

    async def read(self, work: Work[T]) -> T:
        """Run a function that only reads; it sees one consistent state."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self.query, work)

    def transact(self, work: Work[T]) -> T:
        """`write` for callers without an event loop."""
        return self._submit(work).result()

    def query(self, work: Work[T]) -> T:
        """`read` for callers without an event loop."""
        with self.engine.connect() as connection:
            if self.dialect == "sqlite":
                connection.exec_driver_sql("BEGIN")
            try:
                return work(self._transaction(connection))
            finally:
                if self.dialect == "sqlite":
                    connection.exec_driver_sql("ROLLBACK")

    def close(self) -> None:
        """Finish what was handed in and release every connection."""
        if self._writer is not None:
            self._writer.close()
        self._pool.shutdown(wait=True)
        self.engine.dispose()

    def _transaction(self, connection: Connection) -> Transaction:
        return Transaction(connection, self._now_sql, self._shift)

    def _submit(self, work: Work[T]) -> Future[T]:
        if self._writer is not None:
            return self._writer.submit(work)
        return self._pool.submit(self._postgres_write, work)

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
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


class _SqliteWriter:
    """The one thread that writes."""

    def __init__(self, engine: Engine, transaction: Callable[[Connection], Transaction]) -> None:
        self._engine = engine
        self._transaction = transaction
        self._waiting: queue.SimpleQueue[tuple[Work[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def submit(self, work: Work[T]) -> Future[T]:
        # Started on first use: a process that only reads, or that forks before it writes, has no thread to lose.
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="database-write", daemon=True)
                    self._thread.start()
        future: Future[T] = Future()
        self._waiting.put((work, future))
        return future

    def close(self) -> None:
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        closing = False
        while not closing:
            entry = self._waiting.get()
            group: list[tuple[Work[Any], Future[Any]]] = []
            while True:
                if entry is None:
                    closing = True
                elif entry[1].set_running_or_notify_cancel():
                    group.append(entry)
                if closing or len(group) >= GROUP_COMMIT or self._waiting.empty():
                    break
                entry = self._waiting.get()
            if group:
                self._commit(group)

    def _commit(self, group: list[tuple[Work[Any], Future[Any]]]) -> None:
        settled: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                try:
                    for work, future in group:
                        settled.append((future, *self._attempt(connection, work)))
                except BaseException:
                    connection.exec_driver_sql("ROLLBACK")
                    raise
                connection.exec_driver_sql("COMMIT")
        except BaseException as failure:  # the whole group failed to become durable, so each of them did
            for _, future in group:
                future.set_exception(failure)
            return
        for future, value, error in settled:
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

    def _attempt(self, connection: Connection, work: Work[Any]) -> tuple[Any, BaseException | None]:
        connection.exec_driver_sql("SAVEPOINT one")
        try:
            value = work(self._transaction(connection))
        except Exception as error:
            connection.exec_driver_sql("ROLLBACK TO one")
            connection.exec_driver_sql("RELEASE one")
            return None, error
        connection.exec_driver_sql("RELEASE one")
        return value, None
