"""Image manipulation: detection (I-AUC) and localisation (P-F1) under named protocols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from papers_shared.errors import UserError
from papers_shared.metrics.means import mean
from papers_shared.metrics.rows import SampleRows

GRID = np.arange(1, 100) / 100
"""Thresholds of `best_threshold_per_dataset`."""

_F1 = "2TP/(2TP+FP+FN+1e-6), map > 0.5, mask > 0"
PROTOCOLS = {
    "p_f1": f"mean over manipulated images with a non-empty mask of {_F1}",
    "mvss_net": f"mean over all manipulated images of {_F1}; blank mask and blank prediction: 1",
    "wscl": f"mean over manipulated images of {_F1}; blank mask and blank prediction: left out",
    "imdlbenco_every_image": "mean over all images, authentic ones score 0, of F1 from precision and recall "
    "with 1e-8 in each denominator, map > 0.5, mask > 127.5",
    "imdlbenco_manipulated_only": "imdlbenco_every_image over the manipulated images only",
    "imdlbenco_masked": "imdlbenco_every_image over the manipulated images with a non-empty mask",
    "pooled_over_pixels": "F1 of the counts summed over manipulated images with a non-empty mask",
    "best_threshold_per_image": "p_f1 with the best threshold of every image",
    "best_threshold_per_dataset": "p_f1 with the one best threshold of 0.01..0.99",
    "trufor": "mean over manipulated images with a non-empty mask of the larger F1 of map > 0.5 and of its "
    "inverse, without the pixels on both sides of the mask's border (mask eroded 15x15, dilated 11x11); left out "
    "where mask and map hold one and the same class in what remains",
}
"""Definitions of the pixel scores; `p_f1` is the one to report."""


class ForensicsRow(NamedTuple):
    """What is kept of one image; counts in pixels."""

    label: int
    score: float
    tp: int
    fp: int
    fn: int
    over_127: tuple[int, int, int]
    """TP, FP, FN when the mask's positive values are those over 127.5."""
    best_f1: float | None
    grid_f1: tuple[float, ...]
    """F1 at each threshold of `GRID`."""
    trufor_f1: float | None
    """F1 away from the mask's border, of the map or of its inverse; None where TruFor leaves the image out."""

    @property
    def f1(self) -> float:
        """The image's term of `p_f1`."""
        return _f1(self)


@dataclass(frozen=True)
class ForensicsScores:
    """Fractions in [0, 1]; None where a score does not exist, such as an AUC of one class."""

    num_images: int
    i_auc: float | None
    """Area under the ROC curve over all images; ties count half."""
    p_f1: float | None
    pixel: dict[str, float | None]
    """Every pixel score, under the names of `PROTOCOLS`."""
    accuracy: float
    """Of the verdict score > 0.5."""
    sensitivity: float | None
    """Found manipulated / (manipulated + 1e-6), as WSCL and MVSS-Net do; `specificity` likewise."""
    specificity: float | None
    image_f1: float | None
    image_f1_wscl: float | None
    """What WSCL and MVSS-Net call image F1: the harmonic mean of sensitivity and specificity, not F1."""
    combined_f1_wscl: float | None
    """Harmonic mean of `image_f1_wscl` and `p_f1`."""
    definition: dict[str, str]


