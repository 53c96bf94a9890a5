"""How many requests may be under way to one model server: in all, for one tenant, and for work in the background.

Who comes first waits least: first in, first out among those who may go, people before background work. A place is
always given back, whoever is cancelled when. All of it runs on one event loop; between two awaits nobody else acts,
so no lock is needed.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from inference.excess import Excess

SENTENCES = {
    "all": "Too many people are asking the language model at once; it will be free again in a moment.",
    "tenant": "Your organisation has as many questions with the language model as it may have at once; it will be free "
    "again in a moment.",
    "background": "The language model has as much background work as it may have at once; people come first.",
}


class Gate:
    """The places of one model server.

    async with gate.place("T1", background=False):  # waits for one; raises Excess when none came in time
        await ask_the_server()
    """

    def __init__(
        self,
        *,
        in_all: int = 64,
        per_tenant: int = 48,
        background: int = 8,
        patience: timedelta = timedelta(seconds=2),
    ) -> None:
        """`patience`: how long anybody waits for a place. The limits are numbers of requests, each at least 1."""
        if min(in_all, per_tenant, background) < 1:
            raise ValueError(f"limits must be at least 1, not {in_all}, {per_tenant}, {background}")
        if patience <= timedelta(0):
            raise ValueError(f"patience must be positive, not {patience}")
        self._in_all = in_all
        self._per_tenant = per_tenant
        self._background = background
        self._patience = patience.total_seconds()
        self._under_way = 0
        self._background_under_way = 0
        self._of_tenant: Counter[str] = Counter()
        self._queues = {False: _Queue(), True: _Queue()}
        self._arrivals = 0

    @property
    def under_way(self) -> int:
        """Places taken now."""
        return self._under_way

    @property
    def waiting(self) -> int:
        """Requests that wait for a place now."""
        return sum(len(queue) for queue in self._queues.values())

    @asynccontextmanager
    async def place(self, tenant: str, *, background: bool = False) -> AsyncIterator[None]:
        """Hold one place. Raises `Excess` when none came free in time, or what `turn_away` was given."""
        await self._enter(tenant, background)
        try:
            yield
        finally:
            self._leave(tenant, background)

    def turn_away(self, why: Callable[[], Exception]) -> None:
        """Raise `why()` in everybody who waits: what they wait for is gone."""
        for queue in self._queues.values():
            for waiter in queue.clear():
                if not waiter.done():
                    waiter.set_exception(why())

    async def _enter(self, tenant: str, background: bool) -> None:
        # Whoever still waits may not go now (`_admit` saw to it), so nobody who may go is overtaken here.
        if self._obstacle(tenant, background) is None:
            self._take(tenant, background)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._queues[background]
        self._arrivals += 1
        queue.append(tenant, self._arrivals, waiter)
        try:
            async with asyncio.timeout(self._patience):
                await waiter
        except BaseException as error:
            limit = self._obstacle(tenant, background) or "all"
            if queue.discard(tenant, waiter):
                waiter.cancel()
            elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # The place came in the same moment as the cancellation or the end of patience.
                self._leave(tenant, background)
            if isinstance(error, TimeoutError):
                raise Excess(limit, SENTENCES[limit]) from None
            raise

    def _leave(self, tenant: str, background: bool) -> None:
        self._under_way -= 1
        self._background_under_way -= background
        self._of_tenant[tenant] -= 1
        if not self._of_tenant[tenant]:
            del self._of_tenant[tenant]
        self._admit()

    def _take(self, tenant: str, background: bool) -> None:
        self._under_way += 1
        self._background_under_way += background
        self._of_tenant[tenant] += 1

    def _admit(self) -> None:
        """Give every place that may be taken to the one who has waited longest for it."""
        for background in (False, True):
            queue = self._queues[background]
            while self._under_way < self._in_all:
                free = [tenant for tenant in queue.tenants if self._obstacle(tenant, background) is None]
                if not free:
                    break
                tenant, waiter = queue.pop_first(free)
                if not waiter.done():
                    self._take(tenant, background)
                    waiter.set_result(None)

    def _obstacle(self, tenant: str, background: bool) -> str | None:
        """Which limit keeps a request out now; None where none does."""
        if self._under_way >= self._in_all:
            return "all"
        if self._of_tenant[tenant] >= self._per_tenant:
            return "tenant"
        if background and self._background_under_way >= self._background:
            return "background"
        return None


class _Queue:
    """Waiters in the order they came, kept by tenant, so that one tenant's crowd costs nobody else a search."""

    def __init__(self) -> None:
        self._by_tenant: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}

    def __len__(self) -> int:
        return sum(len(waiters) for waiters in self._by_tenant.values())

    @property
    def tenants(self) -> list[str]:
        return list(self._by_tenant)

    def append(self, tenant: str, arrival: int, waiter: asyncio.Future[None]) -> None:
        self._by_tenant.setdefault(tenant, deque()).append((arrival, waiter))

    def pop_first(self, tenants: list[str]) -> tuple[str, asyncio.Future[None]]:
        """The waiter of these tenants who came first."""
        first = min(tenants, key=lambda tenant: self._by_tenant[tenant][0][0])
        _, waiter = self._by_tenant[first].popleft()
        if not self._by_tenant[first]:
            del self._by_tenant[first]
        return first, waiter

    def discard(self, tenant: str, waiter: asyncio.Future[None]) -> bool:
        """Take one out; False where it was not waiting any more."""
        waiters = self._by_tenant.get(tenant, deque())
        for entry in waiters:
            if entry[1] is waiter:
                waiters.remove(entry)
                if not waiters:
                    del self._by_tenant[tenant]
                return True
        return False

    def clear(self) -> list[asyncio.Future[None]]:
        """Take everybody out."""
        everybody = [waiter for waiters in self._by_tenant.values() for _, waiter in waiters]
        self._by_tenant.clear()
        return everybody
