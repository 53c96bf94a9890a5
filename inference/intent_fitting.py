"""Fits an `IntentClassifier`. Needs scikit-learn, so a process that answers people runs it in another process.

Nothing that decides is typed in: threshold, weights of the scope and calibration come from texts that the machine
which scores them has not seen (held-out ones, or parts of the training texts left out in turn), and every figure on the
card from texts that none of these has seen either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inference.calibration import (
    area_under_curve,
    calibration_error,
    fit_calibrator,
    fit_logistic,
)
from inference.features import Lexicon, SparseRow
from inference.intent_classifier import KIND, Examples, IntentClassifier, Look, Machine, Scale
from inference.model_card import ModelCard, counts_of, digest_of, now
from inference.neighbours import Neighbours

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.float64]
    Flags = NDArray[np.bool_]

OUT_OF_SCOPE_SHARE = 0.45
"""Share of the traffic that is taken to be out of scope, whatever the examples' numbers: the threshold stands where at
this share a text is as likely in scope as not, and confidence is calibrated for it. A little under a half, because
people mostly ask an assistant for what it does."""

PARTS = 5
FINER, SMALL = 10, 300
"""Parts of the training texts that are left out in turn; `FINER` ones with fewer than `SMALL` texts in scope, of which
each fifth left out would be missed."""

EMBEDDING_WEIGHT = 2.0
"""Length of the embedding beside words and pieces of length 1 each. 2 and 3 are equally good on all of CLINC150; with
eight examples a label 2 is better."""

PENALTY = 0.5
"""The machine's C. From 0.3 to 3 accuracy on CLINC150 moves by 0.2 points, at 5, 10, 20 and 100 examples a label."""

FEW, MANY = 50, 30
MEAN_WEIGHT = 2.0
"""With up to `FEW` examples of each of at least `MANY` labels the likeness to the label's mean, times this, is added to
its margin: worth half a point on all of CLINC150 at 5 to 20 examples a label, nothing at 100, and nothing with 8
labels, where the scope gets worse."""

SIGNS = (1.0, 1.0, 1.0, 1.0, -1.0)
"""Which way each of `Look.features` points: likeness to texts out of scope against."""

PRIOR = 1.0
"""What the prior of the scope's weights counts for, in texts. It is that all five, each at a spread of 1, weigh the
same. With it a few unlucky texts out of scope do not decide: over 20 draws of 8 texts out of scope from CLINC150 and an
encoder tuned to it, the worst AUROC is 98.0 and 95.8 without; of 50 the means are the same. From 0.5 to 4 the means
differ by 0.2 points at most."""

KEPT_A_LABEL = 200
"""Examples of a label that are kept to be compared with; further ones change little and cost memory and time."""

SPLITS = 5
"""Times the scored texts are split in halves for the figures on the card: few texts out of scope fall into one half or
the other, and the AUROC of one half alone moves by half a percent with that."""

SCORED = 4000
"""Texts in scope that are scored for threshold and calibration, at most."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Texts that the machine which looked at them had not seen."""

    looks: tuple[Look, ...]
    inside: Flags
    right: Flags
    """In scope, and the best label is the text's own."""

    def chosen(self, rows: NDArray[np.int64]) -> Scored:
        return Scored(tuple(self.looks[row] for row in rows), self.inside[rows], self.right[rows])

    def weights(self) -> Rows:
        """How much of the traffic a text stands for; 1 on average."""
        import numpy

        inside, outside = int(self.inside.sum()), int((~self.inside).sum())
        size = len(self.inside)
        weights: Rows = numpy.where(
            self.inside, (1 - OUT_OF_SCOPE_SHARE) * size / inside, OUT_OF_SCOPE_SHARE * size / max(outside, 1)
        )
        return weights