class ForensicsMetrics(SampleRows[ForensicsRow]):
    """I-AUC and P-F1."""

    def update(
        self, sample_id: str, *, label: int, score: float, pixel_map: np.ndarray, mask: np.ndarray | None
    ) -> None:
        """Count one image.

        Args:
            label: 1 = manipulated, 0 = authentic.
            score: Image-level score in [0, 1], higher = manipulated.
            pixel_map: (H, W) pixel scores in [0, 1].
            mask: (H, W) as stored, uint8 0..255, or boolean; None: blank.

        Raises:
            UserError: The id was counted already, the shapes differ, an integer mask holds nothing above 1, or a
                label, score, map or mask holds another value.
        """
        pixel_map = np.asarray(pixel_map)
        mask = np.zeros(pixel_map.shape, bool) if mask is None else np.asarray(mask)
        if problem := _problem(label, score, pixel_map, mask):
            raise UserError(f"sample {sample_id!r}: {problem}")
        values = pixel_map.astype(np.float32)
        found, true = values > 0.5, mask > 0
        over_127 = true if mask.dtype == bool else mask > 127.5
        best, grid = _threshold_f1(values[true], values[~true])
        counts = _counts(found, true)
        self.add_row(
            sample_id,
            ForensicsRow(
                int(label),
                float(score),
                *counts,
                _counts(found, over_127),
                best,
                grid,
                _trufor_f1(found, true),
            ),
        )

    def compute(self) -> ForensicsScores:
        """Scores of all rows."""
        rows = self.ordered()
        labels, scores = np.array([row.label for row in rows]), np.array([row.score for row in rows])
        verdicts = scores > 0.5
        tp, tn = int((verdicts & (labels == 1)).sum()), int((~verdicts & (labels == 0)).sum())
        positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
        sensitivity = tp / (positives + 1e-6) if positives else None
        specificity = tn / (negatives + 1e-6) if negatives else None
        pixel = _pixel_scores(rows)
        harmonic = _harmonic(sensitivity, specificity)
        errors = len(rows) - tp - tn
        return ForensicsScores(
            num_images=len(rows),
            i_auc=roc_auc(scores, labels),
            p_f1=pixel["p_f1"],
            pixel=pixel,
            accuracy=(tp + tn) / len(rows),
            sensitivity=sensitivity,
            specificity=specificity,
            image_f1=2 * tp / (2 * tp + errors) if 2 * tp + errors else None,
            image_f1_wscl=harmonic,
            combined_f1_wscl=_harmonic(harmonic, pixel["p_f1"]),
            definition=PROTOCOLS,
        )


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Share of (positive, negative) pairs in the right order, ties count half; None with one class only.

    Args:
        scores: (N,) finite, higher = positive.
        labels: (N,) 0 or 1.

    Raises:
        UserError: A score is not finite, or a label is neither 0 nor 1.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    if not np.isfinite(scores).all():
        count = int((~np.isfinite(scores)).sum())
        raise UserError(
            f"{count} of {len(scores)} scores are not finite, so there is no area under the curve"
        )
    if not np.isin(labels, (0, 1)).all():
        raise UserError("the labels of an area under the curve are 0 and 1")
    positive, negative = scores[labels == 1], np.sort(scores[labels == 0])
    if not len(positive) or not len(negative):
        return None
    below = np.searchsorted(negative, positive, side="left")
    not_above = np.searchsorted(negative, positive, side="right")
    return float((below + not_above).sum() / 2 / (len(positive) * len(negative)))


def _pixel_scores(rows: list[ForensicsRow]) -> dict[str, float | None]:
    manipulated = [row for row in rows if row.label == 1]
    masked = [row for row in manipulated if row.tp + row.fn > 0]
    tp, fp, fn = sum(r.tp for r in masked), sum(r.fp for r in masked), sum(r.fn for r in masked)
    grid = np.mean([row.grid_f1 for row in masked], axis=0) if masked else None
    return {
        "p_f1": _mean([_f1(row) for row in masked]),
        "mvss_net": _mean([1.0 if _blank(row) else _f1(row) for row in manipulated]),
        "wscl": _mean([_f1(row) for row in manipulated if not _blank(row)]),
        "imdlbenco_every_image": _mean([_imdlbenco_f1(row) for row in rows]),
        "imdlbenco_manipulated_only": _mean([_imdlbenco_f1(row) for row in manipulated]),
        "imdlbenco_masked": _mean([_imdlbenco_f1(row) for row in masked]),
        "pooled_over_pixels": 2 * tp / (2 * tp + fp + fn) if masked else None,
        "best_threshold_per_image": _mean([row.best_f1 for row in masked if row.best_f1 is not None]),
        "best_threshold_per_dataset": float(grid.max()) if grid is not None else None,
        "trufor": _mean([row.trufor_f1 for row in masked if row.trufor_f1 is not None]),
    }


