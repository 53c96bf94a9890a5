"""Measures the intent classifier on a file of intents: how often it is right, what it refuses, and how long it takes.

A file is a JSON object of lists of [text, label], named like those of CLINC150 (Larson et al. 2019, "An Evaluation
Dataset for Intent Classification and Out-of-Scope Prediction"): `train`, `val`, `test`, and with texts out of scope
`oos_train`, `oos_val`, `oos_test`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inference.embeddings import Embedder
from inference.intent_classifier import Examples, IntentClassifier
from inference.prediction import Prediction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PARTS = ("train", "val", "test", "oos_train", "oos_val", "oos_test")

Pairs = list[tuple[str, str | None]]


class BenchFileWrong(Exception):
    """A file of intents cannot be used. One line for the operator."""


def read_intents(path: Path) -> dict[str, Pairs]:
    """The parts a file has; texts of `oos_…` have the label None. Raises `BenchFileWrong`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BenchFileWrong(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict) or not set(content) & set(PARTS):
        raise BenchFileWrong(f"{path} needs an object with lists named like {', '.join(PARTS)}")
    return {part: _pairs(path, part, content[part]) for part in PARTS if part in content}


def _pairs(path: Path, part: str, rows: object) -> Pairs:
    if not isinstance(rows, list):
        raise BenchFileWrong(f"{path}: {part} is not a list")
    pairs: Pairs = []
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 2 or not all(isinstance(value, str) for value in row):
            raise BenchFileWrong(f"{path}: {part}[{number}] is not [text, label]")
        pairs.append((row[0], None if part.startswith("oos_") else row[1]))
    return pairs


@dataclass(frozen=True, slots=True)
class Split:
    """What is fitted on, what threshold and calibration come from, and what is measured; no text is in two of them."""

    train: Pairs
    held_out: Pairs
    """Empty: parts of `train` are left out in turn."""
    test: Pairs


def split(train: Mapping[str, Pairs], test: Mapping[str, Pairs]) -> Split:
    """`train` and `oos_train` are learnt from; `val` and `oos_val` of the same file give the threshold.

    Measured are `test` and `oos_test` of the second file, or else its `val` and `oos_val`; where those are the held-out
    texts themselves, every second one is measured and the others are held out. Raises `BenchFileWrong`.
    """
    learnt, held_out = train.get("train", []), [*train.get("val", []), *train.get("oos_val", [])]
    measured = [*test.get("test", []), *test.get("oos_test", [])] or [*test.get("val", []), *test.get("oos_val", [])]
    if not learnt:
        raise BenchFileWrong("the file to train on has no examples under train")
    if not measured:
        raise BenchFileWrong("the file to test on has neither test nor val")
    if not any(label is not None for _, label in measured) or all(label is not None for _, label in measured):
        raise BenchFileWrong("the file to test on needs texts in scope and, as oos_test or oos_val, out of scope")
    if {text for text, _ in measured} & {text for text, _ in held_out}:
        # Within each label, so that both halves have all of them.
        ordered = sorted(measured, key=lambda pair: (pair[1] is None, pair[1] or ""))
        measured, held_out = ordered[::2], ordered[1::2]
    learnt = [*learnt, *train.get("oos_train", [])]
    elsewhere = {text for text, _ in measured}
    return Split(
        [pair for pair in learnt if pair[0] not in elsewhere],
        [pair for pair in held_out if pair[0] not in elsewhere],
        measured,
    )


def with_shots(examples: Examples, shots: int, seed: int) -> Examples:
    """So many examples of each label, drawn by chance; those out of scope stay. Raises `BenchFileWrong`."""
    import numpy

    random = numpy.random.default_rng(seed)
    by_label: dict[str, list[int]] = {}
    chosen = []
    for row, label in enumerate(examples.labels):
        if label is None:
            chosen.append(row)
        else:
            by_label.setdefault(label, []).append(row)
    for label in sorted(by_label):
        if len(by_label[label]) < shots:
            raise BenchFileWrong(f"{label} has {len(by_label[label])} examples, not {shots}")
        chosen += random.choice(by_label[label], shots, replace=False).tolist()
    return examples.chosen(sorted(chosen))


