"""What tests of the engine share: people and places in its words, and observers and clocks in the tests' own hands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from inference.limits import ModelLimits
from inference.model import Label, Tool, Utterance
from inference.purpose import Endpoint, Lane

TINY = ModelLimits(
    first_token=timedelta(milliseconds=150),
    between_tokens=timedelta(milliseconds=150),
    total=timedelta(milliseconds=600),
)
THREAD = (Utterance("1", "Ana", "The login page is down since nine.", datetime(2026, 3, 2, tzinfo=UTC)),)
CLOSE = Tool(
    "tickets.close",
    "Close a ticket",
    {
        "type": "object",
        "properties": {"ticket": {"type": "string", "pattern": "^TCK-[0-9]+$"}},
        "required": ["ticket"],
        "additionalProperties": False,
    },
)
LABELS = (Label("close", "Close a ticket", ("close TCK-1",)), Label("help", "What can you do", ("help",)))


INSIDE = Endpoint("llm.internal/tiny", inside=True, receives="nothing")
OUTSIDE = Endpoint("llm.example.com/large", inside=False, receives="own-words")


class Pause:
    """Time between two probes: passes when a test says so, and moves the breaker's clock with it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._turns = asyncio.Semaphore(0)

    def clock(self) -> float:
        return self.now

    async def __call__(self, seconds: float) -> None:
        await self._turns.acquire()
        self.now += seconds

    def over(self) -> None:
        self._turns.release()


class Seen:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.first_tokens: list[Lane] = []
        self.excesses: list[str] = []

    def model_call(self, call: str, seconds: float, outcome: str) -> None:
        self.calls.append((call, outcome))

    def first_token(self, lane: Lane, seconds: float) -> None:
        assert 0 < seconds < 60
        self.first_tokens.append(lane)

    def excess(self, limit: str) -> None:
        self.excesses.append(limit)


class OwnWordsOnly:
    """A residency rule in the tests' own hands."""

    def refusal(self, endpoint: Endpoint, *, others_words: bool) -> str | None:
        if endpoint.inside or not others_words:
            return None
        return "What others wrote stays inside."


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)
