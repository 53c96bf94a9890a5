"""Turns scores into probabilities that can be believed, and measures whether they can.

Everything here is numpy and small: a calibrator is fitted where a classifier is, and only applied where it answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

FOLDS = 5
"""Parts in which calibration methods are compared: each is judged on texts it was not fitted on."""

BINS = 15
"""Bins of the expected calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks")."""

FLATTEST, STEEPEST = 1e-3, 50.0
"""Bounds of a fitted slope: scores that separate perfectly must not end in a certainty that nobody can have."""


@dataclass(frozen=True, slots=True)
class Calibrator:
    """A rising map from scores to probabilities; one of three forms, told apart by what is filled in.

    `temperature` and `platt`: `1 / (1 + exp(-(slope * score + offset)))`, the former with no offset.
    `isotonic`: straight lines between `knots`.
    """

    method: str
    slope: float = 1.0
    offset: float = 0.0
    knots: tuple[tuple[float, float], ...] = ()
    """(score, probability), both rising; only for `isotonic`."""

    def probability(self, score: float) -> float:
        """0 to 1, never quite either."""
        if self.method != "isotonic":
            return _logistic(self.slope * score + self.offset)
        before = self.knots[0]
        if score <= before[0]:
            return before[1]
        for after in self.knots[1:]:
            if score < after[0]:
                share = (score - before[0]) / (after[0] - before[0])
                return before[1] + share * (after[1] - before[1])
            before = after
        return before[1]

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            "method": self.method,
            "slope": self.slope,
            "offset": self.offset,
            "knots": [list(k) for k in self.knots],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Calibrator:
        """Raises `KeyError`, `TypeError` or `ValueError` where it was not written by `as_json`."""
        knots = tuple((float(score), float(probability)) for score, probability in value["knots"])
        return cls(str(value["method"]), float(value["slope"]), float(value["offset"]), knots)


def fit_calibrator(scores: Values, right: NDArray[np.bool_], weights: Values | None = None) -> Calibrator:
    """The method with the least expected calibration error on texts it was not fitted on, fitted on all of them.

    `weights` say how many texts of real traffic a text stands for. With fewer than 30 texts, or of one kind only,
    there is nothing to compare and Platt's method is taken, which shrinks towards the middle (Platt 1999).
    """
    import numpy

    weights = numpy.ones(len(scores)) if weights is None else weights
    methods: dict[str, Callable[[Values, NDArray[np.bool_], Values], Calibrator]] = {
        "platt": _platt, "temperature": _temperature, "isotonic": _isotonic,
    }  # fmt: skip
    if len(scores) < 30 or right.all() or not right.any():
        return _platt(scores, right, weights)
    # Both kinds in every part, whatever their order: the i-th text of each kind goes to part i modulo FOLDS.
    part = numpy.zeros(len(scores), dtype=numpy.int64)
    for kind in (True, False):
        of_kind = numpy.flatnonzero(right == kind)
        part[of_kind] = numpy.arange(len(of_kind)) % FOLDS
    errors = {}
    for name, fit in methods.items():
        out = numpy.zeros(len(scores))
        for fold in range(FOLDS):
            here = part == fold
            calibrator = fit(scores[~here], right[~here], weights[~here])
            out[here] = [calibrator.probability(float(score)) for score in scores[here]]
        errors[name] = calibration_error(out, right, weights)
    return methods[min(errors, key=errors.__getitem__)](scores, right, weights)


def calibration_error(
    confidence: Values, right: NDArray[np.bool_], weights: Values | None = None, bins: int = BINS
) -> float:
    """Expected calibration error, 0 to 1: the mean distance of confidence and share right, over bins of equal mass."""
    return sum(bin_.share * abs(bin_.confidence - bin_.right) for bin_ in reliability(confidence, right, weights, bins))


@dataclass(frozen=True, slots=True)
class Bin:
    """Decisions of like confidence."""

    confidence: float
    """Their mean confidence."""
    right: float
    """Share of them that was right."""
    share: float
    """Share of all decisions that are in this bin."""


def reliability(
    confidence: Values, right: NDArray[np.bool_], weights: Values | None = None, bins: int = BINS
) -> tuple[Bin, ...]:
    """The reliability diagram's bins, least confident first; each holds about as many decisions as the next."""
    import numpy

    weights = numpy.ones(len(confidence)) if weights is None else weights
    order = numpy.argsort(confidence, kind="stable")
    total = float(weights.sum())
    found = []
    place = numpy.minimum((numpy.cumsum(weights[order]) - weights[order] / 2) / total * bins, bins - 1).astype(int)
    for number in range(bins):
        members = order[place == number]
        mass = float(weights[members].sum())
        if mass > 0:
            mean = float(weights[members] @ confidence[members]) / mass
            share_right = float(weights[members] @ right[members].astype(numpy.float64)) / mass
            found.append(Bin(mean, share_right, mass / total))
    return tuple(found)


