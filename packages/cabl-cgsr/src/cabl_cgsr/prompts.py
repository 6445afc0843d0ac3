"""CGSR (Section II-C): an activation map as a coarse mask, and as box and points for a prompted segmenter.

Maps and masks are (H, W) numpy arrays at the size of the image; coordinates are its pixels, (x, y), from 0.
What the paper leaves open and what happens in the corner cases:

- an empty coarse mask gives no prompts, in every variant: there is nothing to refine;
- a constant map gives no points: it has no highest and no lowest point; a box may still come from the mask;
- tied values: the first in row-major order; tied areas: the component whose first pixel comes first;
- the highest point may lie outside the box: both are kept, unless `positive_from="component"` asks otherwise,
  and `Prompts.point_in_box` says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cabl_cgsr.config import PromptConfig
from papers_shared.errors import UserError

POSITIVE, NEGATIVE = 1, 0


@dataclass(frozen=True)
class Prompts:
    """What the segmenter is asked with; empty: the coarse mask stands."""

    box_xyxy: tuple[int, int, int, int] | None = None
    """Pixels x0, y0, x1, y1 of the image."""
    points_xy: tuple[tuple[int, int], ...] = ()
    labels: tuple[int, ...] = ()
    """1 for a positive, 0 for a negative point."""

    @property
    def empty(self) -> bool:
        return self.box_xyxy is None and not self.points_xy

    @property
    def point_in_box(self) -> bool | None:
        """Whether the positive point lies in the box; None where one of them is missing."""
        if self.box_xyxy is None or POSITIVE not in self.labels:
            return None
        x, y = self.points_xy[self.labels.index(POSITIVE)]
        x0, y0, x1, y1 = self.box_xyxy
        return x0 <= x <= x1 and y0 <= y <= y1


def coarse_mask(scaled_map: np.ndarray, config: PromptConfig | None = None) -> np.ndarray:
    """Where a map in [0, 1] exceeds the threshold, as a boolean (H, W).

    With `threshold="otsu"` the threshold is Otsu's, on 256 levels; a constant map then has an empty mask.
    """
    threshold = (config or PromptConfig()).threshold
    _refuse_nan(scaled_map)
    if threshold != "otsu":
        return scaled_map > threshold
    import cv2

    levels = np.rint(np.clip(scaled_map, 0, 1) * 255).astype(np.uint8)
    level, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return (levels > level) & (levels.min() < levels.max())


def largest_component(mask: np.ndarray, connectivity: int = 8) -> np.ndarray:
    """The largest connected part of a boolean (H, W) mask, as such a mask; empty for an empty one."""
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if not len(areas):
        return np.zeros(mask.shape, dtype=bool)
    tied = 1 + np.flatnonzero(areas == areas.max())
    first = labels.ravel()[np.isin(labels.ravel(), tied).argmax()]
    return labels == first


def bounding_box(mask: np.ndarray, far_corner: str = "inclusive") -> tuple[int, int, int, int] | None:
    """Corners x0, y0, x1, y1 of the true pixels of a mask, None for an empty one.

    inclusive: (x1, y1) is the last pixel; exclusive: one beyond.
    """
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(ys):
        return None
    beyond = int(far_corner == "exclusive")
    return int(xs[0]), int(ys[0]), int(xs[-1]) + beyond, int(ys[-1]) + beyond


def extreme_points(
    raw_map: np.ndarray, within: np.ndarray | None = None
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The positions (x, y) of the maximum and the minimum of a map without min-max normalisation.

    Args:
        within: A boolean mask to which the search for the maximum is confined.

    Returns:
        Maximum and minimum, each the first in row-major order; None for a constant map.
    """
    _refuse_nan(raw_map)
    if raw_map.min() == raw_map.max():
        return None
    searched = raw_map if within is None else np.where(within, raw_map, -np.inf)
    positions = []
    for index in (searched.argmax(), raw_map.argmin()):
        y, x = divmod(int(index), raw_map.shape[1])
        positions.append((x, y))
    return positions[0], positions[1]


def make_prompts(raw_map: np.ndarray, mask: np.ndarray, config: PromptConfig | None = None) -> Prompts:
    """Box and points for the segmenter.

    Args:
        raw_map: The aggregated map at the size of the image, unscaled.
        mask: The coarse mask, boolean, of that size.

    Raises:
        UserError: The map holds NaN.
    """
    config = config or PromptConfig()
    if config.variant == "null" or not mask.any():
        return Prompts()
    component = largest_component(mask, config.connectivity)
    box, points, labels = None, [], []
    if config.variant in ("box", "box_point"):
        box = bounding_box(component, config.far_corner)
    if config.variant in ("point", "box_point"):
        extremes = extreme_points(raw_map, component if config.positive_from == "component" else None)
        wanted = (POSITIVE,) if config.variant == "point" else (POSITIVE, NEGATIVE)
        if extremes is not None:
            points, labels = list(extremes[: len(wanted)]), list(wanted)
    return Prompts(box, tuple(points), tuple(labels))


def _refuse_nan(values: np.ndarray) -> None:
    if np.isnan(values).any():
        raise UserError("the activation map holds NaN: the model's weights or the image are broken")