def _counts(found: np.ndarray, true: np.ndarray) -> tuple[int, int, int]:
    tp = int((found & true).sum())
    return tp, int(found.sum()) - tp, int(true.sum()) - tp


def _threshold_f1(positive: np.ndarray, negative: np.ndarray) -> tuple[float | None, tuple[float, ...]]:
    """F1 of map > t: the best over all t, and at each t of `GRID`, from the values on and off the mask."""
    positive, negative = np.sort(positive), np.sort(negative)

    def f1(thresholds: np.ndarray, side: Literal["left", "right"]) -> np.ndarray:
        tp = len(positive) - np.searchsorted(positive, thresholds, side=side)
        fp = len(negative) - np.searchsorted(negative, thresholds, side=side)
        return 2 * tp / np.maximum(tp + fp + len(positive), 1)

    grid = tuple(f1(GRID.astype(np.float32), "right").tolist())
    best = float(f1(np.unique(positive), "left").max()) if len(positive) else None
    return best, grid


def _problem(label: int, score: float, pixel_map: np.ndarray, mask: np.ndarray) -> str:
    """Why an image cannot be counted; empty if it can."""
    if label not in (0, 1):
        return f"the label is {label!r}, neither 0 nor 1"
    if not 0 <= score <= 1:  # NaN too
        return f"the image score {score!r} is not in [0, 1]"
    if pixel_map.ndim != 2 or 0 in pixel_map.shape:
        return f"the map has the shape {pixel_map.shape}, not (H, W)"
    if mask.shape != pixel_map.shape:
        return f"map {pixel_map.shape} and mask {mask.shape} differ in shape"
    if pixel_map.dtype != bool and not (pixel_map.min() >= 0 and pixel_map.max() <= 1):
        return "the map holds values that are not in [0, 1]"
    if mask.dtype == bool:
        return ""
    if not np.issubdtype(mask.dtype, np.integer) or mask.min() < 0 or mask.max() > 255:
        return f"the mask holds {mask.dtype} from {mask.min()} to {mask.max()}, not whole numbers in 0..255"
    return "the mask holds 0 and 1 only, give it as boolean or as 0 and 255" if mask.max() == 1 else ""


def _trufor_f1(found: np.ndarray, true: np.ndarray) -> float | None:
    inside, outside = ~_dilated(~true, 15), ~_dilated(true, 11)
    tp, fn = int((found & inside).sum()), int((~found & inside).sum())
    fp, tn = int((found & outside).sum()), int((~found & outside).sum())
    if fn + fp == 0 and (tp == 0 or tn == 0):
        return None
    return max(2 * tp / max(2 * tp + fn + fp, 1), 2 * fn / max(2 * fn + tp + tn, 1))


def _dilated(mask: np.ndarray, side: int) -> np.ndarray:
    """Where any pixel of the odd `side` x `side` window around a pixel is true; outside there is nothing."""
    pad = (side // 2 + 1, side // 2)
    total = np.pad(mask, (pad, pad)).cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)
    rows = total[side:] - total[:-side]
    return rows[:, side:] > rows[:, :-side]


def _blank(row: ForensicsRow) -> bool:
    return row.tp + row.fp + row.fn == 0


def _f1(row: ForensicsRow) -> float:
    return 2 * row.tp / (2 * row.tp + row.fp + row.fn + 1e-6)


def _imdlbenco_f1(row: ForensicsRow) -> float:
    tp, fp, fn = row.over_127
    precision, recall = tp / (tp + fp + 1e-8), tp / (tp + fn + 1e-8)
    return 2 * precision * recall / (precision + recall + 1e-8)


def _harmonic(a: float | None, b: float | None) -> float | None:
    if a is None or b is None:
        return None
    return 2 * a * b / (a + b) if a + b > 0 else 0.0


def _mean(values: list[float]) -> float | None:
    return mean(values) if values else None
