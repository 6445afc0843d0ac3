"""Drawings for people."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from papers_shared.drawing import COLOURMAP, heat_map, legend, overlay, palette_for, shrink, side_by_side
from papers_shared.errors import UserError


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


def test_overlay() -> None:
    image = Image.new("RGB", (3, 1), (100, 100, 100))
    drawn = overlay(image, np.array([[0, 1, 255]]), [(0, 0, 0), (200, 0, 100)], alpha=0.5)
    assert np.asarray(drawn).tolist() == [[[50, 50, 50], [150, 50, 100], [100, 100, 100]]]
    with pytest.raises(UserError, match="holds class 2, but there are 2 colours"):
        overlay(image, np.array([[0, 1, 2]]), [(0, 0, 0), (200, 0, 100)])
    with pytest.raises(UserError, match="the mask is 2 x 1, the image 3 x 1"):
        overlay(image, np.array([[0, 1]]), [(0, 0, 0), (200, 0, 100)])


def test_legend_keeps_the_picture_and_wraps() -> None:
    image = Image.new("RGB", (200, 50), (1, 2, 3))
    names = ["background", "rigid_plastic", "cardboard", "metal"]
    palette = palette_for(4)
    drawn = legend(image, names, palette)
    assert drawn.width == 200
    assert drawn.height > legend(image, names[:1], palette[:1]).height
    assert np.array_equal(np.asarray(drawn)[:50], np.asarray(image))
    colours = {tuple(pixel) for row in np.asarray(drawn)[50:].tolist() for pixel in row}
    assert set(palette) <= colours


def test_palette_keeps_what_is_given() -> None:
    given = ((1, 2, 3), (4, 5, 6))
    assert palette_for(4, given)[:2] == given
    assert len(palette_for(4, given)) == 4
    assert len(set(palette_for(32))) == 32


def test_side_by_side() -> None:
    panel = side_by_side(
        [("a", Image.new("RGB", (40, 20), "red")), ("b", Image.new("RGB", (10, 10), "blue"))]
    )
    assert panel.width == 40 + 20 + 3 * 8
    pixels = np.asarray(panel)
    assert (pixels == [255, 0, 0]).all(-1).sum() == 40 * 20
    assert (pixels == [0, 0, 255]).all(-1).sum() == 20 * 20


def test_shrink_never_enlarges() -> None:
    image = Image.new("RGB", (40, 10))
    assert shrink(image, 20).size == (20, 5)
    assert shrink(image, 80).size == shrink(image, 0).size == (40, 10)
