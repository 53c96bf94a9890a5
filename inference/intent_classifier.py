"""Tells which of the labels it was fitted on a text has, or none of them, and how likely that is right.

A linear support vector machine over words, pieces of words and the sentence embedding picks the label. Whether the text
is in scope at all is one number, the *scope*, a weighted sum of five: how clearly the label stands out, its margin, the
text's likeness to the nearest examples, to the mean of its label's, and, against it, to texts known to be out of scope.
The weights, the threshold and the calibration are fitted on texts that the machine was not fitted on
(`inference.intent_fitting`). Deciding needs numpy alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inference.calibration import Calibrator, logit
from inference.embeddings import Embedder
from inference.features import Lexicon
from inference.model_card import ModelCard, load_model, save_model
from inference.neighbours import Neighbours, as_int8
from inference.prediction import Prediction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]
    Vectors = NDArray[np.float32]

KIND = "intents"

NEAREST = 5
"""Examples that the likeness to examples is the mean of."""

NEAREST_OUTSIDE = 5
"""The same for texts out of scope. Two are worse: a single unlucky text out of scope then decides too much."""

CANDIDATES = 6
"""Labels, best first, whose examples are compared with: on CLINC150 the nearest five of all are nearly always there,
and a hundred and fifty labels are not looked through."""

ALL_AT_ONCE = 400
"""With no more examples than this all are compared with."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Texts with their labels and vectors."""

    texts: tuple[str, ...]
    labels: tuple[str | None, ...]
    """None: out of scope."""
    vectors: Vectors
    """float32 [n, dimensions], each of length 1."""

    def __post_init__(self) -> None:
        if not len(self.texts) == len(self.labels) == len(self.vectors):
            raise ValueError(f"{len(self.texts)} texts, {len(self.labels)} labels and {len(self.vectors)} vectors")

    def chosen(self, rows: Sequence[int]) -> Examples:
        """Some of them, in the order given."""
        texts, labels = tuple(self.texts[row] for row in rows), tuple(self.labels[row] for row in rows)
        return Examples(texts, labels, self.vectors[list(rows)])


async def embedded(
    examples: Sequence[tuple[str, str | None]], embedder: Embedder, progress: Callable[[int], None] = lambda done: None
) -> Examples:
    """Texts with labels as `Examples`; `progress` is told how many have their vector."""
    import numpy

    texts = [text for text, _ in examples]
    vectors = []
    for start in range(0, len(texts), 64):
        vectors.append(await embedder.embed(texts[start : start + 64]))
        progress(min(start + 64, len(texts)))
    if not vectors:
        vectors = [await embedder.embed([])]
    return Examples(tuple(texts), tuple(label for _, label in examples), numpy.concatenate(vectors))


@dataclass(frozen=True, slots=True)
class Machine:
    """The fitted weights; knows nothing of thresholds."""

    labels: tuple[str, ...]
    lexicon: Lexicon
    sparse: NDArray[np.float16]
    """[columns, labels]: weights of words and pieces."""
    dense: Vectors
    """[dimensions, labels]: weights of the embedding."""
    bias: Vector
    """[labels]"""
    means: Vectors
    """[labels, dimensions]: the mean of each label's embeddings, at length 1."""
    inside: Neighbours
    """One group a label."""
    outside: Neighbours
    """One group: the texts out of scope."""

    def look(self, text: str, vector: Vector) -> Look:
        """Everything that is decided on."""
        import numpy

        row = self.lexicon.row(text)
        margins = row.values @ self.sparse[row.columns].astype(numpy.float32) + vector @ self.dense + self.bias
        best = int(margins.argmax())
        log_probability = -float(numpy.log(numpy.exp(margins - margins[best]).sum()))
        spread_out = numpy.zeros(self.lexicon.size, dtype=numpy.float32)
        spread_out[row.columns] = row.values
        near = self._candidates(margins)
        return Look(
            best=best,
            label_score=logit(math.exp(log_probability)),
            features=(
                log_probability,
                float(margins[best]),
                self.inside.nearest(spread_out, vector, near, NEAREST),
                float(self.means[best] @ vector),
                self.outside.nearest(spread_out, vector, (0,), NEAREST_OUTSIDE),
            ),
        )

    def _candidates(self, margins: Vector) -> Sequence[int]:
        import numpy

        if len(self.inside.embeddings) <= ALL_AT_ONCE or len(margins) <= CANDIDATES:
            return range(len(margins))
        return [int(label) for label in numpy.argpartition(margins, len(margins) - CANDIDATES)[-CANDIDATES:]]


