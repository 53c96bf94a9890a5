"""Proposes a ticket's category, priority and queue from its title and description, and keeps silent where it is unsure.

Three heads over the same features, each with its own calibration and threshold: below it the head abstains, and a
person or a rule decides. A head's threshold is the lowest at which enough of its answers were right on tickets that it
was not fitted on; a head that never gets there always abstains. Deciding needs numpy alone.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inference.calibration import Calibrator, logit
from inference.embeddings import Embedder
from inference.features import Lexicon
from inference.model_card import ModelCard, load_model, save_model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

KIND = "tickets"
HEADS = ("category", "priority", "queue")

ALTERNATIVES = 3
"""Values proposed besides, at most."""


class TicketsUnreadable(Exception):
    """A file of tickets cannot be used. One line for the operator, with the place."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket, with what is known of it; None where a person has not said."""

    title: str
    description: str = ""
    category: str | None = None
    priority: str | None = None
    queue: str | None = None

    @property
    def text(self) -> str:
        """What is read of it."""
        return f"{self.title}\n{self.description}".strip()


@dataclass(frozen=True, slots=True)
class HeadPrediction:
    """What one head says."""

    label: str | None
    """None: it is not sure enough."""
    confidence: float
    """Calibrated probability, 0 to 1, that the likeliest value is right, also where the head abstains."""
    alternatives: tuple[tuple[str, float], ...]
    """The likeliest values, best first, the label among them, each with its share of the confidence; they add up to no
    more than 1."""


@dataclass(frozen=True, slots=True)
class TicketPrediction:
    """What the three heads say; a head without training examples abstains with confidence 0."""

    category: HeadPrediction
    priority: HeadPrediction
    queue: HeadPrediction
    model_version: str
    """Digest of the fitted model."""
    embedding_model: str
    """`Embedder.version`."""


@dataclass(frozen=True, slots=True)
class Head:
    """One fitted question."""

    labels: tuple[str, ...]
    sparse: NDArray[np.float16]
    """[columns, labels]"""
    dense: Vector
    """[dimensions, labels]"""
    bias: Vector
    """[labels]"""
    calibrator: Calibrator
    """Log odds of the best value among the values to the probability that it is right."""
    threshold: float
    """Confidence below which the head abstains; above 1 where it always does."""

    def shares(self, columns: NDArray[np.int32], values: Vector, vector: Vector) -> Vector:
        """Softmax of the margins: [labels], adds up to 1, not calibrated."""
        import numpy

        margins = values @ self.sparse[columns].astype(numpy.float32) + vector @ self.dense + self.bias
        shares: Vector = numpy.exp(margins - margins.max())
        shares /= shares.sum()
        return shares

    def predict(self, columns: NDArray[np.int32], values: Vector, vector: Vector) -> HeadPrediction:
        """Of a ticket's sparse features and vector."""
        shares = self.shares(columns, values, vector)
        order = shares.argsort()[::-1]
        best = float(shares[order[0]])
        confidence = self.calibrator.probability(logit(best))
        # What the likeliest value does not have is shared among the others as the machine sees them.
        rest = (1 - confidence) / max(1 - best, 1e-9)
        alternatives = [(self.labels[order[0]], confidence)]
        alternatives += [(self.labels[index], float(shares[index]) * rest) for index in order[1 : ALTERNATIVES + 1]]
        label = self.labels[order[0]] if confidence >= self.threshold else None
        return HeadPrediction(label, confidence, tuple(alternatives))


NOTHING = HeadPrediction(None, 0.0, ())


