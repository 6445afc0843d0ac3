"""What a prompted segmenter is: an image in once, any number of prompts, a mask for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from papers_shared.errors import UserError

Box = Sequence[float]
Points = Sequence[Sequence[float]]


class SamResult(NamedTuple):
    """The answer to one prompt: N masks, one unless several were asked for."""

    masks: np.ndarray
    """(N, H, W) bool at the size of the image."""
    scores: np.ndarray
    """(N,) float32, the quality of each mask as the segmenter predicts it; NaN where it predicts none."""
    low_res_logits: np.ndarray | None
    """(N, h, w) float32, mask logits over the square that the network sees; None where there are none."""


class Asked(NamedTuple):
    """A prompt; what its parts are stands with `PromptedSegmenter.predict`."""

    box: Box | None = None
    points: Points | None = None
    labels: Sequence[int] | None = None


class PromptedSegmenter(Protocol):
    """Finds the object that a box and points show.

    Coordinates are pixels (x, y) of the image given to `set_image`, from 0; a box is x0, y0, x1, y1.
    """

    @property
    def name(self) -> str:
        """What made the masks, for people and for reports."""

    def set_image(self, image: np.ndarray) -> None:
        """Take an image, (H, W, 3) uint8 RGB; the heavy part."""

    def set_images(self, images: Sequence[np.ndarray]) -> None:
        """Prepare several images at once, so that `set_image` of one of them is cheap."""

    def predict(
        self,
        box: Box | None = None,
        points: Points | None = None,
        labels: Sequence[int] | None = None,
        multimask: bool = False,
    ) -> SamResult:
        """The mask for a prompt.

        Args:
            box: x0, y0, x1, y1.
            points: (x, y) each.
            labels: Of each point: 1 inside the object, 0 outside.
            multimask: Several candidates instead of one, where the segmenter can give them.

        Raises:
            UserError: No image is set, there is neither a box nor a point, or the prompt is malformed.
        """


def predict_all(
    segmenter: PromptedSegmenter, prompts: Sequence[Asked], multimask: bool = False
) -> list[SamResult]:
    """What a segmenter answers to each of some prompts about its image; in one call where it has a `predict_all`.

    Raises:
        UserError: As `PromptedSegmenter.predict`, of any of them.
    """
    together = getattr(segmenter, "predict_all", None)
    if together is not None:
        return together(prompts, multimask)
    return [segmenter.predict(*prompt, multimask=multimask) for prompt in prompts]


@dataclass(frozen=True)
class Prompt:
    """A checked prompt."""

    box: np.ndarray | None
    """(4,) float64."""
    points: np.ndarray
    """(P, 2) float64."""
    labels: np.ndarray
    """(P,) int64."""


def check_prompt(box: Box | None, points: Points | None, labels: Sequence[int] | None) -> Prompt:
    """Arrays of a prompt.

    Raises:
        UserError: It is empty, or shapes and values are not those of a prompt.
    """
    corners = None if box is None else _numbers(box, "a box")
    positions = _numbers([] if points is None else points, "points")
    if positions.size % 2 or positions.ndim > 2:
        raise UserError(f"points are pairs x, y, not {points}")
    positions = positions.reshape(-1, 2)
    kinds = _numbers([] if labels is None else labels, "labels").reshape(-1)
    if corners is None and not len(positions):
        raise UserError("a prompted segmenter needs a box or a point, and got neither")
    if corners is not None and (corners.shape != (4,) or (corners[:2] > corners[2:]).any()):
        raise UserError(f"a box is x0, y0, x1, y1 with x0 <= x1 and y0 <= y1, not {box}")
    if len(positions) != len(kinds) or not set(kinds.tolist()) <= {0, 1}:
        raise UserError(
            f"{len(positions)} points need as many labels, each 1 (inside) or 0 (outside), not {labels}"
        )
    return Prompt(corners, positions, kinds.astype(np.int64))


def check_box_inside(box: np.ndarray, size: tuple[int, int]) -> None:
    """Refuse a box that lies beside an image of this (height, width).

    Raises:
        UserError: It and the image have no pixel in common.
    """
    height, width = size
    if box[0] >= width or box[1] >= height or box[2] < 0 or box[3] < 0:
        raise UserError(f"the box {box.tolist()} lies outside the image, which is {width} x {height} pixels")


def _numbers(values: Any, what: str) -> np.ndarray:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{what} must be numbers, not {values!r}") from None
    if not np.isfinite(numbers).all():
        raise UserError(f"{what} must be finite numbers, not {values!r}")
    return numbers


def check_image(image: np.ndarray) -> np.ndarray:
    """The image itself.

    Raises:
        UserError: It is not (H, W, 3) uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise UserError(f"an image for a segmenter is (H, W, 3) uint8 RGB, not {image.shape} {image.dtype}")
    return image