def fit_intents(
    train: Examples,
    *,
    embedding_model: str,
    source: str,
    held_out: Examples | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> IntentClassifier:
    """A classifier of the labels in `train`; texts labelled None there are learnt as out of scope.

    Threshold and calibration come from `held_out`, which should hold texts out of scope too; without it from `train`
    by leaving parts out. Where neither has texts out of scope, those of labels left out stand for them. `progress` is
    told each step. Raises `ValueError` where a label has fewer than two examples or there is nothing to tell apart.
    """
    inside = [row for row, label in enumerate(train.labels) if label is not None]
    counts = counts_of(train.labels[row] for row in inside)
    _check(counts, held_out, bool(len(inside) < len(train.labels)))
    if held_out is not None and None in held_out.labels:
        machine = _machine(train, progress)
        progress(f"scoring {len(held_out.texts)} held-out texts")
        scored = _score(machine, held_out)
        measured = f"{len(held_out.texts)} held-out texts, split in halves {SPLITS} times"
    else:
        scored = _left_out(train, held_out, progress)
        machine = _machine(train, progress)
        measured = f"{len(scored.looks)} texts that were left out of the fit in turn, split in halves {SPLITS} times"
    progress("fitting threshold and calibration")
    scale = fit_scale(scored)
    card = ModelCard(
        kind=KIND,
        made_at=now(),
        source=source,
        data_digest=digest_of(zip(train.texts, train.labels, strict=True)),
        counts={"training": counts_of(train.labels)}
        | ({} if held_out is None else {"held out": counts_of(held_out.labels)}),
        embedding_model=embedding_model,
        metrics=_measured(scored),
        measured_on=f"{measured}, each half with threshold and calibration from the other; ECE with "
        f"{OUT_OF_SCOPE_SHARE:.0%} of the traffic taken to be out of scope",
        settings={
            "threshold": scale.threshold,
            "calibration of the scope": scale.scope.method,
            "calibration of the label": scale.label.method,
            "share taken to be out of scope": OUT_OF_SCOPE_SHARE,
        },
    )
    return IntentClassifier(machine, scale, card)


def fit_scale(scored: Scored) -> Scale:
    """Weights of the scope, threshold and calibration, from texts that were scored unseen."""
    import numpy

    rows = numpy.array([look.features for look in scored.looks], dtype=numpy.float64)
    weights = scored.weights()
    slopes, offset = _slopes(rows, scored.inside, weights)
    scope = rows @ slopes + offset
    return Scale(
        weights=tuple(float(slope) for slope in slopes),
        offset=offset,
        threshold=_threshold(scope, scored, weights),
        scope=fit_calibrator(scope, scored.inside, weights),
        label=fit_calibrator(
            numpy.array([look.label_score for look, in_ in zip(scored.looks, scored.inside, strict=True) if in_]),
            scored.right[scored.inside],
        ),
    )


def _slopes(rows: Rows, inside: Flags, weights: Rows) -> tuple[Rows, float]:
    """Weights of the scope and its offset: a logistic regression that stays near the prior where texts are few.

    Texts that stand for many say less than as many texts, so the prior is held against their effective number (Kish
    1965, "Survey Sampling": the square of the sum of the weights over the sum of their squares).
    """
    import numpy

    centre, spread = rows.mean(axis=0), rows.std(axis=0)
    spread[spread < 1e-9] = 1.0
    standard = (rows - centre) / spread
    together = float(fit_logistic((standard @ SIGNS)[:, None], inside, weights, penalty=1e-2)[0])
    prior = max(together, 0.0) * numpy.array(SIGNS)
    effective = float(weights.sum()) ** 2 / float((weights**2).sum())
    penalty = PRIOR * float(weights.sum()) / effective
    beta = fit_logistic(standard, inside, weights, penalty=penalty, prior=prior)
    slopes: Rows = beta[:-1] / spread
    return slopes, float(beta[-1] - slopes @ centre)


def _threshold(scope: Rows, scored: Scored, weights: Rows) -> float:
    """Where a text is as likely in scope as out of it, by logistic regression on the scope.

    The threshold with the most right answers on the same texts is no better on others and jumps more: over halves of
    CLINC150's validation texts the shares accepted and refused spread by 1.0 and 2.7 points with it, by 0.7 and 2.0
    with this one.
    """
    centre, spread = float(scope.mean()), float(scope.std()) or 1.0
    found = fit_logistic(((scope - centre) / spread)[:, None], scored.inside, weights, penalty=1e-2)
    slope, offset = float(found[0]), float(found[1])
    return centre - spread * offset / max(slope, 1e-6)


def _measured(scored: Scored) -> dict[str, float]:
    """Figures of each half of the texts, decided on with the scale of the other half; the mean over `SPLITS` splits.

    Empty where there are not two texts of each kind.
    """
    import numpy

    if min(int(scored.inside.sum()), int((~scored.inside).sum())) < 2:
        return {}
    random = numpy.random.default_rng(0)
    found = [_measured_in_halves(scored, random) for _ in range(SPLITS)]
    return {name: float(numpy.mean([each[name] for each in found])) for name in found[0]}


def _measured_in_halves(scored: Scored, random: np.random.Generator) -> dict[str, float]:
    import numpy

    size = len(scored.looks)
    half = numpy.zeros(size, dtype=bool)
    for kind in (True, False):
        half[random.permutation(numpy.flatnonzero(scored.inside == kind))[::2]] = True
    scope, confidence, curves = numpy.zeros(size), numpy.zeros(size), []
    accepted = numpy.zeros(size, dtype=bool)
    for here in (half, ~half):
        scale = fit_scale(scored.chosen(numpy.flatnonzero(~here)))
        for row in numpy.flatnonzero(here):
            look = scored.looks[row]
            scope[row] = scale.scope_of(look)
            accepted[row] = scope[row] >= scale.threshold
            probability = scale.scope.probability(scope[row])
            confidence[row] = (
                probability * scale.label.probability(look.label_score) if accepted[row] else 1 - probability
            )
        curves.append(area_under_curve(scope[here & scored.inside], scope[here & ~scored.inside]))
    found = figures(scope, accepted, confidence, scored.inside, scored.right, scored.weights())
    # Scopes of two scales are not comparable: an AUROC over both halves together came out a whole percent too low.
    return found | {"out-of-scope AUROC": float(numpy.mean(curves))}


def figures(
    scope: Rows, accepted: Flags, confidence: Rows, inside: Flags, right: Flags, weights: Rows
) -> dict[str, float]:
    """What a classifier is judged by; all 0 to 1. `right`: the best label is the text's own, accepted or not."""
    import numpy

    answers_right = numpy.where(accepted, right, ~inside)
    return {
        "in-scope accuracy, no rejection": float(right[inside].mean()),
        "out-of-scope AUROC": area_under_curve(scope[inside], scope[~inside]),
        "in-scope recall at the threshold": float((right & accepted)[inside].mean()),
        "out-of-scope recall at the threshold": float((~accepted)[~inside].mean()),
        "expected calibration error": calibration_error(confidence, answers_right, weights),
    }


def _check(counts: dict[str, int], held_out: Examples | None, knows_outside: bool) -> None:
    few = sorted(label for label, count in counts.items() if count < 2)
    if few:
        raise ValueError(f"every label needs two examples; these have one: {', '.join(few)}")
    if len(counts) < (1 if knows_outside else 2):
        raise ValueError("two labels, or one and texts out of scope, are the least that can be told apart")
    if len(counts) < 3 and not knows_outside and (held_out is None or None not in held_out.labels):
        raise ValueError("with two labels texts out of scope are needed to find where the labels end")
    unknown = sorted({label for label in held_out.labels if label} - counts.keys()) if held_out else []
    if unknown:
        raise ValueError(f"held-out texts have labels without training examples: {', '.join(unknown[:5])}")


def _parts(train: Examples, parts: int) -> list[tuple[list[int], list[int]]]:
    """(rows kept, rows left out) for each part; each label's texts spread over the parts, and at least one is kept."""
    import numpy

    random = numpy.random.default_rng(0)
    part = numpy.zeros(len(train.texts), dtype=numpy.int64)
    by_label: dict[str | None, list[int]] = {}
    for row, label in enumerate(train.labels):
        by_label.setdefault(label, []).append(row)
    for start, rows in enumerate(by_label.values()):
        # Each label starts at another part: with fewer examples than parts, every part still leaves some out.
        part[random.permutation(rows)] = (numpy.arange(len(rows)) + start) % parts
    return [
        (numpy.flatnonzero(part != number).tolist(), numpy.flatnonzero(part == number).tolist())
        for number in range(parts)
    ]


def _left_out(train: Examples, held_out: Examples | None, progress: Callable[[str], None]) -> Scored:
    """Training texts scored by machines that were fitted without them.

    Without texts out of scope every part leaves a fifth of the labels out altogether, and their texts stand for those
    out of scope. Held-out texts in scope are scored by each of the machines that knows their label.
    """
    import numpy

    labels = sorted({label for label in train.labels if label is not None})
    pseudo = None not in train.labels
    found: list[Scored] = []
    random = numpy.random.default_rng(0)
    shuffled = [labels[index] for index in random.permutation(len(labels))]
    count = FINER if sum(label is not None for label in train.labels) < SMALL else PARTS
    parts = min(count, len(labels)) if pseudo else count
    for number, (kept, left) in enumerate(_parts(train, parts)):
        progress(f"leaving out part {number + 1} of {parts}")
        unknown = set(shuffled[number::parts]) if pseudo else set()
        machine = _machine(train.chosen([row for row in kept if train.labels[row] not in unknown]), lambda step: None)
        seen = held_out if held_out is not None else train.chosen(left)
        if unknown:
            rows = [row for row, label in enumerate(train.labels) if label in unknown]
            rows = [rows[index] for index in random.permutation(len(rows))[: SCORED // parts]]
            strangers = Examples(tuple(train.texts[row] for row in rows), (None,) * len(rows), train.vectors[rows])
            found.append(_score(machine, strangers))
        known = [row for row, label in enumerate(seen.labels) if label not in unknown]
        found.append(
            _score(machine, seen.chosen([known[i] for i in random.permutation(len(known))[: SCORED // parts]]))
        )
    return Scored(
        tuple(look for each in found for look in each.looks),
        numpy.concatenate([each.inside for each in found]),
        numpy.concatenate([each.right for each in found]),
    )


def _score(machine: Machine, examples: Examples) -> Scored:
    import numpy

    looks = [machine.look(text, vector) for text, vector in zip(examples.texts, examples.vectors, strict=True)]
    return Scored(
        tuple(looks),
        numpy.array([label is not None for label in examples.labels], dtype=bool),
        numpy.array(
            [machine.labels[look.best] == label for look, label in zip(looks, examples.labels, strict=True)], dtype=bool
        ),
    )


def _machine(train: Examples, progress: Callable[[str], None]) -> Machine:
    """Fit the support vector machine, and keep the examples to be compared with."""
    import numpy

    progress(f"reading the words of {len(train.texts)} texts")
    size = len(train.texts)
    lexicon = Lexicon.of(train.texts, least_words=1 if size < 1000 else 2, least_pieces=1 if size < 1000 else 3)
    rows = [lexicon.row(text) for text in train.texts]
    labels = sorted({label for label in train.labels if label is not None})
    number = {label: index for index, label in enumerate(labels)}
    outputs = numpy.array([number[label] if label is not None else len(labels) for label in train.labels])
    groups: list[list[int]] = [numpy.flatnonzero(outputs == index).tolist() for index in range(len(labels) + 1)]
    progress(f"fitting {len(labels)} labels")
    inside = numpy.flatnonzero(outputs < len(labels))
    weights, bias = support_vectors([rows[row] for row in inside], train.vectors[inside], outputs[inside], lexicon.size)
    means = numpy.array([train.vectors[group].mean(axis=0) for group in groups[:-1]], dtype=numpy.float32)
    means /= numpy.maximum(numpy.linalg.norm(means, axis=1, keepdims=True), 1e-9)
    dense = EMBEDDING_WEIGHT * weights[lexicon.size :]
    if len(labels) >= MANY and len(inside) <= FEW * len(labels):
        dense += MEAN_WEIGHT * means.T
    random = numpy.random.default_rng(0)
    kept = [
        [(rows[row], train.vectors[row]) for row in sorted(random.permutation(group)[:KEPT_A_LABEL])]
        for group in groups
    ]
    dimensions = train.vectors.shape[1]
    return Machine(
        labels=tuple(labels),
        lexicon=lexicon,
        sparse=weights[: lexicon.size].astype(numpy.float16),
        dense=numpy.ascontiguousarray(dense, dtype=numpy.float32),
        bias=bias.astype(numpy.float32),
        means=means,
        inside=Neighbours.of(kept[:-1], dimensions),
        outside=Neighbours.of(kept[-1:], dimensions),
    )


def support_vectors(
    rows: Sequence[SparseRow], vectors: NDArray[np.float32], outputs: NDArray[np.int64], columns: int
) -> tuple[Rows, Rows]:
    """Weights [columns + dimensions, labels] and bias of one machine a label against the other labels.

    Texts out of scope are not among them: they would teach it to refuse what is like these few, and are compared with
    instead.
    """
    import numpy
    from scipy.sparse import csr_matrix, hstack
    from sklearn.svm import LinearSVC

    labels = int(outputs.max()) + 1
    if labels == 1:
        # Nothing to tell it from: only its examples say what is in scope.
        return numpy.zeros((columns + vectors.shape[1], 1)), numpy.zeros(1)
    starts = numpy.cumsum([0, *(len(row.columns) for row in rows)])
    words = csr_matrix(
        (
            numpy.concatenate([row.values for row in rows]),
            numpy.concatenate([row.columns for row in rows]),
            starts,
        ),
        shape=(len(rows), columns),
    )
    design = hstack([words, csr_matrix(EMBEDDING_WEIGHT * vectors)]).tocsr()
    machine = LinearSVC(C=PENALTY, random_state=0, max_iter=2000).fit(design, outputs)
    weights, bias = machine.coef_.T, machine.intercept_
    if labels == 2:
        # Of two labels scikit-learn fits the second against the first only.
        weights, bias = numpy.hstack([-weights, weights]), numpy.concatenate([-bias, bias])
    return weights, bias
