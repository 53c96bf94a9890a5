"""Probabilities that can be believed, and measures that notice where they cannot."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.calibration import (
    Calibrator,
    area_under_curve,
    calibration_error,
    fit_calibrator,
    fit_logistic,
    reliability,
)


def drawn(size: int, slope: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Scores, whether right, and the true probabilities of being right."""
    random = np.random.default_rng(seed)
    scores = random.normal(0, 2, size)
    truth = 1 / (1 + np.exp(-slope * scores))
    return scores, random.random(size) < truth, truth


@pytest.mark.parametrize("slope", [0.3, 1.0, 4.0])
def test_the_fitted_probability_is_near_the_true_one_on_texts_it_never_saw(slope: float) -> None:
    calibrator = fit_calibrator(*drawn(3000, slope)[:2])
    scores, right, truth = drawn(3000, slope, seed=1)
    said = np.array([calibrator.probability(float(score)) for score in scores])
    assert np.abs(said - truth).mean() < 0.03
    assert calibration_error(said, right) < 0.03


def test_the_error_notices_a_classifier_that_is_too_sure() -> None:
    _, right, truth = drawn(4000, 1.0)
    certain = np.where(truth > 0.5, 0.99, 0.01)
    assert calibration_error(certain, right) > 0.15
    assert calibration_error(truth, right) < 0.03


def test_weights_stand_for_as_many_texts() -> None:
    scores, right, _ = drawn(400, 1.0)
    plain = fit_calibrator(scores, right)
    rare = fit_calibrator(scores, right, np.where(right, 0.1, 1.0))
    assert plain.probability(0.7) == pytest.approx(1 / (1 + np.exp(-0.7)), abs=0.1)
    # Odds a tenth as high: about 0.17.
    assert rare.probability(0.7) == pytest.approx(0.17, abs=0.08)


@pytest.mark.parametrize("right", [[True] * 40, [False] * 40, [True] * 3, [True, False]])
def test_few_texts_or_texts_of_one_kind_make_no_certainty(right: list[bool]) -> None:
    scores = np.linspace(-1, 1, len(right))
    calibrator = fit_calibrator(scores, np.array(right))
    assert all(0.01 < calibrator.probability(float(score)) < 0.99 for score in scores)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-40, 40), st.booleans()), min_size=2, max_size=80),
    st.lists(st.floats(-1000, 1000), min_size=2, max_size=6),
)
def test_a_higher_score_never_has_a_lower_probability(rows: list[tuple[float, bool]], asked: list[float]) -> None:
    calibrator = fit_calibrator(np.array([score for score, _ in rows]), np.array([right for _, right in rows]))
    said = [calibrator.probability(score) for score in sorted(asked)]
    assert said == sorted(said)
    assert all(0 <= each <= 1 for each in said)


def test_a_calibrator_survives_being_written_down() -> None:
    for slope in (0.3, 4.0):
        calibrator = fit_calibrator(*drawn(500, slope)[:2])
        assert Calibrator.from_json(json.loads(json.dumps(calibrator.as_json()))) == calibrator
    stepped = Calibrator("isotonic", knots=((0.0, 0.25), (1.0, 0.75)))
    assert Calibrator.from_json(json.loads(json.dumps(stepped.as_json()))) == stepped
    assert [stepped.probability(score) for score in (-1, 0.5, 9)] == [0.25, 0.5, 0.75]


def test_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    assert area_under_curve(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    assert area_under_curve(np.array([0.0]), np.array([1.0])) == 0.0
    assert area_under_curve(np.array([1.0, 0.0]), np.array([1.0, 0.5])) == pytest.approx(1.5 / 4)


def test_the_bins_of_the_diagram_hold_everything_once() -> None:
    _, right, truth = drawn(1000, 1.0)
    bins = reliability(truth, right)
    assert sum(each.share for each in bins) == pytest.approx(1)
    assert [each.confidence for each in bins] == sorted(each.confidence for each in bins)
    assert sum(each.share * each.right for each in bins) == pytest.approx(right.mean())


def test_the_logistic_regression_finds_the_slopes_it_was_drawn_from() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(5000, 2))
    right = random.random(5000) < 1 / (1 + np.exp(-(2 * rows[:, 0] - rows[:, 1] + 0.5)))
    found = fit_logistic(rows, right, np.ones(5000), penalty=1e-3)
    assert found == pytest.approx([2, -1, 0.5], abs=0.2)


def test_the_prior_decides_where_texts_are_few_and_the_texts_where_they_are_many() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(5000, 2))
    right = random.random(5000) < 1 / (1 + np.exp(-(2 * rows[:, 0] - rows[:, 1])))
    prior = np.array([1.0, 1.0])
    few = fit_logistic(rows[:6], right[:6], np.ones(6), penalty=100, prior=prior)
    many = fit_logistic(rows, right, np.ones(5000), penalty=1, prior=prior)
    assert few[:2] == pytest.approx(prior, abs=0.1)
    assert many[:2] == pytest.approx([2, -1], abs=0.2)
