"""What the rest of the house asks: the language model while it answers, the offline engine when it does not.

Whoever asks always learns who answered, and why it was not the language model, in a sentence for people.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from inference.breaker import Circuit, CircuitBreaker, CircuitOpen
from inference.model import (
    AssistantModel,
    Classification,
    Facts,
    Label,
    ModelUnavailable,
    PlanProposal,
    Summary,
    Tool,
    Utterance,
)
from inference.observe import Observe, ignore

T = TypeVar("T")

AWAY = "The language model is not answering, so this comes from the offline engine."
"""`degraded` of whatever the offline engine answered in the language model's place."""

INTERRUPTED = "The language model stopped in the middle of this answer, so it is not complete."
"""`degraded` of a reply that broke off; its last piece says the same to the reader."""


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """An answer, and whose it is."""

    value: T
    engine: str
    """`AssistantModel.name` of what answered."""
    degraded: str | None = None
    """A sentence for people where the language model should have answered and did not; None otherwise."""


class ReplyStream:
    """A reply as it is written. Use it as a context manager, so that leaving early aborts the request.

        async with engine.reply(words, facts) as reply:
            async for piece in reply:
                ...
        reply.engine, reply.degraded

    A model that fails before its first piece is replaced by the offline engine, whose pieces are then all there is. One
    that fails later is not: what was read cannot be unread. The stream then ends with one more piece that says so.
    Raises `ModelUnavailable` only where the offline engine itself cannot answer. Read it once.
    """

    engine: str
    """Who is answering; final from the first piece on."""
    degraded: str | None
    """See `Answered.degraded`; final once the stream has ended."""

    def __init__(self, pieces: Callable[[ReplyStream], AsyncGenerator[str, None]], engine: str) -> None:
        self.engine = engine
        self.degraded = None
        self._pieces = pieces(self)

    def __aiter__(self) -> AsyncIterator[str]:
        return self._pieces

    async def text(self) -> str:
        """All of it, once it is complete."""
        async with self:
            return "".join([piece async for piece in self])

    async def aclose(self) -> None:
        """Stop; a request under way is aborted."""
        await self._pieces.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Engine:
    """The language model with the offline engine behind it; without a `primary`, the offline engine alone.

    Methods are those of `AssistantModel`, answered as `Answered[...]` or `ReplyStream`.
    """

    def __init__(
        self,
        offline: AssistantModel,
        primary: AssistantModel | None = None,
        *,
        breaker: CircuitBreaker | None = None,
        observe: Observe = ignore,
    ) -> None:
        """`observe` hears of every question: `answered`, `handed over`, `interrupted`, `unavailable` or `cancelled`."""
        self._offline = offline
        self._primary = primary
        self._breaker = breaker or CircuitBreaker()
        self._observe = observe

    @property
    def has_language_model(self) -> bool:
        """Whether there is more than the offline engine; it may be away."""
        return self._primary is not None

    @property
    def state(self) -> str:
        """For health pages: `offline engine`, `configured`, or `away` while the offline engine stands in."""
        if self._primary is None:
            return self._offline.name
        return "configured" if self._breaker.circuit is Circuit.CLOSED else "away"

    def reply(self, words: str, facts: Facts) -> ReplyStream:
        """Answer free text, piece by piece."""
        return ReplyStream(lambda stream: self._replying(stream, words, facts), (self._primary or self._offline).name)

    async def summarise(self, thread: Sequence[Utterance]) -> Answered[Summary]:
        """Put a thread in short."""
        return await self._ask("summarise", lambda model: model.summarise(thread))

    async def draft(self, instruction: str, thread: Sequence[Utterance]) -> Answered[str]:
        """Write a reply to a thread for the person to edit and send themselves."""
        return await self._ask("draft", lambda model: model.draft(instruction, thread))

    async def classify(self, text: str, labels: Sequence[Label]) -> Answered[Classification]:
        """Pick the label a text belongs to, or none."""
        return await self._ask("classify", lambda model: model.classify(text, labels))

    async def propose_plan(
        self, words: str, tools: Sequence[Tool], thread: Sequence[Utterance]
    ) -> Answered[PlanProposal | None]:
        """Turn a request into calls of the tools given; a value of None when it asks for none of them."""
        return await self._ask("propose_plan", lambda model: model.propose_plan(words, tools, thread))

    async def close(self) -> None:
        """Close both engines."""
        if self._primary is not None:
            await self._primary.close()
        await self._offline.close()

    async def _ask(self, kind: str, question: Callable[[AssistantModel], Awaitable[T]]) -> Answered[T]:
        with _Measured(self._observe, kind) as measured:
            if self._primary is not None:
                try:
                    with self._breaker.attempt(ModelUnavailable):
                        value = await question(self._primary)
                    measured.outcome = "answered"
                    return Answered(value, self._primary.name)
                except (ModelUnavailable, CircuitOpen):
                    measured.handed_over = True
            value = await question(self._offline)
            measured.outcome = "handed over" if measured.handed_over else "answered"
            return Answered(value, self._offline.name, AWAY if measured.handed_over else None)

    async def _replying(self, stream: ReplyStream, words: str, facts: Facts) -> AsyncGenerator[str, None]:
        with _Measured(self._observe, "reply") as measured:
            if self._primary is not None:
                begun = False
                try:
                    with self._breaker.attempt(ModelUnavailable):
                        async with aclosing(_closable(self._primary.reply(words, facts))) as pieces:
                            async for piece in pieces:
                                begun = True
                                yield piece
                    measured.outcome = "answered"
                    return
                except (ModelUnavailable, CircuitOpen):
                    if begun:
                        measured.outcome = "interrupted"
                        stream.degraded = INTERRUPTED
                        yield f"\n\n({INTERRUPTED})"
                        return
                    measured.handed_over = True
                    stream.engine, stream.degraded = self._offline.name, AWAY
            async with aclosing(_closable(self._offline.reply(words, facts))) as pieces:
                async for piece in pieces:
                    yield piece
            measured.outcome = "handed over" if measured.handed_over else "answered"


class _Measured:
    """Reports one question when it ends, however it ends."""

    def __init__(self, observe: Observe, kind: str) -> None:
        self._observe = observe
        self._kind = kind
        self._started = time.perf_counter()
        self.outcome = "cancelled"
        self.handed_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome = "unavailable" if isinstance(error, Exception) else self.outcome
        self._observe(self._kind, time.perf_counter() - self._started, outcome)


async def _closable(pieces: AsyncIterator[str]) -> AsyncGenerator[str, None]:
    """Any iterator of pieces as a generator that closes it, where it can be closed, when it is closed itself."""
    try:
        async for piece in pieces:
            yield piece
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()
