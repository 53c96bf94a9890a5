"""One model server as the engine asks it: behind a gate that limits how much is under way, and a circuit breaker.

While the circuit is open nobody waits for the server: a probe in the background finds out when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Protocol, TypeVar

import structlog

from inference.breaker import Circuit, CircuitBreaker, CircuitOpen
from inference.chat_completions import RequestRefused
from inference.gate import Gate
from inference.model import AnswerUnusable, AssistantModel, Facts, ModelUnavailable
from inference.purpose import Endpoint, Lane, Purpose

T = TypeVar("T")

COOL_DOWN = timedelta(seconds=2)
"""Pause between two probes of a server that is away; each asks for one token."""
MARGIN = timedelta(milliseconds=20)
"""A timer may go off a little early by another clock's reckoning; the breaker would then refuse the probe."""

REQUESTS_OWN_FAULT = frozenset({400, 413, 422})
"""Statuses that refuse one request (a thread too long for the model's context) and say nothing against the server."""

logger = structlog.get_logger(__name__)


class TierModel(AssistantModel, Protocol):
    """A model that can be asked in somebody's name."""

    def on_behalf_of(self, purpose: Purpose) -> AssistantModel:
        """The same model, asking for a purpose; cheap, and with the same connections."""
        ...


class Tier:
    """A model server, asked for as long as it answers.

    Every question raises `ModelUnavailable` when there is no answer, `Excess` among them when a limit of ours was met.
    """

    def __init__(
        self,
        model: TierModel,
        endpoint: Endpoint,
        *,
        breaker: CircuitBreaker | None = None,
        gate: Gate | None = None,
        shared_with_people: bool = True,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`shared_with_people`: people ask this server too, so that background work keeps to its share of the gate.
        `pause` waits for a number of seconds between two probes."""
        self.endpoint = endpoint
        self.gate = gate or Gate()
        self.breaker = breaker or CircuitBreaker(cool_down=COOL_DOWN)
        self._model = model
        self._shared_with_people = shared_with_people
        self._pause = pause
        self._probing: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """What people are told answered."""
        return self._model.name

    @property
    def away(self) -> bool:
        """The server failed lately and is left alone."""
        return self.breaker.circuit is not Circuit.CLOSED

    async def ask(self, purpose: Purpose, question: Callable[[AssistantModel], Awaitable[T]]) -> T:
        """The answer to one question."""
        async with self._place(purpose):
            with self._attempt():
                return await question(self._model.on_behalf_of(purpose))

    async def stream(
        self, purpose: Purpose, question: Callable[[AssistantModel], AsyncIterator[str]]
    ) -> AsyncGenerator[str, None]:
        """The pieces of one answer. Close it to abort the request."""
        async with self._place(purpose):
            with self._attempt():
                async with aclosing(closable(question(self._model.on_behalf_of(purpose)))) as pieces:
                    async for piece in pieces:
                        yield piece

    async def close(self) -> None:
        """Stop probing and release the connections."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        await self._model.close()

    @asynccontextmanager
    async def _place(self, purpose: Purpose) -> AsyncIterator[None]:
        if self.away:
            raise _left_alone()
        background = self._shared_with_people and purpose.lane is Lane.RICH
        async with self.gate.place(purpose.tenant, background=background):
            yield

    @contextmanager
    def _attempt(self) -> Iterator[None]:
        if self.away:
            raise _left_alone()
        no_verdict: ModelUnavailable | None = None
        try:
            with self.breaker.attempt(ModelUnavailable):
                try:
                    yield
                except (RequestRefused, AnswerUnusable) as error:
                    if isinstance(error, RequestRefused) and error.status not in REQUESTS_OWN_FAULT:
                        raise
                    no_verdict = error
                    raise _NoVerdict from error
        except _NoVerdict:
            assert no_verdict is not None
            raise no_verdict from None
        except CircuitOpen:
            raise _left_alone() from None
        finally:
            if self.away:
                self._leave_alone()

    def _leave_alone(self) -> None:
        self.gate.turn_away(_left_alone)
        if self._probing is None or self._probing.done():
            logger.warning("model_away", endpoint=self.endpoint.name)
            self._probing = asyncio.get_running_loop().create_task(self._probe_until_back())

    async def _probe_until_back(self) -> None:
        while self.away:
            await self._pause((self.breaker.cool_down + MARGIN).total_seconds())
            try:
                with self.breaker.attempt(ModelUnavailable):
                    await self._ask_for_one_token()
            except (ModelUnavailable, CircuitOpen):
                continue
            except Exception:
                # Whatever this is, it must not end the probing: the server would stay away for ever.
                logger.exception("probe_failed", endpoint=self.endpoint.name)
        logger.info("model_back", endpoint=self.endpoint.name)

    async def _ask_for_one_token(self) -> None:
        # A health page can be green while no token comes; only a token shows what people wait for.
        house = self._model.on_behalf_of(Purpose(request_id="probe"))
        async with aclosing(closable(house.reply("Hello", Facts()))) as pieces:
            async for _ in pieces:
                return


class _NoVerdict(Exception):
    """Carries a failure past the breaker uncounted."""


def _left_alone() -> ModelUnavailable:
    return ModelUnavailable("the model server failed lately and is left alone until it answers again")


async def closable(pieces: AsyncIterator[str]) -> AsyncGenerator[str, None]:
    """Any iterator of pieces as a generator that closes it, where it can be closed, when it is closed itself."""
    try:
        async for piece in pieces:
            yield piece
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()
