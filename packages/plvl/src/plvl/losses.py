"""The loss (Section 3.4, eq. 6 and 7): GIoU + L1 + centre focal for the box, focal + dice for the mask.

Two forms, chosen by `LossConfig.form`, share GIoU, L1, dice and the gaussian target. They differ in three
things:

- A centre that rounds to the cell behind the last (at or beyond (n - 0.5) / n). official: no positive cell
  for that sample, and the centre loss of a batch without any is not divided. sound: the last cell.
- Centre focal. official: from the probability, clamped to [1e-4, 1 - 1e-4], and log(1 - p + 1e-5) for the
  other cells. sound: from the logit, without either margin.
- Mask focal. official: the cross-entropy takes the probability for a logit, so that the sigmoid is taken
  twice. sound: the focal loss of the logit.

Every function computes in float32 or wider, whatever autocast gives it.

In training every term is divided by what it counts in the *global* batch (boxes, centres, masks), so that processes,
accumulation steps and a single process with the whole batch compute the same gradient, up to batch norm, which takes
its statistics over a micro-batch. A sentence without a box or without a mask adds nothing to those terms.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from papers_shared.losses import box_l1_giou_loss, dice_loss, sigmoid_focal_loss
from plvl.config import LossConfig
from plvl.modeling.head import HeadOutput, at_least_float32

Form = Literal["sound", "official"]

RADIUS_OVERLAP = 0.7
"""A corner shifted by the radius still gives a box of this IoU (CornerNet)."""
PROBABILITY_MARGIN = 1e-4
LOG_MARGIN = 1e-5


class LossTerms(NamedTuple):
    """Unweighted terms, and their weighted total; None for a task that was not predicted."""

    total: Tensor
    giou: Tensor | None
    l1: Tensor | None
    center_focal: Tensor | None
    mask_focal: Tensor | None
    dice: Tensor | None


def grounding_loss(
    output: HeadOutput, boxes: Tensor | None, masks: Tensor | None, config: LossConfig | None = None
) -> LossTerms:
    """det_weight * (GIoU + L1 + centre focal) + seg_weight * (mask focal + dice), eq. 7.

    Args:
        output: Of `PLVL`; a task without a prediction has no terms, and its target may be None.
        boxes: (B, 4) true cxcywh as fractions of the image.
        masks: (B, H, W) or (B, 1, H, W), 0 or 1.
        config: Weights and form; None: the defaults.
    """
    config = config or LossConfig()
    giou = l1 = center = focal = dice = None
    total = torch.zeros((), device=next(x.device for x in output if x is not None))
    if output.boxes is not None:
        assert boxes is not None, "a network with a box branch needs boxes"
        l1, giou = box_l1_giou_loss(output.boxes.float(), boxes.float())
        det = giou + l1
        if output.score_logits is not None:
            H, W = output.score_logits.shape[-2:]
            target = center_target(boxes, (H, W), form=config.form)
            center = center_focal_loss(output.score_logits, target, form=config.form)
            det = det + center
        total = total + config.det_weight * det
    if output.mask_logits is not None:
        assert masks is not None, "a network with a mask branch needs masks"
        masks = masks.reshape(output.mask_logits.shape)
        focal = mask_focal_loss(output.mask_logits, masks, form=config.form)
        dice = dice_loss(at_least_float32(output.mask_logits).sigmoid(), masks)
        total = total + config.seg_weight * (focal + dice)
    return LossTerms(total, giou, l1, center, focal, dice)


def count_targets(batch: dict[str, Any], grid: tuple[int, int], form: Form) -> Tensor:
    """(3,) float: boxes, centres with a cell on the map of `grid` cells, and masks of a batch of `Collate`."""
    boxes, masks = batch["boxes"], batch["masks"]
    centers = count_centers(boxes, grid, form=form)
    return torch.stack([centers.new_full((), len(boxes)), centers, centers.new_full((), len(masks))])


def grounding_losses(
    output: HeadOutput, batch: dict[str, Any], config: LossConfig, total: Tensor
) -> dict[str, Tensor]:
    """Weighted terms of a micro-batch; over all of a step they sum to `grounding_loss` of the global batch.

    Args:
        output: Of `PLVL`, for the whole batch.
        batch: Of `Collate`.
        total: The summed `count_targets` of the step.
    """
    chosen = _with_targets(output, batch["boxed"], batch["masked"])
    terms = grounding_loss(chosen, batch["boxes"], batch["masks"], config)
    H, W = (1, 1) if output.score_logits is None else output.score_logits.shape[-2:]
    own = count_targets(batch, (H, W), config.form)
    boxes, centers, masks = (own.clamp(min=1) / total.clamp(min=1)).unbind()
    det, seg = config.det_weight, config.seg_weight
    losses = {}
    for name, source, weight in (
        ("giou", output.boxes, det * boxes),
        ("l1", output.boxes, det * boxes),
        ("center_focal", output.score_logits, det * centers),
        ("mask_focal", output.mask_logits, seg * masks),
        ("dice", output.mask_logits, seg * masks),
    ):
        if source is not None:
            term = getattr(terms, name)
            losses[name] = 0 * source.sum() if term is None else weight * term
    return losses


def center_target(boxes: Tensor, size: tuple[int, int], *, form: Form = "sound") -> Tensor:
    """The map that the centre branch learns: 1 at the centre's cell, a gaussian around it, 0 elsewhere.

    The cell is the centre in cells, rounded half to even. The gaussian has sigma (2 r + 1) / 6 and is cut off
    at the radius r, which comes from the box in cells (`gaussian_radius`, cut to an integer).

    Args:
        boxes: (B, 4) cxcywh as fractions of the image.
        size: Rows and columns of the map.
        form: sound: a centre behind the last cell is moved there; official: it leaves no 1 on the map.

    Returns:
        (B, 1, rows, columns) float32.
    """
    H, W = size
    boxes = boxes.float()
    column, row = ((boxes[:, axis] * cells).round() for axis, cells in ((0, W), (1, H)))
    if form == "sound":
        column, row = column.clamp(0, W - 1), row.clamp(0, H - 1)
    sides = torch.stack([boxes[:, 2] * W, boxes[:, 3] * H], dim=1)
    radius = gaussian_radius(sides).floor().clamp(min=0)[:, None, None]
    sigma = (2 * radius + 1) / 6
    dx = (torch.arange(W, device=boxes.device) - column[:, None])[:, None, :]
    dy = (torch.arange(H, device=boxes.device) - row[:, None])[:, :, None]
    bell = torch.exp(-(dx**2 + dy**2) / (2 * sigma**2))
    inside = (dx.abs() <= radius) & (dy.abs() <= radius)
    return torch.where(inside, bell, 0.0)[:, None]


def count_centers(boxes: Tensor, size: tuple[int, int], *, form: Form = "sound") -> Tensor:
    """How many of the boxes (B, 4) have a 1 on their `center_target`, as a float scalar; the sound form: all."""
    if form == "sound":
        return boxes.new_full((), len(boxes))
    H, W = size
    across, down = ((boxes[:, axis].float() * cells).round() for axis, cells in ((0, W), (1, H)))
    inside = (across >= 0) & (across < W) & (down >= 0) & (down < H)
    return inside.sum().to(boxes.dtype)


def gaussian_radius(sides: Tensor, overlap: float = RADIUS_OVERLAP) -> Tensor:
    """CornerNet's radius for boxes with `sides` (B, 2) in cells: the smallest of its three cases, (B,).

    As in CornerNet's first code and everything descended from it, the authors' included, each root is
    (b + sqrt(b^2 - 4 a c)) / 2, whatever a is; kept in both forms.
    """
    w, h = sides.unbind(1)
    total, area = w + h, w * h
    cases = (
        (1.0, total, area * (1 - overlap) / (1 + overlap)),
        (4.0, 2 * total, (1 - overlap) * area),
        (4 * overlap, -2 * overlap * total, (overlap - 1) * area),
    )
    roots = [(b + (b**2 - 4 * a * c).clamp(min=0).sqrt()) / 2 for a, b, c in cases]
    return torch.stack(roots).amin(dim=0)


def center_focal_loss(logits: Tensor, target: Tensor, *, form: Form = "sound") -> Tensor:
    """Focal loss with a softened background (CornerNet, eq. 1), summed and divided by the number of centres.

    -(1 - p)^2 log p where the target t is 1, -(1 - t)^4 p^2 log(1 - p) elsewhere.

    Args:
        logits: (B, 1, H, W).
        target: (B, 1, H, W) from `center_target`.
        form: See the table at the head of the module.
    """
    logits = at_least_float32(logits)
    if form == "official":
        p = logits.sigmoid().clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
        log_p, log_rest = p.log(), (1 - p + LOG_MARGIN).log()
    else:
        p, log_p, log_rest = logits.sigmoid(), F.logsigmoid(logits), F.logsigmoid(-logits)
    positive = target == 1
    loss = torch.where(positive, (1 - p) ** 2 * log_p, (1 - target) ** 4 * p**2 * log_rest)
    return -loss.sum() / positive.sum().clamp(min=1)


def mask_focal_loss(logits: Tensor, targets: Tensor, *, form: Form = "sound") -> Tensor:
    """Focal loss of the mask, alpha 0.25 and gamma 2, mean over pixels and samples.

    The official form hands the probability p to a cross-entropy that expects a logit, so that the sigmoid is
    taken twice there, while the factor (1 - p_t)^2 uses p itself (inherited from EEVG).

    Args:
        logits: (B, 1, H, W).
        targets: 0 or 1, of the same shape.
        form: official or sound.
    """
    logits = at_least_float32(logits)
    if form == "sound":
        return sigmoid_focal_loss(logits, targets)
    targets = targets.to(logits.dtype)
    p = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(p, targets, reduction="none")
    missed = p * (1 - targets) + (1 - p) * targets
    return ((0.25 * targets + 0.75 * (1 - targets)) * missed**2 * entropy).mean()


def _with_targets(output: HeadOutput, boxed: Tensor, masked: Tensor) -> HeadOutput:
    """The rows of the output that have a target, by index; None for a task that has none."""

    def rows(source: Tensor | None, index: Tensor) -> Tensor | None:
        if source is None or not len(index):
            return None
        return source if len(index) == len(source) else source[index]

    return HeadOutput(
        boxes=rows(output.boxes, boxed),
        score_logits=rows(output.score_logits, boxed),
        offset=rows(output.offset, boxed),
        size=rows(output.size, boxed),
        mask_logits=rows(output.mask_logits, masked),
    )