def area_under_curve(inside: Values, outside: Values) -> float:
    """AUROC: the chance that a text in scope scores higher than one out of scope, ties counting half."""
    import numpy

    both = numpy.concatenate([inside, outside])
    _, inverse, counts = numpy.unique(both, return_inverse=True, return_counts=True)
    ends = numpy.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[inverse]
    n, m = len(inside), len(outside)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def fit_logistic(
    rows: Values, right: NDArray[np.bool_], weights: Values, *, penalty: float, prior: Values | None = None
) -> Values:
    """Weights of a logistic regression, the offset last; `rows` float64 [n, features] should be standardised.

    Newton's method on the weighted log loss plus `penalty / 2` times the squared distance of the weights (not of the
    offset) from `prior`, float64 [features], or from nought.
    """
    import numpy

    design = numpy.hstack([rows, numpy.ones((len(rows), 1))])
    ridge = numpy.diag([*[penalty] * rows.shape[1], 1e-9])
    start = numpy.append(numpy.zeros(rows.shape[1]) if prior is None else prior, 0.0)
    beta = start

    def loss(beta: Values) -> float:
        logits, moved = design @ beta, beta - start
        return float(weights @ (numpy.logaddexp(0, logits) - logits * right) + moved @ ridge @ moved / 2)

    before = loss(beta)
    for _ in range(60):
        p = 1 / (1 + numpy.exp(-numpy.clip(design @ beta, -500, 500)))
        gradient = design.T @ (weights * (p - right)) + ridge @ (beta - start)
        hessian = (design * (weights * p * (1 - p))[:, None]).T @ design + ridge
        step = numpy.linalg.solve(hessian + 1e-9 * numpy.eye(len(beta)), gradient)
        # A full Newton step can overshoot where the classes are far apart; half of it, and half again, cannot for ever.
        scale = 1.0
        while scale > 1e-6 and loss(beta - scale * step) > before:
            scale /= 2
        beta = beta - scale * step
        after = loss(beta)
        if before - after < 1e-9 * max(1.0, abs(before)):
            break
        before = after
    return beta


def logit(probability: float) -> float:
    """Of a probability, kept finite."""
    kept = min(max(probability, 1e-9), 1 - 1e-9)
    return math.log(kept / (1 - kept))


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


def _platt(scores: Values, right: NDArray[np.bool_], weights: Values) -> Calibrator:
    """Platt (1999), with his targets: as if one more text of each kind had been seen."""
    import numpy

    positive, negative = float(weights[right].sum()), float(weights[~right].sum())
    high, low = (positive + 1) / (positive + 2), 1 / (negative + 2)
    mean, spread = float(scores.mean()), float(scores.std()) or 1.0
    rows = numpy.concatenate([scores, scores])
    rows = ((rows - mean) / spread)[:, None]
    kinds = numpy.concatenate([numpy.ones(len(scores), dtype=bool), numpy.zeros(len(scores), dtype=bool)])
    targets = numpy.where(right, high, low)
    beta = fit_logistic(rows, kinds, numpy.concatenate([weights * targets, weights * (1 - targets)]), penalty=1e-3)
    slope = min(max(float(beta[0]) / spread, FLATTEST), STEEPEST)
    return Calibrator("platt", slope, float(beta[1]) - slope * mean)


def _temperature(scores: Values, right: NDArray[np.bool_], weights: Values) -> Calibrator:
    """The slope alone, by golden section over its logarithm; the score's zero stays where it is."""
    import numpy

    def loss(exponent: float) -> float:
        logits = math.exp(exponent) * scores
        return float(weights @ (numpy.logaddexp(0, logits) - logits * right))

    low, high = math.log(FLATTEST), math.log(STEEPEST)
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(60):
        left, here = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) < loss(here):
            high = here
        else:
            low = left
    return Calibrator("temperature", math.exp((low + high) / 2))


def _isotonic(scores: Values, right: NDArray[np.bool_], weights: Values) -> Calibrator:
    """Pool adjacent violators; each pool is a knot at its mean score, and no probability is nought or one."""
    import numpy

    pools: list[tuple[float, float, float]] = []
    for index in numpy.argsort(scores, kind="stable"):
        weight = float(weights[index])
        pool = (weight, weight * float(scores[index]), weight * float(right[index]))
        while pools and pools[-1][2] / pools[-1][0] >= pool[2] / pool[0]:
            last = pools.pop()
            pool = (last[0] + pool[0], last[1] + pool[1], last[2] + pool[2])
        pools.append(pool)
    # As if half a text of each kind more had been seen in every pool.
    knots = [(score / weight, (hits + 0.5) / (weight + 1)) for weight, score, hits in pools if weight > 0]
    rising: list[tuple[float, float]] = []
    for score, probability in knots:
        if rising and score <= rising[-1][0]:
            continue
        rising.append((score, max(probability, rising[-1][1]) if rising else probability))
    return Calibrator("isotonic", knots=tuple(rising))
