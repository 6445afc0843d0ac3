"""What lies between any timm backbone and the heads: the size of its images, and the order and sizes of its maps."""

from __future__ import annotations

import math

import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from fanet.modeling.fitting import Fit

PYRAMID = (4, 8, 16, 32)
"""Strides that heads ask for."""


class Levels(nn.Module):
    """Fits images to a backbone, and its maps to the heads; without parameters unless the backbone is a plain one.

    Args:
        fit: What the backbone takes and gives.
        level_norm: Epsilon of a layer norm on each map; 0: none.

    Attributes:
        chans: Channels of the maps that `forward` gives.
    """

    def __init__(self, fit: Fit, level_norm: float = 0.0) -> None:
        super().__init__()
        self.multiple, self.side = fit.multiple, fit.side
        self.pyramid = FeaturePyramid(fit.chans[-1], fit.strides[-1]) if fit.plain else None
        self.chans = fit.chans if self.pyramid is None else self.pyramid.chans
        self.norms = nn.ModuleList(LayerNorm2d(chans, eps=level_norm) for chans in self.chans if level_norm)

    def images(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> the same at a size that the backbone takes, resized bilinearly where it must be."""
        if self.side:
            size = [self.side, self.side]
        elif self.multiple > 1:
            size = [-(-side // self.multiple) * self.multiple for side in images.shape[-2:]]
        else:
            return images
        if list(images.shape[-2:]) == size:
            return images
        return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """The backbone's maps (B, C_i, h_i, w_i) -> those of the heads, from fine to coarse."""
        if self.pyramid is not None:
            maps = self.pyramid(maps[-1])
        if not self.norms:
            return maps
        return [norm(x) for norm, x in zip(self.norms, maps, strict=True)]


class FeaturePyramid(nn.Module):
    """Maps at strides 4, 8, 16 and 32 from the last map of a plain vision transformer.

    The simple feature pyramid of Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection" (2022):
    transposed convolutions enlarge, max pooling shrinks, each in steps of two. With a stride that is no power of two
    the nearest steps are taken; heads resize.

    Args:
        in_chans: Channels of the map.
        stride: Its stride.
    """

    def __init__(self, in_chans: int, stride: int) -> None:
        super().__init__()
        steps = [round(math.log2(stride / wanted)) for wanted in PYRAMID]
        self.chans = tuple(_halved(in_chans, max(step, 0)) for step in steps)
        self.branches = nn.ModuleList(_branch(in_chans, step) for step in steps)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_chans, h, w) -> four maps (B, chans[i], h_i, w_i), from fine to coarse."""
        return [branch(x) for branch in self.branches]


def _branch(in_chans: int, step: int) -> nn.Sequential:
    """`step` doublings of the size, each with half the channels; halvings of the size if it is negative."""
    if step < 0:
        return nn.Sequential(nn.MaxPool2d(2**-step, ceil_mode=True))
    layers: list[nn.Module] = []
    for i in range(step):
        chans = _halved(in_chans, i + 1)
        if i > 0:
            layers += [LayerNorm2d(_halved(in_chans, i), eps=1e-6), nn.GELU()]
        layers.append(nn.ConvTranspose2d(_halved(in_chans, i), chans, 2, stride=2))
    return nn.Sequential(*layers)


def _halved(chans: int, times: int) -> int:
    return max(chans >> times, 1)
