"""Class activation maps and image scores (Section II-C, Eq. 2): pure functions of tensors.

A map is a tensor whose last two dimensions are a grid, row by row; each map of a batch and of a class is
treated by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cabl_cgsr.config import CamConfig

FLAT = 1e-5
"""A map whose values differ by less has no structure but rounding; min-max scaling doesn't amplify it."""


def min_max(maps: Tensor) -> Tensor:
    """(..., H, W) -> each map scaled to [0, 1] by its own extremes; a constant map becomes 0."""
    low, high = _extremes(maps)
    return (maps - low) / (high - low).clamp(min=FLAT)


def union(a: Tensor, b: Tensor, kind: str = "max") -> Tensor:
    """M_trans U M_conv: two maps of one shape, each scaled to [0, 1] by `min_max`, as one.

    max: the larger; probabilistic: a + b - ab; sum: a + b, in [0, 2].
    """
    a, b = min_max(a), min_max(b)
    if kind == "max":
        return torch.maximum(a, b)
    return a + b if kind == "sum" else a + b - a * b


def couple(maps: Tensor, attention: Tensor, kind: str = "matrix") -> Tensor:
    """Spread a map along the attention, A being the attention between patches.

    matrix: out_i = sum_j A_ij map_j; transposed: out_i = sum_j A_ji map_j; class_row: out_i = a_i map_i with
    the class token's row a; none: the map itself. The class token's row and column are dropped after the
    softmax and rows are not normalised again, as in TransCAM.

    Args:
        maps: (B, C, h, w).
        attention: (B, 1 + h*w, 1 + h*w), the class token first.

    Returns:
        (B, C, h, w).
    """
    if kind == "none":
        return maps
    if kind == "class_row":
        return maps * attention[:, 0, 1:].unflatten(1, maps.shape[-2:]).unsqueeze(1)
    patches = attention[:, 1:, 1:]
    with torch.autocast(maps.device.type, enabled=False):
        spread = maps.flatten(2) @ (patches if kind == "transposed" else patches.transpose(1, 2))
    return spread.unflatten(2, maps.shape[-2:])


def activation_map(conv_map: Tensor, trans_map: Tensor, attention: Tensor, config: CamConfig) -> Tensor:
    """Eq. (2): the union of both branches' maps (B, C, h, w), coupled with the attention; (B, C, h, w)."""
    if config.source == "union":
        maps = union(conv_map, trans_map, config.union)
    else:
        maps = conv_map if config.source == "conv" else trans_map
    return couple(maps, attention, config.attention)


def aggregate(maps: Sequence[Tensor], size: tuple[int, int], kind: str = "mean") -> Tensor:
    """Maps of one image at several sizes -> one at the size of the image, unscaled.

    Args:
        maps: Each (..., h, w) with its own grid, mirrored ones mirrored back.
        size: Height and width of the image in pixels; resizing is bilinear with half-pixel centres.
        kind: mean or max over the maps.

    Returns:
        (..., H, W).
    """
    resized = [
        F.interpolate(
            m.reshape(1, -1, *m.shape[-2:]), size=size, mode="bilinear", align_corners=False
        ).reshape(*m.shape[:-2], *size)
        for m in maps
    ]
    stack = torch.stack(resized)
    return stack.amax(dim=0) if kind == "max" else stack.mean(dim=0)


def scale_map(maps: Tensor, kind: str = "clip_minmax") -> Tensor:
    """An aggregated map (..., H, W) -> [0, 1], for thresholds and for P-F1; a constant map becomes 0.

    clip_minmax: negative values to 0, then `min_max`; clip_max: negative values to 0, then divided by the
    maximum; minmax: `min_max` alone.
    """
    if kind == "minmax":
        return min_max(maps)
    clipped = maps.clamp(min=0)
    if kind == "clip_minmax":
        return min_max(clipped)
    low, high = _extremes(maps)
    return torch.where(high - low > FLAT, clipped / high.clamp(min=FLAT), torch.zeros_like(clipped))


def _extremes(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest value of each map (..., H, W), both (..., 1, 1), in one pass."""
    low, high = maps.flatten(-2).aminmax(dim=-1, keepdim=True)
    return low[..., None], high[..., None]


def probability(logits: Tensor, activation: str = "sigmoid") -> Tensor:
    """(B, num_logits) -> (B,): the probability of the last logit, "manipulated"."""
    return logits.softmax(dim=1)[:, -1] if activation == "softmax" else logits[:, -1].sigmoid()


def image_score(
    logits_conv: Tensor, logits_trans: Tensor, activation: str = "sigmoid", kind: str = "probabilities"
) -> Tensor:
    """Both branches' logits (B, num_logits) -> (B,) in [0, 1], higher = manipulated.

    probabilities: the mean of both branches' probabilities; logits: the probability of the summed logits.
    """
    if kind == "logits":
        return probability(logits_conv + logits_trans, activation)
    return (probability(logits_conv, activation) + probability(logits_trans, activation)) / 2
