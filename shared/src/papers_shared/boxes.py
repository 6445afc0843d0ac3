"""Boxes as tensors: corners, and how well two boxes agree."""

from __future__ import annotations

import torch
from torch import Tensor


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) centre and size to (..., 4) corners x0, y0, x1, y1, in the same units."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def generalized_box_iou(a: Tensor, b: Tensor) -> Tensor:
    """GIoU (N,) in [-1, 1] of paired corner boxes (N, 4)."""
    inter = _area(torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:]))
    union = _area(a[:, :2], a[:, 2:]) + _area(b[:, :2], b[:, 2:]) - inter
    hull = _area(torch.minimum(a[:, :2], b[:, :2]), torch.maximum(a[:, 2:], b[:, 2:]))
    tiny = torch.finfo(a.dtype).tiny
    return inter / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def _area(low: Tensor, high: Tensor) -> Tensor:
    sides = (high - low).clamp(min=0)
    return sides[..., 0] * sides[..., 1]  # not `prod`, whose backward pass waits for the GPU
