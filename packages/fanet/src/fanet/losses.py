"""The losses of the segmenter and of the classifier, as shares of a global batch.

A summed loss is divided by a count over the whole batch, so that processes, micro-batches and a single pass over the
batch compute the same gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from fanet.config import LossConfig
from fanet.modeling.segmenter import SegmenterLogits, SegmenterOutput
from papers_shared.losses import cross_entropy


def count_pixels(labels: Tensor, ignore_index: int) -> Tensor:
    """(2,) float: labelled pixels and all pixels of labels (B, H, W)."""
    return torch.stack([(labels != ignore_index).sum(), labels.new_full((), labels.numel())]).float()


def count_images(labels: Tensor) -> Tensor:
    """The number of labels (B,), as a float."""
    return labels.new_full((), len(labels), dtype=torch.float32)


def segmentation_losses(
    output: SegmenterOutput | SegmenterLogits,
    labels: Tensor,
    loss: LossConfig,
    counts: Tensor,
    ignore_index: int,
) -> dict[str, Tensor]:
    """Pixel-wise cross-entropy of the main head, and `auxiliary_weight` times that of the auxiliary head.

    The logits are enlarged to the size of the labels. With `average` valid the sum is divided by the labelled pixels
    of the global batch, with all by all its pixels (mmsegmentation 0.x, and so the official configuration).

    Args:
        labels: (B, H, W) int64.
        counts: (2,), of `count_pixels` for the global batch.
    """
    total = counts[0 if loss.average == "valid" else 1].clamp(min=1)

    def averaged(logits: Tensor) -> Tensor:
        logits = F.interpolate(logits.float(), labels.shape[-2:], mode="bilinear", align_corners=False)
        return cross_entropy(logits, labels, ignore_index=ignore_index, average="sum") / total

    losses = {"decode_loss": averaged(output.logits)}
    if output.aux_logits is not None:
        losses["auxiliary_loss"] = loss.auxiliary_weight * averaged(output.aux_logits)
    return losses


def classification_losses(
    logits: Tensor, labels: Tensor, loss: LossConfig, total: Tensor
) -> dict[str, Tensor]:
    """Cross-entropy with label smoothing.

    Args:
        logits: (B, num_classes).
        labels: (B,) int64, or (B, num_classes) probabilities of mixed images.
        total: Images of the global batch.
    """
    summed = cross_entropy(logits.float(), labels, average="sum", label_smoothing=loss.label_smoothing)
    return {"classification_loss": summed / total}


def batch_mix(loss: LossConfig, num_classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Mixup or CutMix, one of them for each batch: (images, labels) -> the same, mixed; without both as they are."""
    mixes = [
        mix(alpha=alpha, num_classes=num_classes)
        for mix, alpha in ((v2.MixUp, loss.mixup), (v2.CutMix, loss.cutmix))
        if alpha > 0
    ]
    return v2.RandomChoice(mixes) if mixes else lambda images, labels: (images, labels)
