"""A circuit breaker that lets exactly one probe through when its cool-down is over.

Every call that was let in ends in one of three ways: it succeeded, it failed, or it says nothing about the peer
(cancelled, or a mistake of ours). The last hands a probe's place back without a verdict, so no probe is ever lost.
A peer that one probe found back is on trial: until a call has succeeded, one failure opens the circuit again.
All of it runs on one event loop and never awaits; no lock is needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum


class Circuit(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    """Calls go through."""
    OPEN = "open"
    """Calls are refused until the cool-down is over."""
    HALF_OPEN = "half open"
    """One call may go through, or is on its way, to see whether the peer is back."""


class CircuitOpen(Exception):
    """The peer failed lately and is left alone for now."""


class CircuitBreaker:
    """Stops calling a peer that keeps failing.

    with breaker.attempt(ModelUnavailable):  # raises CircuitOpen instead of calling
        await call_the_peer()
    """

    def __init__(
        self,
        *,
        failures: int = 3,
        cool_down: timedelta = timedelta(seconds=15),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open after `failures` failures in a row, for `cool_down`; `clock` is monotonic, in seconds."""
        if failures < 1:
            raise ValueError(f"failures must be at least 1, not {failures}")
        if cool_down <= timedelta(0):
            raise ValueError(f"cool_down must be positive, not {cool_down}")
        self._failures_to_open = failures
        self._cool_down = cool_down.total_seconds()
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False
        self._era = 0

    @property
    def cool_down(self) -> timedelta:
        """How long it stays open before a probe."""
        return timedelta(seconds=self._cool_down)

    @property
    def circuit(self) -> Circuit:
        """Where the breaker stands now."""
        if self._opened_at is None:
            return Circuit.CLOSED
        if self._probing or self._clock() - self._opened_at >= self._cool_down:
            return Circuit.HALF_OPEN
        return Circuit.OPEN

    @contextmanager
    def attempt(self, *failures: type[Exception]) -> Iterator[None]:
        """Let one call in; leaving with one of `failures` counts against the peer. Raises `CircuitOpen`."""
        circuit = self.circuit
        if circuit is Circuit.OPEN or self._probing:
            raise CircuitOpen
        era = self._era
        probe = self._probing = circuit is Circuit.HALF_OPEN
        try:
            yield
        except failures:
            if era == self._era:
                self._count_failure(probe=probe)
            raise
        else:
            if era == self._era:
                self._close()
        finally:
            if probe:
                self._probing = False

    def _count_failure(self, *, probe: bool) -> None:
        self._failures += 1
        if probe or self._failures >= self._failures_to_open:
            self._opened_at = self._clock()
            self._new_era()

    def _close(self) -> None:
        self._failures = 0
        if self._opened_at is not None:
            self._opened_at = None
            self._new_era()
            self._failures = self._failures_to_open - 1

    def _new_era(self) -> None:
        # What a call of an earlier era learnt is stale: a slow success from before must not close an open circuit.
        self._failures = 0
        self._era += 1
