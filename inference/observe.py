"""How calls are measured, without a metrics library on this floor: the composition root passes something in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from inference.purpose import Lane

Observe = Callable[[str, float, str], None]
"""Told of every call once: what was asked for, its seconds, and its outcome."""


def ignore(name: str, seconds: float, outcome: str) -> None:
    """An `Observe` for where nobody measures."""


class EngineObserver(Protocol):
    """Told what happens in the engine."""

    def model_call(self, call: str, seconds: float, outcome: str) -> None:
        """A question is over: `answered`, `handed over`, `interrupted`, `unavailable` or `cancelled`."""
        ...

    def first_token(self, lane: Lane, seconds: float) -> None:
        """The first piece of a reply came from a lane's model, this long after it was asked for, waiting included."""
        ...

    def excess(self, limit: str) -> None:
        """A request met one of our own limits; see `inference.excess.Excess.limit`."""
        ...


class Unobserved:
    """An `EngineObserver` for where nobody measures."""

    def model_call(self, call: str, seconds: float, outcome: str) -> None:
        """See `EngineObserver.model_call`."""

    def first_token(self, lane: Lane, seconds: float) -> None:
        """See `EngineObserver.first_token`."""

    def excess(self, limit: str) -> None:
        """See `EngineObserver.excess`."""
