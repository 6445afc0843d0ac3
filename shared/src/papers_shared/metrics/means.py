"""The mean of a metric over classes, images or sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mean(values: Sequence[float]) -> float:
    """NumPy's, as the authors' programs have it: Python's own `sum` rounds in another way from 3.12 on.

    Args:
        values: One or more.
    """
    return float(np.mean(np.asarray(values, np.float64)))
