"""What the rest of the house asks: the language model while it answers, the offline engine when it does not.

Whoever asks always learns who answered, and why it was not the language model, in a sentence for people.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Generic, Self, TypeVar

from inference.budget import TokenBudget
from inference.excess import Excess
from inference.model import (
    AssistantModel,
    Classification,
    Facts,
    Label,
    ModelUnavailable,
    PlanProposal,
    Summary,
    Surroundings,
    Tool,
    Utterance,
)
from inference.observe import EngineObserver, Unobserved
from inference.purpose import Endpoint, Lane, Purpose
from inference.tier import Tier, closable

T = TypeVar("T")

AWAY = "The language model is not answering, so this comes from the offline engine."
"""`degraded` of whatever the offline engine answered in the language model's place."""

INSTEAD = "This comes from the offline engine."
"""Ends `degraded` where it was not the language model that failed: a limit of ours was met, or nothing may go there."""

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
    """The language model with the offline engine behind it; with no tier, the offline engine alone.

        answered = await engine.on_behalf_of(purpose).summarise(thread)

    Methods are those of `AssistantModel`, answered as `Answered[...]` or `ReplyStream`. The purpose's lane chooses who
    is asked: the fast tier where somebody waits; the rich one for work in the background, and the fast one for it too
    where the rich one is missing, away or not allowed. Nothing goes to a tier that the purpose's residency refuses.
    """

    def __init__(
        self,
        offline: AssistantModel,
        fast: Tier | None = None,
        rich: Tier | None = None,
        *,
        budget: TokenBudget | None = None,
        observer: EngineObserver | None = None,
    ) -> None:
        """Asks in the house's own name, and so only servers inside, until it is bound by `on_behalf_of`."""
        self._offline = offline
        self._fast = fast
        self._rich = rich
        self._budget = budget
        self._observer = observer or Unobserved()
        self._purpose = Purpose()

    def on_behalf_of(self, purpose: Purpose) -> Engine:
        """The same engine asking for a purpose: cheap, with the same tiers, limits and budget. Only the first is
        closed."""
        bound = copy(self)
        bound._purpose = purpose
        return bound

    @property
    def has_language_model(self) -> bool:
        """Whether there is more than the offline engine; it may be away."""
        return self._fast is not None

    @property
    def state(self) -> str:
        """For health pages: `offline engine`, `configured`, or `away` while the offline engine stands in."""
        if self._fast is None:
            return self._offline.name
        return "away" if self._fast.away else "configured"

    @property
    def tiers(self) -> Mapping[Lane, Tier]:
        """What is configured, by the lane it is for."""
        both = {Lane.FAST: self._fast, Lane.RICH: self._rich}
        return {lane: tier for lane, tier in both.items() if tier is not None}

    def reply(self, words: str, facts: Facts) -> ReplyStream:
        """Answer free text, piece by piece."""
        way = self._way(others_words=bool(facts.thread))
        first = way.tiers[0][1].name if way.tiers else self._offline.name
        return ReplyStream(lambda stream: self._replying(stream, way, words, facts), first)

    async def summarise(self, thread: Sequence[Utterance]) -> Answered[Summary]:
        """Put a thread in short."""
        return await self._ask("summarise", lambda model, _: model.summarise(thread), others_words=True)

    async def draft(self, instruction: str, thread: Sequence[Utterance]) -> Answered[str]:
        """Write a reply to a thread for the person to edit and send themselves."""
        return await self._ask("draft", lambda model, _: model.draft(instruction, thread), others_words=bool(thread))

    async def classify(self, text: str, labels: Sequence[Label]) -> Answered[Classification]:
        """Pick the label a text belongs to, or none."""
        return await self._ask("classify", lambda model, _: model.classify(text, labels), others_words=False)

    async def propose_plan(
        self,
        words: str,
        tools: Sequence[Tool],
        thread: Sequence[Utterance],
        surroundings: Surroundings | None = None,
    ) -> Answered[PlanProposal | None]:
        """Turn a request into calls of the tools given; a value of None when it asks for none of them.

        A server that may have only the requester's own words is not told of the organisation's people either.
        """

        def question(model: AssistantModel, endpoint: Endpoint | None) -> Awaitable[PlanProposal | None]:
            told = surroundings
            if told is not None and endpoint is not None and self._refusal(endpoint, others_words=True) is not None:
                told = replace(told, people=())
            return model.propose_plan(words, tools, thread, told)

        return await self._ask("propose_plan", question, others_words=bool(thread))

    async def close(self) -> None:
        """Close the tiers, count what they used, and close the offline engine."""
        for tier in self.tiers.values():
            await tier.close()
        if self._budget is not None:
            await self._budget.close()
        await self._offline.close()

    async def _ask(
        self,
        kind: str,
        question: Callable[[AssistantModel, Endpoint | None], Awaitable[T]],
        *,
        others_words: bool,
    ) -> Answered[T]:
        way = self._way(others_words=others_words)
        with _Measured(self._observer, kind) as measured:
            try:
                async with self._reserved(way):
                    for _, tier in way.tiers:
                        try:
                            value = await tier.ask(self._purpose, partial(_put, question, tier.endpoint))
                        except ModelUnavailable as problem:
                            self._note(way, problem)
                            continue
                        measured.outcome = "answered"
                        return Answered(value, tier.name)
            except Excess as problem:
                self._note(way, problem)
            value = await question(self._offline, None)
            measured.outcome = "handed over" if way.degraded else "answered"
            return Answered(value, self._offline.name, way.degraded)

    async def _replying(self, stream: ReplyStream, way: _Way, words: str, facts: Facts) -> AsyncGenerator[str, None]:
        started = time.perf_counter()
        with _Measured(self._observer, "reply") as measured:
            try:
                async with self._reserved(way):
                    for lane, tier in way.tiers:
                        stream.engine = tier.name
                        begun = False
                        try:
                            asked = tier.stream(self._purpose, lambda model: model.reply(words, facts))
                            async with aclosing(asked) as pieces:
                                async for piece in pieces:
                                    if not begun:
                                        begun = True
                                        self._observer.first_token(lane, time.perf_counter() - started)
                                    yield piece
                        except ModelUnavailable as problem:
                            if begun:
                                measured.outcome = "interrupted"
                                stream.degraded = INTERRUPTED
                                yield f"\n\n({INTERRUPTED})"
                                return
                            self._note(way, problem)
                            continue
                        measured.outcome = "answered"
                        return
            except Excess as problem:
                self._note(way, problem)
            stream.engine, stream.degraded = self._offline.name, way.degraded
            async with aclosing(closable(self._offline.reply(words, facts))) as pieces:
                async for piece in pieces:
                    yield piece
            measured.outcome = "handed over" if way.degraded else "answered"

    def _way(self, *, others_words: bool) -> _Way:
        """The tiers to ask, in order."""
        lanes = (Lane.FAST,) if self._purpose.lane is Lane.FAST else (Lane.RICH, Lane.FAST)
        way = _Way()
        for lane in lanes:
            tier = self.tiers.get(lane)
            if tier is None:
                continue
            refusal = self._refusal(tier.endpoint, others_words=others_words)
            if refusal is None:
                way.tiers.append((lane, tier))
            else:
                way.refusal = f"{refusal} {INSTEAD}"
        return way

    def _refusal(self, endpoint: Endpoint, *, others_words: bool) -> str | None:
        return self._purpose.residency.refusal(endpoint, others_words=others_words)

    @asynccontextmanager
    async def _reserved(self, way: _Way) -> AsyncIterator[None]:
        if self._budget is None or not way.tiers:
            yield
            return
        async with self._budget.reserved(self._purpose):
            yield

    def _note(self, way: _Way, problem: ModelUnavailable) -> None:
        if isinstance(problem, Excess):
            self._observer.excess(problem.limit)
            way.excess = f"{problem} {INSTEAD}"
        else:
            way.away = True


@dataclass(slots=True)
class _Way:
    """Which tiers one question may go to, and what came in its way."""

    tiers: list[tuple[Lane, Tier]] = field(default_factory=list)
    refusal: str | None = None
    excess: str | None = None
    away: bool = False

    @property
    def degraded(self) -> str | None:
        """Why the offline engine answers in a language model's place; None where there is no language model."""
        return AWAY if self.away else self.excess or self.refusal


def _put(
    question: Callable[[AssistantModel, Endpoint | None], Awaitable[T]], endpoint: Endpoint, model: AssistantModel
) -> Awaitable[T]:
    return question(model, endpoint)


class _Measured:
    """Reports one question when it ends, however it ends."""

    def __init__(self, observer: EngineObserver, kind: str) -> None:
        self._observer = observer
        self._kind = kind
        self._started = time.perf_counter()
        self.outcome = "cancelled"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome = "unavailable" if isinstance(error, Exception) else self.outcome
        self._observer.model_call(self._kind, time.perf_counter() - self._started, outcome)
