"""How far a metric over samples would move with another draw of them: percentile bootstrap intervals."""

from __future__ import annotations

import numpy as np

from papers_shared.errors import UserError


def resamples(num_samples: int, draws: int, seed: int = 0) -> np.ndarray:
    """(draws, num_samples) indices drawn with replacement; the same on all machines.

    Raises:
        UserError: No sample to draw from, or a negative number.
    """
    if num_samples < 1 or draws < 0 or seed < 0:
        raise UserError(f"{draws} bootstrap draws of {num_samples} samples with seed {seed} cannot be made")
    words = np.random.PCG64(seed).random_raw(draws * num_samples).reshape(draws, num_samples)
    return (words % np.uint64(num_samples)).astype(np.int64)


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float] | None:
    """The central interval that holds `level` of the resampled metrics; None where none of them exists.

    Args:
        values: (draws,) with NaN for draws in which the metric does not exist, such as an AUC of one class.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
