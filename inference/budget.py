"""How many tokens an account may use in a UTC day, and the count of what it used.

Invariant: what a server reported is written, once the process ends in order, and calls under way at once overspend by
no more than one call each. The count is kept in this process and read anew from the rows now and then, so that what
other processes spent is seen within `READ_AGAIN`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from inference import usage
from inference.excess import Excess
from inference.purpose import Purpose
from inference.usage import Ledger, Total, Usage
from records.database import Database

READ_AGAIN = timedelta(seconds=15)
"""How old the count of the other processes may be."""
WRITE_AFTER = timedelta(seconds=1)
"""What is spent within this time is written together."""
RESERVED = 2_000
"""Tokens set aside for a call under way: about what a question about a thread takes."""

logger = structlog.get_logger(__name__)


def utc_now() -> datetime:
    """The clock of the house's days."""
    return datetime.now(UTC)


class TokenBudget:
    """The daily budget of every account. `close` it, or the last second's count is lost.

    async with budget.reserved(purpose):  # raises Excess
        await ask_the_model()  # which reports to budget.spent
    """

    def __init__(
        self,
        database: Database,
        *,
        tokens_a_day: int,
        clock: Callable[[], datetime] = utc_now,
        write_after: timedelta = WRITE_AFTER,
    ) -> None:
        """`tokens_a_day` 0 limits nobody; all is counted nevertheless."""
        self._database = database
        self._tokens_a_day = tokens_a_day
        self._clock = clock
        self._write_after = write_after.total_seconds()
        self._accounts: dict[Ledger, _Account] = {}
        self._unwritten: dict[Ledger, Total] = {}
        self._writing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._at_the_rows = asyncio.Lock()

    @asynccontextmanager
    async def reserved(self, purpose: Purpose) -> AsyncIterator[None]:
        """Set tokens aside for one call. Raises `Excess` where the account has none left today.

        The house's own work, under no account, is counted and never limited.
        """
        if not purpose.account or not self._tokens_a_day:
            yield
            return
        account = await self._account(purpose)
        used = account.used
        if used + account.reserved >= self._tokens_a_day:
            raise Excess("tokens", self._exhausted(used))
        account.reserved += RESERVED
        try:
            yield
        finally:
            account.reserved -= RESERVED

    def spent(self, purpose: Purpose, used: Usage) -> None:
        """Count one call; it is written within `write_after`."""
        ledger = self._ledger(purpose)
        self._known(ledger).spent_here += used.prompt_tokens + used.completion_tokens
        self._unwritten[ledger] = self._unwritten.get(ledger, Total()).plus(used)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_soon())

    async def close(self) -> None:
        """Write what is not written yet."""
        self._closing.set()
        if self._writing is not None:
            await self._writing
        await self._write()

    async def _account(self, purpose: Purpose) -> _Account:
        ledger = self._ledger(purpose)
        now = self._clock()
        account = self._known(ledger)
        if account.read_at is None or now - account.read_at >= READ_AGAIN:
            # Not while we write: nobody could say whether what is read has it already.
            async with self._at_the_rows:
                account.stored = (await self._database.read(lambda tx: usage.read(tx, ledger))).tokens
                account.covered = account.written_here
            account.read_at = now
        return account

    def _known(self, ledger: Ledger) -> _Account:
        account = self._accounts.get(ledger)
        if account is None:
            # A call that began yesterday may still report: nobody's count is dropped before it is written.
            yesterday = ledger.day - timedelta(days=1)
            self._accounts = {each: known for each, known in self._accounts.items() if each.day >= yesterday}
            account = self._accounts[ledger] = _Account()
        return account

    def _ledger(self, purpose: Purpose) -> Ledger:
        return Ledger(purpose.tenant, purpose.account, self._clock().astimezone(UTC).date())

    def _exhausted(self, used: int) -> str:
        now = self._clock().astimezone(UTC)
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        minutes = -(-int((midnight - now).total_seconds()) // 60)
        back = f"in {minutes // 60} h {minutes % 60:02d} min, at midnight UTC"
        if used >= self._tokens_a_day:
            return (
                f"You have used {used:,} tokens of the language model today, and {self._tokens_a_day:,} a day are "
                f"yours; it is back for you {back}."
            )
        return (
            f"You have used {used:,} of your {self._tokens_a_day:,} tokens of the language model for today, and the "
            f"rest is set aside for what you have just asked; more is yours {back}."
        )

    async def _write_soon(self) -> None:
        while self._unwritten and not self._closing.is_set():
            try:
                # Closing ends the pause; the write itself is never cut short, or nobody would know whether it counted.
                await asyncio.wait_for(self._closing.wait(), self._write_after)
            except TimeoutError:
                await self._write()

    async def _write(self) -> None:
        async with self._at_the_rows:
            await self._write_all()

    async def _write_all(self) -> None:
        if not self._unwritten:
            return
        spent, self._unwritten = self._unwritten, {}
        try:
            await self._database.write(lambda tx: usage.add(tx, spent))
        except Exception:
            logger.exception("usage_not_written", rows=len(spent))
            for ledger, total in spent.items():
                self._unwritten[ledger] = self._unwritten.get(ledger, Total()).and_also(total)
            return
        for ledger, total in spent.items():
            self._known(ledger).written_here += total.tokens


@dataclass(slots=True)
class _Account:
    """What this process knows of one account's day, in tokens."""

    stored: int = 0
    """What the row said when it was read."""
    spent_here: int = 0
    """Spent in this process since this account is known."""
    written_here: int = 0
    """How much of that has been added to the row."""
    covered: int = 0
    """How much of that was in the row when it was read."""
    reserved: int = 0
    """Set aside for calls under way."""
    read_at: datetime | None = None

    @property
    def used(self) -> int:
        return self.stored + self.spent_here - self.covered