@dataclass(frozen=True, slots=True)
class Figures:
    """One line of the table. Shares are 0 to 1, times of a decision milliseconds with its embedding."""

    name: str
    accuracy: float
    """In scope, whether accepted or not."""
    in_scope: float
    """In scope, accepted with its own label."""
    out_of_scope: float
    """Out of scope, refused."""
    auroc: float
    calibration_error: float
    p50: float
    p99: float
    fit_seconds: float


async def embedded_one_by_one(
    texts: Sequence[str], embedder: Embedder, progress: Callable[[str], None]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Vectors, and how long each took in milliseconds as one message alone."""
    import numpy

    vectors, times = [], []
    for text in texts:
        since = time.perf_counter()
        vectors.append((await embedder.embed([text]))[0])
        times.append((time.perf_counter() - since) * 1000)
        progress("texts")
    return numpy.array(vectors), numpy.array(times)


def measure(
    name: str,
    train: Examples,
    held_out: Examples | None,
    test: Examples,
    embedding_times: NDArray[np.float64],
    progress: Callable[[str], None],
) -> tuple[Figures, list[Prediction]]:
    """Fit, decide on every test text, and judge. The calibration error takes the test texts as they are mixed."""
    from inference.intent_fitting import fit_intents

    since = time.perf_counter()
    classifier = fit_intents(
        train, embedding_model="measured", source="a benchmark's file", held_out=held_out, progress=progress
    )
    fit_seconds = time.perf_counter() - since
    progress(f"deciding on {len(test.texts)} texts")
    predictions, times = _decide(classifier, test, embedding_times)
    return _judged(name, predictions, test, times, fit_seconds), predictions


def _decide(
    classifier: IntentClassifier, test: Examples, embedding_times: NDArray[np.float64]
) -> tuple[list[Prediction], NDArray[np.float64]]:
    import numpy

    predictions, times = [], []
    for text, vector, embedding in zip(test.texts, test.vectors, embedding_times, strict=True):
        since = time.perf_counter()
        predictions.append(classifier.predict(text, vector))
        times.append((time.perf_counter() - since) * 1000 + float(embedding))
    return predictions, numpy.array(times)


def _judged(
    name: str, predictions: Sequence[Prediction], test: Examples, times: NDArray[np.float64], fit_seconds: float
) -> Figures:
    import numpy

    from inference.intent_fitting import figures

    inside = numpy.array([label is not None for label in test.labels])
    found = figures(
        scope=numpy.array([each.scope for each in predictions]),
        accepted=numpy.array([each.label is not None for each in predictions]),
        confidence=numpy.array([each.confidence for each in predictions]),
        inside=inside,
        right=numpy.array([each.nearest == label for each, label in zip(predictions, test.labels, strict=True)]),
        weights=numpy.ones(len(predictions)),
    )
    return Figures(
        name,
        found["in-scope accuracy, no rejection"],
        found["in-scope recall at the threshold"],
        found["out-of-scope recall at the threshold"],
        found["out-of-scope AUROC"],
        found["expected calibration error"],
        float(numpy.percentile(times, 50)),
        float(numpy.percentile(times, 99)),
        fit_seconds,
    )


def table(rows: Sequence[Figures]) -> str:
    """As Markdown, shares in percent."""
    lines = [
        "| | in-scope accuracy | AUROC | in-scope recall | out-of-scope recall | ECE | p50 ms | p99 ms | fit s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shares = (row.accuracy, row.auroc, row.in_scope, row.out_of_scope, row.calibration_error)
        cells = [*(f"{100 * share:.1f}" for share in shares), f"{row.p50:.2f}", f"{row.p99:.2f}"]
        lines.append(f"| {row.name} | {' | '.join(cells)} | {row.fit_seconds:.1f} |")
    return "\n".join(lines)
