"""Who waits for the vectors of which texts, and whose text is next.

Callers take turns text by text, so that a person's one message waits for no long thread; a text that several want is
taken once. Not thread-safe: whoever shares a rota between threads guards it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]


class Caller:
    """One request: `await caller.done`, then `caller.found` has a vector for every text."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.waiting = deque(dict.fromkeys(texts))
        self.missing = len(self.waiting)
        self.found: dict[str, Vector] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Rota:
    """The callers that wait.

    caller = rota.enter(["close TCK-12", "hello"])
    for text in rota.take(most=64):
        rota.settle(text, vector)       # or the exception that it ended with
    """

    def __init__(self) -> None:
        self._callers: deque[Caller] = deque()
        self._wanted_by: defaultdict[str, list[Caller]] = defaultdict(list)
        self._under_way: set[str] = set()

    def enter(self, texts: Sequence[str]) -> Caller:
        """Put a caller with at least one text at the end of the line."""
        caller = Caller(texts)
        self._callers.append(caller)
        for text in caller.waiting:
            self._wanted_by[text].append(caller)
        return caller

    def leave(self, caller: Caller) -> None:
        """Forget a caller that is answered or no longer waits; its texts are taken only where others want them."""
        if caller in self._callers:
            self._callers.remove(caller)
        for text in caller.waiting:
            self._forget(text, caller)

    def take(self, most: int) -> list[str]:
        """The next texts, one of each caller in turn; they are under way until they are settled."""
        taken: list[str] = []
        passed = 0
        while len(taken) < most and passed < len(self._callers):
            caller = self._callers[0]
            self._callers.rotate(-1)
            text = self._next_of(caller)
            if text is None:
                passed += 1
                continue
            passed = 0
            self._under_way.add(text)
            taken.append(text)
        return taken

    def settle(self, text: str, outcome: Vector | Exception) -> None:
        """Give every caller that wants a text its vector, or end its wait with the exception."""
        self._under_way.discard(text)
        for caller in self._wanted_by.pop(text, ()):
            if caller.done.done():
                continue
            if isinstance(outcome, Exception):
                caller.done.set_exception(outcome)
                continue
            caller.found[text] = outcome
            caller.missing -= 1
            if caller.missing == 0:
                caller.done.set_result(None)

    def abandon(self, error: Exception) -> None:
        """End every wait with an exception."""
        for text in list(self._wanted_by):
            self.settle(text, error)

    def _next_of(self, caller: Caller) -> str | None:
        if caller.done.done():
            return None
        while caller.waiting:
            text = caller.waiting.popleft()
            if text not in caller.found and text not in self._under_way:
                return text
        return None

    def _forget(self, text: str, caller: Caller) -> None:
        wanted_by = self._wanted_by.get(text)
        if wanted_by is not None and caller in wanted_by:
            wanted_by.remove(caller)
            if not wanted_by:
                del self._wanted_by[text]


class RememberedVectors:
    """The vectors of the newest texts: what is asked again and again (intents, a thread that grows) is ready."""

    def __init__(self, limit: int) -> None:
        """At most `limit` texts; a vector of 384 numbers takes 1.5 KB."""
        self._limit = limit
        self._vectors: OrderedDict[str, Vector] = OrderedDict()

    def __len__(self) -> int:
        return len(self._vectors)

    def of(self, texts: Sequence[str]) -> dict[str, Vector]:
        """Those of the texts that are remembered."""
        found = {text: self._vectors[text] for text in texts if text in self._vectors}
        for text in found:
            self._vectors.move_to_end(text)
        return found

    def add(self, vectors: dict[str, Vector]) -> None:
        """Remember these, and forget those unused for longest."""
        self._vectors.update(vectors)
        for text in vectors:
            self._vectors.move_to_end(text)
        while len(self._vectors) > self._limit:
            self._vectors.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        self._vectors.clear()
