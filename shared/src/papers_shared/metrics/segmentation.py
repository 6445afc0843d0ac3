"""Semantic segmentation: one confusion matrix, and the scores read from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from papers_shared.errors import UserError
from papers_shared.metrics.means import mean

DEFINITION = (
    "counts over all labelled pixels of all images; IoU = TP / (TP + FP + FN); mIoU = mean over the "
    "classes present in truth or prediction, background included; a class in neither is left out; "
    "pixel accuracy = correct / labelled pixels; pixels with the ignored label are left out everywhere"
)


@dataclass(frozen=True)
class SegmentationScores:
    """Scores as fractions in [0, 1]; `None` stands for a class that the score does not exist for."""

    miou: float
    pixel_acc: float
    macc: float
    """Mean of `class_acc` over the classes present in the truth."""
    iou: tuple[float | None, ...]
    class_acc: tuple[float | None, ...]
    """Share of each class's true pixels that were found."""
    definition: str = DEFINITION


class ConfusionMatrix:
    """Pixel counts of every (true class, predicted class) pair.

    `counts` is an int64 CPU tensor (num_classes, num_classes), rows = truth, columns = prediction. The
    state is
    additive: the matrix of several ranks is the sum of theirs, so `counts` may be all-reduced and assigned
    back.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, prediction: Tensor | np.ndarray, truth: Tensor | np.ndarray) -> None:
        """Count the pixels of class maps `prediction` and `truth`: integers, any equal shape, any device.

        Raises:
            UserError: The shapes differ, or a value is neither a class nor (in `truth`) `ignore_index`.
        """
        pred, true = _flat(prediction, "prediction"), _flat(truth, "truth")
        if prediction.shape != truth.shape:
            raise UserError(
                f"prediction {tuple(prediction.shape)} and truth {tuple(truth.shape)} differ in shape"
            )
        classes, pairs = self.num_classes, self.num_classes**2
        ignored = true == self.ignore_index
        true, pred = true.masked_fill(ignored, 0), pred.to(true.device).masked_fill(ignored, 0)
        wrong = (true < 0) | (true >= classes) | (pred < 0) | (pred >= classes)
        found = (true * classes + pred).masked_fill(ignored, pairs).masked_fill(wrong, pairs + 1)
        counts = torch.bincount(found, minlength=pairs + 2).cpu()
        if counts[-1]:
            self._check(true, "label", f", nor the ignored label {self.ignore_index}")
            self._check(pred, "predicted class", "")
        self.counts += counts[:pairs].reshape(classes, classes)

    def merge(self, other: ConfusionMatrix) -> None:
        """Add the counts of `other`, which must have the same classes."""
        if (self.num_classes, self.ignore_index) != (other.num_classes, other.ignore_index):
            raise UserError("cannot merge confusion matrices with different classes or ignored labels")
        self.counts = self.counts + other.counts.to(self.counts.device)

    def compute(self) -> SegmentationScores:
        """Scores of everything counted so far.

        Raises:
            UserError: No labelled pixel was counted.
        """
        counts = self.counts.cpu()
        total = int(counts.sum())
        if total == 0:
            raise UserError(
                "no labelled pixel was counted, so there is no score: check the masks of this split"
            )
        hits, true, pred = counts.diag().tolist(), counts.sum(1).tolist(), counts.sum(0).tolist()
        iou = tuple(_ratio(h, t + p - h) for h, t, p in zip(hits, true, pred, strict=True))
        class_acc = tuple(_ratio(h, t) for h, t in zip(hits, true, strict=True))
        return SegmentationScores(
            miou=_mean(iou), pixel_acc=sum(hits) / total, macc=_mean(class_acc), iou=iou, class_acc=class_acc
        )

    def _check(self, values: Tensor, what: str, also: str) -> None:
        low, high = (int(v) for v in torch.aminmax(values)) if values.numel() else (0, 0)
        if low < 0 or high >= self.num_classes:
            value = low if low < 0 else high
            raise UserError(f"{what} {value} is none of the {self.num_classes} classes from 0{also}")


def _flat(values: Tensor | np.ndarray, what: str) -> Tensor:
    tensor = torch.as_tensor(values)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise UserError(f"{what} must hold integer classes, not {tensor.dtype}")
    return tensor.long().reshape(-1)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: tuple[float | None, ...]) -> float:
    return mean([value for value in values if value is not None])
