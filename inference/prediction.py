"""What a classifier says of a text, with what is needed later to see whether texts have drifted away from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Prediction:
    """One decision of a classifier."""

    label: str | None
    """None: out of scope, which is an answer and not a failure."""
    confidence: float
    """Calibrated probability, 0 to 1, that this answer (the label, or out of scope) is right."""
    nearest: str
    """The best label, also where the text is out of scope."""
    scope: float
    """The score the threshold was applied to; higher is more in scope. What drift is measured on."""
    model_version: str
    """Digest of the fitted model."""
    embedding_model: str
    """`Embedder.version`."""
    embedding_digest: str
    """SHA-256 of the text's vector rounded to int8, hexadecimal: tells repeated texts apart, gives none back."""


class Intents(Protocol):
    """A fitted set of intents."""

    async def decide(self, text: str) -> Prediction:
        """Which intent a text has, or none. Raises `ModelUnavailable` where nothing can embed it."""
        ...
