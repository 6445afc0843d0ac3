"""Maps as pictures."""

from __future__ import annotations

import numpy as np

from papers_shared.heat import COLOURMAP, heat_map


def test_heat_map() -> None:
    values = np.linspace(0, 1, 200).reshape(10, 20)
    drawn = np.asarray(heat_map(values, (40, 20)))
    assert drawn.shape == (20, 40, 3)
    np.testing.assert_allclose(drawn[0, 0], COLOURMAP[0], atol=3)
    np.testing.assert_allclose(drawn[-1, -1], COLOURMAP[-1], atol=3)
    assert np.isfinite(np.asarray(heat_map(np.ones((3, 4)), (8, 6)))).all()


def test_limits_are_kept() -> None:
    values = np.array([[0.0, 0.5], [0.5, 0.5]])
    drawn = np.asarray(heat_map(values, (2, 2), limits=(0, 1)))
    np.testing.assert_allclose(drawn[1, 1], COLOURMAP[4], atol=1)
