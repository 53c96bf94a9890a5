"""More was asked of the language model than one of our own limits allows: no fault of the model's."""

from __future__ import annotations

from inference.model import ModelUnavailable


class Excess(ModelUnavailable):
    """A limit is reached. The message is one or more whole sentences for the person who asked.

    It says nothing about the server, so it is no failure in a circuit breaker's eyes.
    """

    def __init__(self, limit: str, sentence: str) -> None:
        """`limit` for metrics: `all`, `tenant`, `background` or `tokens`."""
        super().__init__(sentence)
        self.limit = limit
