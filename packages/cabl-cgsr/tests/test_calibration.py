"""From scores to probabilities and verdicts."""

from __future__ import annotations

import numpy as np
import pytest

from cabl_cgsr.calibration import calibrate, calibration_error, probability
from cabl_cgsr.config import Calibration


def overconfident(number: int = 4000, temperature: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn with known probabilities, and scores whose logits are `temperature` times too large."""
    generator = np.random.default_rng(0)
    true = generator.uniform(0.02, 0.98, number)
    labels = (generator.uniform(size=number) < true).astype(int)
    return labels, 1 / (1 + np.exp(-temperature * np.log(true / (1 - true))))


def test_the_temperature_is_found_and_the_error_falls() -> None:
    labels, scores = overconfident()
    chosen = calibrate(labels, scores)
    assert chosen.temperature == pytest.approx(3.0, rel=0.1)
    assert chosen.threshold == pytest.approx(0.5, abs=0.06)
    assert chosen.images == len(labels)
    found = np.array([probability(score, chosen) for score in scores])
    assert calibration_error(labels, scores) > 0.1
    assert calibration_error(labels, found) < 0.03
    assert (np.argsort(found, kind="stable") == np.argsort(scores, kind="stable")).all(), "I-AUC stays"


def test_no_verdict_is_given_where_too_many_were_wrong() -> None:
    labels, scores = overconfident()
    chosen = calibrate(labels, scores)
    found = np.array([probability(score, chosen) for score in scores])
    outside = np.abs(found - chosen.threshold) >= chosen.unsure
    right = (found > chosen.threshold) == (labels == 1)
    assert right.mean() < 0.8
    assert right[outside].mean() > right.mean() + 0.05
    assert outside.mean() >= 0.5


def test_a_sure_model_always_answers() -> None:
    labels = np.repeat([0, 1], 20)
    scores = np.where(labels == 1, 0.9, 0.2) + np.linspace(-0.05, 0.05, 40)
    chosen = calibrate(labels, scores)
    assert chosen.unsure == 0
    assert probability(0.2, chosen) < chosen.threshold < probability(0.9, chosen)


def test_few_images_choose_nothing() -> None:
    assert calibrate(np.repeat([0, 1], [9, 30]), np.linspace(0, 1, 39)) == Calibration()
    assert probability(0.3, Calibration()) == 0.3


def test_extreme_scores_stay_finite() -> None:
    labels = np.repeat([0, 1], 10)
    chosen = calibrate(labels, labels.astype(float))
    assert all(0 <= probability(score, chosen) <= 1 for score in (0.0, 1.0))
    assert calibration_error(labels, labels.astype(float)) == 0
