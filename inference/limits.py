"""How long a model may take, in people's time."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """A call that passes one of these raises `ModelUnavailable`; nothing waits longer."""

    first_token: timedelta = timedelta(seconds=5)
    """From the start of the request, connecting included, to the first piece of text."""
    between_tokens: timedelta = timedelta(seconds=10)
    """From one piece of text to the next."""
    total: timedelta = timedelta(seconds=60)
    """The whole call, a second try at an ill-formed answer included."""

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) <= timedelta(0):
                raise ValueError(f"{each.name} must be positive, not {getattr(self, each.name)}")
