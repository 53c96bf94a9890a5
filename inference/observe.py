"""How calls are measured, without a metrics library on this floor: the composition root passes a function in."""

from __future__ import annotations

from collections.abc import Callable

Observe = Callable[[str, float, str], None]
"""Told of every call once: what was asked for, its seconds, and its outcome."""


def ignore(name: str, seconds: float, outcome: str) -> None:
    """An `Observe` for where nobody measures."""