class TicketClassifier:
    """A fitted classifier; `inference.ticket_fitting.fit_tickets` makes one, `load` reads a saved one.

    classifier = TicketClassifier.load(folder, embedder)
    found = await classifier.predict(Ticket("VPN drops every hour", "since the update on Monday"))
    found.queue.label  # "network", or None
    """

    def __init__(
        self, lexicon: Lexicon, heads: Mapping[str, Head], card: ModelCard, embedder: Embedder | None = None
    ) -> None:
        """Without an `embedder` only `predict_vector` works."""
        self._lexicon = lexicon
        self._heads = dict(heads)
        self._embedder = embedder
        self.card = card

    async def predict(self, ticket: Ticket) -> TicketPrediction:
        """What to propose. Raises `ModelUnavailable` where nothing can embed the text."""
        if self._embedder is None:
            raise ValueError("this classifier was made without an embedder: use predict_vector")
        return self.predict_vector(ticket, (await self._embedder.embed([ticket.text]))[0])

    def predict_vector(self, ticket: Ticket, vector: Vector) -> TicketPrediction:
        """The same with the text's vector at hand: float32 [dimensions], of length 1."""
        row = self._lexicon.row(ticket.text)
        found = {
            name: self._heads[name].predict(row.columns, row.values, vector) if name in self._heads else NOTHING
            for name in HEADS
        }
        return TicketPrediction(**found, model_version=self.card.version, embedding_model=self.card.embedding_model)

    def save(self, folder: Path) -> ModelCard:
        """Write it as `inference.model_card` says, whole or not at all."""
        settings = {
            name: {"labels": list(h.labels), "calibrator": h.calibrator.as_json(), "threshold": h.threshold}
            for name, h in self._heads.items()
        }
        arrays = self._lexicon.arrays()
        for name, head in self._heads.items():
            arrays |= {f"{name}_sparse": head.sparse, f"{name}_dense": head.dense, f"{name}_bias": head.bias}
        self.card = save_model(folder, self.card, settings, arrays)
        return self.card

    @classmethod
    def load(cls, folder: Path, embedder: Embedder) -> TicketClassifier:
        """Read a saved one. Raises `ModelRefused`, see `inference.model_card.load_model`."""
        card, settings, arrays = load_model(folder, kind=KIND, embedding_model=embedder.version)
        heads = {
            name: Head(
                labels=tuple(values["labels"]),
                sparse=arrays[f"{name}_sparse"],
                dense=arrays[f"{name}_dense"],
                bias=arrays[f"{name}_bias"],
                calibrator=Calibrator.from_json(values["calibrator"]),
                threshold=float(values["threshold"]),
            )
            for name, values in settings.items()
        }
        return cls(Lexicon.from_arrays(arrays), heads, card, embedder)


def read_tickets(path: Path) -> tuple[Ticket, ...]:
    """Of a CSV file with a header, or of JSON lines: fields `title`, `description`, `category`, `priority`, `queue`.

    Other fields are ignored, empty ones are unknown. Raises `TicketsUnreadable`.
    """
    rows: list[tuple[int, Mapping[str, object]]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                rows += enumerate(csv.DictReader(file), 2)
            else:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        value = json.loads(line)
                        if not isinstance(value, dict):
                            raise TicketsUnreadable(f"{path}, line {number}: not a JSON object")
                        rows.append((number, value))
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise TicketsUnreadable(f"{path} is neither CSV (named .csv) nor JSON lines: {error}") from error
    tickets = [_ticket(path, number, row) for number, row in rows]
    if not tickets:
        raise TicketsUnreadable(f"{path} holds no tickets")
    return tuple(tickets)


def _ticket(path: Path, number: int, row: Mapping[str, object]) -> Ticket:
    values = {name: str(row.get(name) or "").strip() for name in ("title", "description", *HEADS)}
    if not values["title"] and not values["description"]:
        raise TicketsUnreadable(f"{path}, line {number}: neither a title nor a description")
    category, priority, queue = (values[name] or None for name in HEADS)
    return Ticket(values["title"], values["description"], category, priority, queue)


def threshold_for(confidence: Sequence[float], right: Sequence[bool], precision: float) -> float:
    """The lowest confidence from which on at least `precision` of the answers are right; 2.0 where there is none.

    Judged by the lower end of Wilson's 90 % interval, so that a handful of lucky answers makes no threshold. Where no
    answer was seen between it and the next lower one, it lies half way between, and where none was seen below it, as
    low as calibrated confidence promises the precision: the least sure of the answers seen is no reason to distrust
    one that is a little less sure. Confidence under `precision` is only accepted where answers like it were seen.
    """
    pairs = sorted(zip(confidence, right, strict=True), reverse=True)
    best, hits = 2.0, 0
    for count, (value, hit) in enumerate(pairs, 1):
        hits += hit
        lower = pairs[count][0] if count < len(pairs) else None
        if lower == value:
            continue
        if _wilson_low(hits, count) >= precision:
            best = min(value, precision if lower is None else max(precision, (value + lower) / 2))
    return best


def _wilson_low(hits: int, count: int, z: float = 1.2816) -> float:
    """Lower end of Wilson's score interval (Wilson 1927); `z` 1.2816: a tenth lies below it."""
    share = hits / count
    middle = share + z * z / (2 * count)
    width = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (middle - width) / (1 + z * z / count)
