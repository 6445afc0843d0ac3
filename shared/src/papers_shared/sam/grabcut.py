"""GrabCut on OpenCV as a prompted segmenter: no weights, for when there is no SAM checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from papers_shared.errors import UserError
from papers_shared.sam.protocol import (
    Box,
    Points,
    SamResult,
    check_box_inside,
    check_image,
    check_prompt,
)


class GrabCut:
    """Colour models of inside and outside, fitted in turns with a graph cut (Rother et al., 2004).

    With a box everything outside is background, the ellipse in its middle is foreground, and colours are
    learnt from the box and its neighbourhood. Without that core, a part that has the colours of its
    surroundings, such as a copied one, would be given up. Without a box each positive point has such a core
    and a wider disk around it that begins as foreground. Other points are small disks of certain foreground or
    background and win over the box. The answer is deterministic.

    What is left over in corner cases: where the prompt names no background (a box over the whole image), the
    image's frame is it; negative points alone give an empty mask.

    Args:
        core: Diameters of the certain ellipse as shares of the box's sides, in [0, 1).
        iterations: Turns of fitting and cutting.
        max_side: Images with a longer side are shrunk to it for the cut, in pixels; 0: never.
    """

    name = "grabcut"

    def __init__(self, core: float = 0.6, iterations: int = 2, max_side: int = 384) -> None:
        self.core, self.iterations, self.max_side = core, iterations, max_side
        self._image: np.ndarray | None = None
        self._scale = (1.0, 1.0)
        self._size = (0, 0)

    def set_image(self, image: np.ndarray) -> None:
        """Take an image, (H, W, 3) uint8 RGB."""
        height, width = self._size = check_image(image).shape[:2]
        factor = min(1.0, self.max_side / max(height, width)) if self.max_side else 1.0
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        smaller = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if factor < 1 else image
        self._image = cv2.cvtColor(smaller, cv2.COLOR_RGB2BGR)
        self._scale = (size[0] / width, size[1] / height)

    def set_images(self, images: Sequence[np.ndarray]) -> None:
        """There is nothing to prepare."""

    def predict(
        self,
        box: Box | None = None,
        points: Points | None = None,
        labels: Sequence[int] | None = None,
        multimask: bool = False,
    ) -> SamResult:
        """One mask at the size of the image; its score is NaN, as GrabCut predicts no quality.

        Raises:
            UserError: No image is set, the prompt is empty or malformed, or its box lies outside the image.
        """
        if self._image is None:
            raise UserError("GrabCut has no image yet: call set_image first")
        prompt = check_prompt(box, points, labels)
        if prompt.box is not None:
            check_box_inside(prompt.box, self._size)
        height, width = self._image.shape[:2]
        short = min(height, width)
        positions = [(int(x), int(y)) for x, y in self._pixels(prompt.points)]
        positive = [position for position, label in zip(positions, prompt.labels, strict=True) if label]
        if prompt.box is not None:
            x0, y0, x1, y1 = (int(v) for v in self._pixels(prompt.box.reshape(2, 2)).reshape(-1))
            seeds = np.full((height, width), cv2.GC_BGD, np.uint8)
            seeds[y0 : y1 + 1, x0 : x1 + 1] = cv2.GC_PR_FGD
            axes = (int((x1 - x0 + 1) * self.core / 2), int((y1 - y0 + 1) * self.core / 2))
            cv2.ellipse(seeds, ((x0 + x1) // 2, (y0 + y1) // 2), axes, 0, 0, 360, cv2.GC_FGD, -1)
            window = _around(
                np.array([(x0, y0), (x1, y1)]), np.array(positive).reshape(-1, 2), (height, width)
            )
        else:
            seeds = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
            for reach, kind in ((short / 4, cv2.GC_PR_FGD), (short / 12, cv2.GC_FGD)):
                for position in positive:
                    cv2.circle(seeds, position, max(1, round(reach)), kind, -1)
            window = (slice(0, height), slice(0, width))
        if not (seeds == cv2.GC_BGD).any():
            seeds[[0, -1]] = seeds[:, [0, -1]] = cv2.GC_BGD
        for position, label in zip(positions, prompt.labels, strict=True):
            cv2.circle(seeds, position, max(1, short // 64), cv2.GC_FGD if label else cv2.GC_BGD, -1)
        mask = np.zeros((height, width), bool)
        mask[window] = self._cut(
            np.ascontiguousarray(self._image[window]), np.ascontiguousarray(seeds[window])
        )
        if mask.shape != self._size:
            mask = (
                cv2.resize(mask.astype(np.uint8), self._size[::-1], interpolation=cv2.INTER_NEAREST_EXACT) > 0
            )
        return SamResult(mask[None], np.full(1, np.nan, np.float32), None)

    def _pixels(self, positions: np.ndarray) -> np.ndarray:
        """(x, y) of the image -> the pixels that hold them after shrinking, inside the image."""
        assert self._image is not None
        last = np.array(self._image.shape[1::-1]) - 1
        return np.clip(np.floor((positions + 0.5) * self._scale), 0, last).astype(int)

    def _cut(self, pixels: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        inside = (seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)
        if inside.all() or not inside.any():  # nothing to tell apart, which OpenCV refuses
            return inside
        cv2.setRNGSeed(0)  # its clustering draws from OpenCV's own generator
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(pixels, seeds, (0, 0, 1, 1), models[0], models[1], self.iterations, cv2.GC_INIT_WITH_MASK)
        return (seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)


def _around(corners: np.ndarray, points: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a box with half its size around it, and of the points."""
    margin = np.maximum((corners[1] - corners[0] + 1) // 2, 8)
    low = np.vstack([corners[0] - margin, points - 8]).min(0)
    high = np.vstack([corners[1] + margin, points + 8]).max(0) + 1
    (left, top), (right, bottom) = np.maximum(low, 0), np.minimum(high, size[::-1])
    return slice(int(top), int(bottom)), slice(int(left), int(right))
