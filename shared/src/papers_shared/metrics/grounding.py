"""Visual grounding: boxes (REC) and masks (RES) of referring expressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from papers_shared.errors import UserError
from papers_shared.metrics.means import mean
from papers_shared.metrics.rows import SampleRows

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
DEFINITION = (
    "every sentence counts once; predicted corners are clamped to the image; Acc@0.5 = share with box "
    "IoU >= 0.5; mIoU = mean mask IoU of the sentences, mask = probability >= 0.5; oIoU = summed "
    "intersections / summed unions; Precision@X = share with mask IoU >= X; boxes without area have IoU 0, "
    "two empty masks IoU 1"
)


class GroundingRow(NamedTuple):
    """What is kept of one sentence."""

    box_iou: float | None
    intersection: int | None
    """Pixels."""
    union: int | None

    @property
    def mask_iou(self) -> float | None:
        return (
            None if self.union is None or self.intersection is None else _ratio(self.intersection, self.union)
        )


@dataclass(frozen=True)
class GroundingScores:
    """Fractions in [0, 1]; box scores are None without boxes, mask scores without masks."""

    num_samples: int
    acc_at_05: float | None
    box_miou: float | None
    miou: float | None
    oiou: float | None
    precision_at: dict[str, float] | None
    """Precision@X under the keys "0.5" to "0.9"."""
    definition: str = DEFINITION


class GroundingMetrics(SampleRows[GroundingRow]):
    """Acc@0.5, mIoU, oIoU and Precision@0.5..0.9."""

    def update(
        self,
        sample_id: str,
        *,
        box: Sequence[float] | np.ndarray | None = None,
        true_box: Sequence[float] | np.ndarray | None = None,
        mask: np.ndarray | None = None,
        true_mask: np.ndarray | None = None,
        overlap: tuple[int, int] | None = None,
    ) -> None:
        """Count one sentence, by its box, its mask or both.

        Args:
            box: Predicted x0, y0, x1, y1 as fractions of the image.
            true_box: The true corners likewise.
            mask: (H, W) predicted probabilities, or a boolean or 0/1 mask.
            true_mask: (H, W) boolean or 0/1 mask.
            overlap: Pixels in both masks and pixels in either, in place of the masks, where they were counted already.

        Raises:
            UserError: The id was counted already, the masks differ in shape, or a box or mask holds values that are
                not finite.
        """
        box_iou = intersection = union = None
        if box is not None and true_box is not None:
            corners = _corners(sample_id, box), _corners(sample_id, true_box)
            box_iou = _box_iou(np.clip(corners[0], 0, 1), corners[1])
        if mask is not None and true_mask is not None:
            if mask.shape != true_mask.shape:
                raise UserError(
                    f"sample {sample_id!r}: the masks have the shapes {mask.shape} and {true_mask.shape}"
                )
            if not (np.isfinite(mask).all() and np.isfinite(true_mask).all()):
                raise UserError(f"sample {sample_id!r}: a mask holds values that are not finite")
            found, true = mask >= 0.5, true_mask > 0
            intersection, union = int((found & true).sum()), int((found | true).sum())
        if overlap is not None:
            intersection, union = overlap
        self.add_row(sample_id, GroundingRow(box_iou, intersection, union))

    def compute(self) -> GroundingScores:
        """Scores of all rows."""
        rows = self.ordered()
        boxes = [row.box_iou for row in rows if row.box_iou is not None]
        masks = [row.mask_iou for row in rows if row.mask_iou is not None]
        inter = sum(row.intersection for row in rows if row.intersection is not None)
        union = sum(row.union for row in rows if row.union is not None)
        return GroundingScores(
            num_samples=len(rows),
            acc_at_05=_share(boxes, 0.5) if boxes else None,
            box_miou=mean(boxes) if boxes else None,
            miou=mean(masks) if masks else None,
            oiou=_ratio(inter, union) if masks else None,
            precision_at={str(x): _share(masks, x) for x in THRESHOLDS} if masks else None,
        )


def _corners(sample_id: str, box: Sequence[float] | np.ndarray) -> np.ndarray:
    corners = np.asarray(box, np.float64)
    if corners.shape != (4,) or not np.isfinite(corners).all():
        raise UserError(
            f"sample {sample_id!r}: a box is four finite numbers x0, y0, x1, y1, not {corners.tolist()}"
        )
    return corners


def _ratio(intersection: int, union: int) -> float:
    return intersection / union if union else 1.0


def _share(ious: list[float], threshold: float) -> float:
    return sum(iou >= threshold for iou in ious) / len(ious)


def _box_iou(a: np.ndarray, b: np.ndarray) -> float:
    inter = _area(np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:]))
    union = _area(a[:2], a[2:]) + _area(b[:2], b[2:]) - inter
    return float(inter / union) if union > 0 else 0.0


def _area(low: np.ndarray, high: np.ndarray) -> float:
    return float(np.prod(np.clip(high - low, 0, None)))
