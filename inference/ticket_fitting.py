"""Fits a `TicketClassifier`. Needs scikit-learn, so a process that answers people runs it in another process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from inference.calibration import Calibrator, area_under_curve, calibration_error, fit_calibrator, logit
from inference.features import Lexicon, SparseRow
from inference.intent_fitting import EMBEDDING_WEIGHT, support_vectors
from inference.model_card import ModelCard, counts_of, digest_of, now
from inference.ticket_classifier import HEADS, KIND, Head, Ticket, TicketClassifier, threshold_for

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PARTS = 5
"""Parts of the tickets that are left out in turn."""

PRECISION = 0.85
"""Share of a head's answers that must be right, unless the caller chooses another."""

FEWEST = 5
"""Tickets a value needs to be proposed at all; rarer ones count against every other value."""


def fit_tickets(
    tickets: Sequence[Ticket],
    vectors: NDArray[np.float32],
    *,
    embedding_model: str,
    source: str,
    precision: float = PRECISION,
    progress: Callable[[str], None] = lambda step: None,
) -> TicketClassifier:
    """A classifier of what the tickets carry; `vectors` are those of `Ticket.text`, float32 [n, dimensions].

    A head is fitted where at least two values have `FEWEST` tickets. Raises `ValueError` where none is.
    """
    if len(tickets) != len(vectors):
        raise ValueError(f"{len(tickets)} tickets and {len(vectors)} vectors")
    progress(f"reading the words of {len(tickets)} tickets")
    few = len(tickets) < 1000
    lexicon = Lexicon.of([ticket.text for ticket in tickets], least_words=1 if few else 2, least_pieces=1 if few else 3)
    rows = [lexicon.row(ticket.text) for ticket in tickets]
    heads: dict[str, Head] = {}
    metrics: dict[str, float] = {}
    counts: dict[str, dict[str, int]] = {}
    for name in HEADS:
        known = [index for index, ticket in enumerate(tickets) if getattr(ticket, name) is not None]
        values = [str(getattr(tickets[index], name)) for index in known]
        counts[name] = counts_of(values)
        if sum(count >= FEWEST for count in counts[name].values()) < 2:
            continue
        head, measured = _fit_head(
            name, [rows[index] for index in known], vectors[known], values, lexicon.size, precision, progress
        )
        heads[name] = head
        metrics |= {f"{name}: {what}": value for what, value in measured.items()}
    if not heads:
        raise ValueError(f"no field of {', '.join(HEADS)} has two values with {FEWEST} tickets each")
    card = ModelCard(
        kind=KIND,
        made_at=now(),
        source=source,
        data_digest=digest_of((ticket.text, str([getattr(ticket, name) for name in HEADS])) for ticket in tickets),
        counts={name: each for name, each in counts.items() if each},
        embedding_model=embedding_model,
        metrics=metrics,
        measured_on="tickets that were left out of the fit in turn, in two halves, each with threshold and calibration "
        "from the other",
        settings={"precision asked for": precision}
        | {f"{name}: threshold" if head.threshold <= 1 else f"{name}: always abstains": head.threshold
           for name, head in heads.items()},
    )  # fmt: skip
    return TicketClassifier(lexicon, heads, card)


def _fit_head(
    name: str,
    rows: Sequence[SparseRow],
    vectors: NDArray[np.float32],
    values: Sequence[str],
    columns: int,
    precision: float,
    progress: Callable[[str], None],
) -> tuple[Head, dict[str, float]]:
    import numpy

    counts = counts_of(values)
    labels = tuple(label for label, count in counts.items() if count >= FEWEST)
    number = {label: index for index, label in enumerate(labels)}
    outputs = numpy.array([number.get(value, -1) for value in values])
    random = numpy.random.default_rng(0)
    part = numpy.zeros(len(values), dtype=numpy.int64)
    for output in numpy.unique(outputs):
        of_value = numpy.flatnonzero(outputs == output)
        part[random.permutation(of_value)] = numpy.arange(len(of_value)) % PARTS
    scores, right = numpy.zeros(len(values)), numpy.zeros(len(values), dtype=bool)
    for fold in range(PARTS):
        progress(f"{name}: leaving out part {fold + 1} of {PARTS}")
        head = _machine(rows, vectors, outputs, numpy.flatnonzero(part != fold), labels, columns)
        for index in numpy.flatnonzero(part == fold).tolist():
            shares = head.shares(rows[index].columns, rows[index].values, vectors[index])
            scores[index] = logit(float(shares.max()))
            right[index] = int(shares.argmax()) == outputs[index]
    progress(f"{name}: fitting {len(labels)} values")
    final = _machine(rows, vectors, outputs, numpy.arange(len(values)), labels, columns)
    calibrator = fit_calibrator(scores, right)
    confidence = [calibrator.probability(float(score)) for score in scores]
    threshold = threshold_for(confidence, right.tolist(), precision)
    head = Head(labels, final.sparse, final.dense, final.bias, calibrator, threshold)
    return head, _measured(scores, right, precision)


def _machine(
    rows: Sequence[SparseRow],
    vectors: NDArray[np.float32],
    outputs: NDArray[np.int64],
    kept: NDArray[np.int64],
    labels: tuple[str, ...],
    columns: int,
) -> Head:
    """A head that is not calibrated yet, fitted on the rows kept that have one of its labels."""
    import numpy

    kept = kept[outputs[kept] >= 0]
    weights, bias = support_vectors([rows[row] for row in kept], vectors[kept], outputs[kept], columns)
    return Head(
        labels=labels,
        sparse=weights[:columns].astype(numpy.float16),
        dense=(EMBEDDING_WEIGHT * weights[columns:]).astype(numpy.float32),
        bias=bias.astype(numpy.float32),
        calibrator=Calibrator("platt"),
        threshold=2.0,
    )


def _measured(scores: NDArray[np.float64], right: NDArray[np.bool_], precision: float) -> dict[str, float]:
    """Accuracy of all answers, and share and precision of those given, each half with what the other half fitted."""
    import numpy

    random = numpy.random.default_rng(0)
    half = random.permutation(len(scores)) % 2 == 0
    confidence, given = numpy.zeros(len(scores)), numpy.zeros(len(scores), dtype=bool)
    for here in (half, ~half):
        calibrator = fit_calibrator(scores[~here], right[~here])
        seen = [calibrator.probability(float(score)) for score in scores[~here]]
        threshold = threshold_for(seen, right[~here].tolist(), precision)
        confidence[here] = [calibrator.probability(float(score)) for score in scores[here]]
        given[here] = confidence[here] >= threshold
    found = {
        "accuracy of all": float(right.mean()),
        "share answered": float(given.mean()),
        "accuracy of those answered": float(right[given].mean()) if given.any() else 0.0,
        "expected calibration error": calibration_error(confidence, right),
    }
    if right.any() and not right.all():
        found["AUROC of right against wrong"] = area_under_curve(confidence[right], confidence[~right])
    return found
