"""From the image score to a probability and a verdict, chosen on held-out images and stored with the model.

A temperature leaves the order of the scores, and so I-AUC, as it is (Guo et al. 2017, "On Calibration of Modern Neural
Networks", Section 4.2).
"""

from __future__ import annotations

import math

import numpy as np

from cabl_cgsr.config import Calibration

FEWEST = 10
"""Held-out images of each kind below which nothing is chosen."""
RIGHT = 0.9
"""Share of right verdicts on held-out images that those outside the band of "can't say" must reach."""
TEMPERATURES = np.exp(np.linspace(math.log(0.05), math.log(20), 481))
SMALLEST = 1e-6
"""Scores are kept this far from 0 and 1, where the logarithm ends."""


def probability(score: float, calibration: Calibration) -> float:
    """The probability that the image is manipulated."""
    if calibration.images == 0:
        return score
    return float(_tempered(np.array([score]), calibration.temperature)[0])


def calibrate(labels: np.ndarray, scores: np.ndarray) -> Calibration:
    """Temperature, threshold and the band of "can't say" from held-out images.

    The temperature has the highest likelihood; the threshold the highest mean of both kinds' shares of right verdicts;
    the band is the narrowest outside which `RIGHT` of the verdicts are right, and never holds more than half of them.

    Args:
        labels: (N,) 1 manipulated, 0 authentic.
        scores: (N,) image scores in [0, 1].

    Returns:
        The neutral calibration where there are fewer than `FEWEST` images of a kind.
    """
    manipulated = np.asarray(labels) == 1
    if min(manipulated.sum(), (~manipulated).sum()) < FEWEST:
        return Calibration()
    likelihoods = [_log_likelihood(manipulated, _tempered(scores, t)) for t in TEMPERATURES]
    temperature = float(TEMPERATURES[int(np.argmax(likelihoods))])
    found = _tempered(scores, temperature)
    threshold = _threshold(manipulated, found)
    distance = np.abs(found - threshold)
    right = (found > threshold) == manipulated
    unsure = 0.0
    for width in (0.0, *np.sort(distance)[: len(distance) // 2]):
        outside = distance >= width
        unsure = float(width)
        if right[outside].mean() >= RIGHT:
            break
    return Calibration(temperature, threshold, unsure, len(found))


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: |share of manipulated images - mean probability|, averaged over equal bins."""
    manipulated, found = np.asarray(labels) == 1, np.asarray(probabilities, float)
    index = np.minimum((found * bins).astype(int), bins - 1)
    parts = [index == number for number in range(bins)]
    gaps = [abs(manipulated[part].mean() - found[part].mean()) * part.sum() for part in parts if part.any()]
    return float(sum(gaps) / len(found))


def _tempered(scores: np.ndarray, temperature: float) -> np.ndarray:
    clipped = np.clip(np.asarray(scores, float), SMALLEST, 1 - SMALLEST)
    return 1 / (1 + np.exp(-np.log(clipped / (1 - clipped)) / temperature))


def _log_likelihood(manipulated: np.ndarray, found: np.ndarray) -> float:
    return float(np.log(np.where(manipulated, found, 1 - found).clip(1e-12)).sum())


def _threshold(manipulated: np.ndarray, found: np.ndarray) -> float:
    """Between two neighbouring probabilities; of equally good ones that nearest to 0.5."""
    values = np.unique(found)
    middles = np.append((values[1:] + values[:-1]) / 2, 0.5)
    balanced = [
        (found[manipulated] > middle).mean() + (found[~manipulated] <= middle).mean() for middle in middles
    ]
    best = np.flatnonzero(np.isclose(balanced, max(balanced), atol=1e-12, rtol=0))
    return float(middles[best[np.argmin(np.abs(middles[best] - 0.5))]])
