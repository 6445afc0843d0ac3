"""Maps of numbers as pictures."""

from __future__ import annotations

import numpy as np
from PIL import Image

COLOURMAP = np.array(
    [
        (14, 0, 63),
        (54, 0, 95),
        (102, 2, 111),
        (147, 30, 107),
        (190, 57, 95),
        (225, 92, 76),
        (251, 133, 49),
        (255, 183, 79),
        (255, 228, 126),
    ],
    np.float32,
)
"""Dark violet to light yellow in equal steps of OKLCH lightness (0.18 to 0.92) and hue."""


def heat_map(
    values: np.ndarray, size: tuple[int, int], *, limits: tuple[float, float] | None = None
) -> Image.Image:
    """An (h, w) map in the colours of `COLOURMAP`, enlarged to `size` (width, height).

    Args:
        limits: Values at the two ends of the colours; None: the map's 1st and 99th percentile.
    """
    low, high = np.percentile(values, (1, 99)) if limits is None else limits
    stretched = ((values - low) / max(high - low, 1e-12)).clip(0, 1).astype(np.float32)
    enlarged = np.asarray(Image.fromarray(stretched).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    anchors = np.linspace(0, 1, len(COLOURMAP))
    colours = np.stack([np.interp(enlarged, anchors, COLOURMAP[:, channel]) for channel in range(3)], axis=-1)
    return Image.fromarray(colours.round().astype(np.uint8))
