"""Context-aware boundary localization (Section II-B): fixed edge filters that gate convolution features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cabl_cgsr.config import CablConfig

SMOOTHING = {"sobel": (1.0, 2.0, 1.0), "prewitt": (1.0, 1.0, 1.0), "scharr": (3.0, 10.0, 3.0)}
"""Weights across the direction of the difference [-1, 0, 1]."""
PADDING = {"zeros": "constant", "replicate": "replicate", "reflect": "reflect"}


def edge_kernels(operator: str) -> Tensor:
    """The 3x3 kernels (2, 1, 3, 3): the first for growth to the right, the second downwards."""
    kernel_x = torch.outer(torch.tensor(SMOOTHING[operator]), torch.tensor((-1.0, 0.0, 1.0)))
    return torch.stack([kernel_x, kernel_x.T]).unsqueeze(1)


def gradients(x: Tensor, kernels: Tensor, padding: str = "replicate") -> tuple[Tensor, Tensor]:
    """gx and gy, each like `x`: every map of (B, C, H, W) by itself, cross-correlated with both kernels.

    With `padding="reflect"` the border of a map of one row or column is replicated: there is nothing to
    reflect.
    """
    if padding == "reflect" and min(x.shape[-2:]) == 1:
        padding = "replicate"
    padded = F.pad(x, (1, 1, 1, 1), mode=PADDING[padding])
    kernel_x, kernel_y = kernels.to(x.dtype).expand(2, x.shape[1], 3, 3).contiguous().unsqueeze(2)
    gx = F.conv2d(padded, kernel_x, groups=x.shape[1])
    return gx, F.conv2d(padded, kernel_y, groups=x.shape[1])


def edge_magnitude(x: Tensor, kernels: Tensor, config: CablConfig) -> Tensor:
    """S(X): strength of the edges, >= 0, of each map (B, C, H, W), or of the channels' sum (B, 1, H, W)."""
    if config.channels == "summed":
        x = x.sum(dim=1, keepdim=True)
    gx, gy = gradients(x, kernels, config.padding)
    if config.magnitude == "l1":
        return gx.abs() + gy.abs()
    return (
        gx.square().addcmul_(gy, gy).add_(config.eps).sqrt_()
    )  # in place on the square, which nobody else sees


def gate(magnitude: Tensor, kind: str) -> Tensor:
    """What the features are multiplied by; of the shape of `magnitude`.

    raw: the magnitude; sigmoid: in [0.5, 1); tanh: in [0, 1); max: in [0, 1], over the largest value of each
        map.
    """
    if kind == "sigmoid":
        return magnitude.sigmoid()
    if kind == "tanh":
        return magnitude.tanh()
    if kind == "max":
        largest = magnitude.amax(dim=(-2, -1), keepdim=True)
        return magnitude / largest.clamp(min=torch.finfo(magnitude.dtype).tiny)
    return magnitude


class Cabl(nn.Module):
    """Eq. (1): F = S(X) * X + X, with the gate and the structure that `config` names. It has no parameters.

    The edges are computed in float32, whatever the features are in.

    Args:
        grad_checkpointing: In training, compute the edges again in the backward pass and keep nothing but X for it.
    """

    kernels: Tensor

    def __init__(self, config: CablConfig, *, grad_checkpointing: bool = False) -> None:
        super().__init__()
        self.config = config
        self.grad_checkpointing = grad_checkpointing
        self.register_buffer("kernels", edge_kernels(config.operator), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, H, W) -> features of that shape and type."""
        if self.grad_checkpointing and self.training:
            edges = checkpoint(self._edges, x, use_reentrant=False, preserve_rng_state=False)
        else:
            edges = self._edges(x)
        structure = self.config.structure
        if structure == "iii":
            return torch.addcmul(x, edges, x)
        if structure == "ii":
            return x + edges
        return edges * x if structure == "i" else edges.expand_as(x)

    def _edges(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            exact = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            return gate(edge_magnitude(exact, self.kernels, self.config), self.config.gate).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.config.operator}, structure={self.config.structure}, gate={self.config.gate}"
