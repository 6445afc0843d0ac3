"""Losses as pure functions of tensors; each names the source of its formula."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from papers_shared.boxes import cxcywh_to_xyxy, generalized_box_iou


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int = 255,
    average: Literal["valid", "all", "sum"] = "valid",
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Softmax cross-entropy, one number.

    With `average="valid"` the sum is divided by the labelled pixels (torch's mean; with class weights by
    the sum of their weights). `average="all"` divides by all pixels, ignored ones too, as mmsegmentation
    0.x does (`CrossEntropyLoss` with its default `avg_non_ignore=False`). `average="sum"` leaves the
    division to a caller that counts over several processes. Without any labelled pixel the loss is 0 and
    its gradient is 0, not NaN.

    Args:
        logits: (B, C, H, W) at the size of the labels, or (B, C).
        labels: (B, H, W) or (B,) int64 classes; or class probabilities of the shape of `logits`, all valid.
        weight: (C,) factor per class.
    """
    summed = F.cross_entropy(
        logits,
        labels,
        weight=weight,
        # torch refuses an index of 0 or more beside probabilities
        ignore_index=-100 if labels.is_floating_point() else ignore_index,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    if average == "sum":
        return summed
    if labels.is_floating_point():
        return summed / (labels.numel() / labels.shape[1])
    if average == "all":
        return summed / labels.numel()
    labelled = labels != ignore_index
    if weight is None:
        return summed / labelled.sum().clamp(min=1)
    total = weight[labels.masked_fill(~labelled, 0)].masked_fill(~labelled, 0).sum()
    return summed / torch.where(total > 0, total, torch.ones_like(total))


def binary_cross_entropy(logits: Tensor, targets: Tensor, *, pos_weight: Tensor | None = None) -> Tensor:
    """Mean of -[t log p + (1 - t) log(1 - p)], p = sigmoid(logits); targets in [0, 1], of equal shape."""
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), pos_weight=pos_weight)


def sigmoid_focal_loss(logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Mean of -alpha_t (1 - p_t)^gamma log p_t (Lin et al., "Focal Loss for Dense Object Detection", eq. 5).

    Args:
        logits: Any shape; p = sigmoid(logits), p_t = p where the target is 1, else 1 - p.
        targets: 0 or 1, of the same shape.
        alpha: alpha_t is alpha for positives and 1 - alpha for negatives; below 0 there is no such factor.
    """
    targets = targets.to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probability = logits.sigmoid()
    missed = probability * (1 - targets) + (1 - probability) * targets
    loss = missed**gamma * entropy
    if alpha >= 0:
        loss = (alpha * targets + (1 - alpha) * (1 - targets)) * loss
    return loss.mean()


def dice_loss(probabilities: Tensor, targets: Tensor, *, smooth: float = 1.0) -> Tensor:
    """Mean over samples of 1 - (2 sum(p t) + s) / (sum p + sum t + s), terms not squared.

    Source: Milletari et al., "V-Net", section 3, with plain instead of squared sums in the denominator.

    Args:
        probabilities: (B, ...) in [0, 1], for instance `logits.sigmoid()`.
        targets: (B, ...) in [0, 1].
        smooth: s; keeps an empty sample finite.
    """
    p, t = probabilities.flatten(1), targets.flatten(1).to(probabilities.dtype)
    return (1 - (2 * (p * t).sum(1) + smooth) / (p.sum(1) + t.sum(1) + smooth)).mean()


def box_l1_giou_loss(boxes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """L1 and GIoU losses of paired boxes, `(l1, giou)`, each a mean over the boxes.

    L1 is the mean absolute difference of the four corner coordinates, target corners clamped to [0, 1].
    GIoU is the mean of 1 - GIoU (Rezatofighi et al., "Generalized Intersection over Union", alg. 1); a box
    without area has an IoU of 0.

    Args:
        boxes: (N, 4) centre x, centre y, width, height as fractions of the image.
        targets: (N, 4) likewise.
    """
    predicted, true = cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(targets).clamp(0, 1)
    return (predicted - true).abs().mean(), (1 - generalized_box_iou(predicted, true)).mean()
