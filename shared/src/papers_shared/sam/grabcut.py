"""GrabCut on OpenCV as a prompted segmenter: no weights, for when there is no SAM checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from papers_shared.errors import UserError
from papers_shared.sam.protocol import Box, Points, SamResult, check_image, check_prompt


class GrabCut:
    """Colour models of inside and outside, fitted in turns with a graph cut (Rother et al., 2004).

    With a box everything outside is background; without one the whole picture may be foreground, and places
    far from the positive points begin as background. A point is a small disk of certain foreground or
    background and wins over the box. The answer is deterministic.

    What is left over in corner cases: where the prompt names no certain background (a box over the whole
    picture), the picture's frame is it; a mask that comes out empty stays empty.

    Args:
        iterations: Turns of fitting and cutting.
        max_side: Pictures with a longer side are shrunk to it for the cut, in pixels; 0: never.
    """

    name = "grabcut"

    def __init__(self, iterations: int = 3, max_side: int = 384) -> None:
        self.iterations, self.max_side = iterations, max_side
        self._image: np.ndarray | None = None
        self._scale = (1.0, 1.0)
        self._size = (0, 0)

    def set_image(self, image: np.ndarray) -> None:
        """Take a picture, (H, W, 3) uint8 RGB."""
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
        """One mask at the size of the picture; its score is NaN, as GrabCut predicts no quality.

        Raises:
            UserError: No picture is set, or the prompt is empty or malformed.
        """
        if self._image is None:
            raise UserError("GrabCut has no picture yet: call set_image first")
        prompt = check_prompt(box, points, labels)
        height, width = self._image.shape[:2]
        seeds = np.full((height, width), cv2.GC_BGD, np.uint8)
        if prompt.box is not None:
            x0, y0, x1, y1 = self._pixels(prompt.box.reshape(2, 2)).reshape(-1)
            seeds[y0 : y1 + 1, x0 : x1 + 1] = cv2.GC_PR_FGD
        places = self._pixels(prompt.points)
        if prompt.box is None:
            seeds[:] = cv2.GC_PR_BGD
            for (x, y), label in zip(places, prompt.labels, strict=True):
                if label:
                    cv2.circle(seeds, (int(x), int(y)), max(2, min(height, width) // 6), cv2.GC_PR_FGD, -1)
        if not (seeds == cv2.GC_BGD).any():
            seeds[[0, -1]] = seeds[:, [0, -1]] = cv2.GC_BGD
        radius = max(1, min(height, width) // 64)
        for (x, y), label in zip(places, prompt.labels, strict=True):
            cv2.circle(seeds, (int(x), int(y)), radius, cv2.GC_FGD if label else cv2.GC_BGD, -1)
        mask = self._cut(seeds)
        if mask.shape != self._size:
            mask = (
                cv2.resize(mask.astype(np.uint8), self._size[::-1], interpolation=cv2.INTER_NEAREST_EXACT) > 0
            )
        return SamResult(mask[None], np.full(1, np.nan, np.float32), None)

    def _pixels(self, places: np.ndarray) -> np.ndarray:
        """(x, y) of the picture -> the pixels that hold them after shrinking, inside the picture."""
        assert self._image is not None
        last = np.array(self._image.shape[1::-1]) - 1
        return np.clip(np.floor((places + 0.5) * self._scale), 0, last).astype(int)

    def _cut(self, seeds: np.ndarray) -> np.ndarray:
        inside = (seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)
        if inside.all() or not inside.any():  # nothing to tell apart, which OpenCV refuses
            return inside
        cv2.setRNGSeed(0)  # its clustering draws from OpenCV's own generator
        models = np.zeros((1, 65)), np.zeros((1, 65))
        assert self._image is not None
        cv2.grabCut(
            self._image, seeds, (0, 0, 1, 1), models[0], models[1], self.iterations, cv2.GC_INIT_WITH_MASK
        )
        return (seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)