@dataclass(frozen=True, slots=True)
class Look:
    """What a machine sees in one text."""

    best: int
    """Index of the label with the largest margin."""
    label_score: float
    """Log odds of that label among the labels, before calibration."""
    features: tuple[float, ...]
    """What the scope is the weighted sum of: log probability, margin, likeness to the nearest examples, to the label's
    mean, to texts out of scope."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How a look becomes a decision."""

    weights: tuple[float, ...]
    """Of `Look.features`."""
    offset: float
    threshold: float
    """A text whose scope is below it is out of scope."""
    scope: Calibrator
    """Scope to the probability of being in scope."""
    label: Calibrator
    """`Look.label_score` to the probability that the label is right, of a text in scope."""

    def scope_of(self, look: Look) -> float:
        """The scope: higher is more in scope."""
        return self.offset + sum(w * value for w, value in zip(self.weights, look.features, strict=True))


class IntentClassifier:
    """A fitted classifier; `inference.intent_fitting.fit_intents` makes one, `load` reads a saved one.

    classifier = IntentClassifier.load(folder, embedder)
    found = await classifier.decide("please shut TCK-12")  # Prediction(label="close", confidence=0.97, ...)
    """

    def __init__(self, machine: Machine, scale: Scale, card: ModelCard, embedder: Embedder | None = None) -> None:
        """Without an `embedder` only `predict` works."""
        self._machine = machine
        self._scale = scale
        self._embedder = embedder
        self.card = card
        self._version = card.version

    @property
    def labels(self) -> tuple[str, ...]:
        """What it can tell apart, sorted."""
        return self._machine.labels

    @property
    def threshold(self) -> float:
        """See `Scale.threshold`."""
        return self._scale.threshold

    def predict(self, text: str, vector: Vector) -> Prediction:
        """Decide on a text and its vector (float32 [dimensions], of length 1). About half a millisecond."""
        look = self._machine.look(text, vector)
        scope = self._scale.scope_of(look)
        inside = self._scale.scope.probability(scope)
        nearest = self._machine.labels[look.best]
        if scope < self._scale.threshold:
            label, confidence = None, 1 - inside
        else:
            label, confidence = nearest, inside * self._scale.label.probability(look.label_score)
        return Prediction(
            label=label,
            confidence=confidence,
            nearest=nearest,
            scope=scope,
            model_version=self._version,
            embedding_model=self.card.embedding_model,
            embedding_digest=hashlib.sha256(as_int8(vector).tobytes()).hexdigest(),
        )

    async def decide(self, text: str) -> Prediction:
        """See `inference.prediction.Intents`. A text without a word or number is out of scope by its scope, too."""
        if self._embedder is None:
            raise ValueError("this classifier was made without an embedder: use predict")
        return self.predict(text, (await self._embedder.embed([text]))[0])

    def save(self, folder: Path) -> ModelCard:
        """Write it as `inference.model_card` says, whole or not at all."""
        machine, scale = self._machine, self._scale
        settings = {
            "labels": list(machine.labels),
            "weights": list(scale.weights),
            "offset": scale.offset,
            "threshold": scale.threshold,
            "scope": scale.scope.as_json(),
            "label": scale.label.as_json(),
        }
        arrays = {
            **machine.lexicon.arrays(), **machine.inside.arrays("inside"), **machine.outside.arrays("outside"),
            "sparse": machine.sparse, "dense": machine.dense, "bias": machine.bias, "means": machine.means,
        }  # fmt: skip
        self.card = save_model(folder, self.card, settings, arrays)
        self._version = self.card.version
        return self.card

    @classmethod
    def load(cls, folder: Path, embedder: Embedder) -> IntentClassifier:
        """Read a saved one. Raises `ModelRefused`, see `inference.model_card.load_model`."""
        card, settings, arrays = load_model(folder, kind=KIND, embedding_model=embedder.version)
        machine = Machine(
            labels=tuple(settings["labels"]),
            lexicon=Lexicon.from_arrays(arrays),
            sparse=arrays["sparse"],
            dense=arrays["dense"],
            bias=arrays["bias"],
            means=arrays["means"],
            inside=Neighbours.from_arrays(arrays, "inside"),
            outside=Neighbours.from_arrays(arrays, "outside"),
        )
        scale = Scale(
            weights=tuple(settings["weights"]),
            offset=settings["offset"],
            threshold=settings["threshold"],
            scope=Calibrator.from_json(settings["scope"]),
            label=Calibrator.from_json(settings["label"]),
        )
        return cls(machine, scale, card, embedder)

    @classmethod
    async def loaded(cls, folder: Path, embedder: Embedder) -> IntentClassifier:
        """`load` off the event loop."""
        return await asyncio.to_thread(cls.load, folder, embedder)
