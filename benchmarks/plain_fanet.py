"""FANet's backbone written down plainly: the yardstick of the speed ratios.

Contiguous (B, C, H, W) everywhere, and a channels-first LayerNorm made of elementwise operations, as
ConvNeXt-style code writes it. Entry names are those of the authors' checkpoints, so that
`fanet.convert.convert_state_dict` gives the package's network the same weights;
`benchmarks.fanet_networks.check_equality` holds both to the same numbers.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

WIDTHS = (96, 192, 384, 768)
DEPTHS = (2, 2, 8, 2)
KERNELS = (5, 5, 3, 3)
MLP_RATIO = 4
SCM_GROUPS = 4


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each pixel of (B, C, H, W), biased variance, eps 1e-6."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        variance = centred.square().mean(1, keepdim=True)
        normed = centred * torch.rsqrt(variance + 1e-6)
        return normed * self.weight[:, None, None] + self.bias[:, None, None]


def _depthwise(dim: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(dim, dim, kernel, stride, kernel // 2, groups=dim)


class Enhance(nn.Module):
    """FRM: what the map shares with a smoothed copy of itself, and what it has beyond it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.down = _depthwise(dim, 3, stride=2)
        self.lconv, self.norm1 = _depthwise(dim, 3), ChannelNorm(dim)
        self.hconv, self.norm2 = _depthwise(dim, 3), ChannelNorm(dim)
        self.proj = nn.Conv2d(2 * dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        smooth = F.interpolate(self.down(x), size=x.shape[-2:], mode="bilinear", align_corners=False)
        low = self.norm1(self.lconv(F.gelu(x * smooth)))
        high = self.norm2(self.hconv(F.gelu(x - smooth)))
        return F.gelu(self.proj(torch.cat([low, high], dim=1)))


class Attention(nn.Module):
    """AFE: embedding, squeeze, spatial context beside refinement, fusion."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        half = dim // 2
        self.dwconv, self.norm1 = _depthwise(dim, kernel), ChannelNorm(dim)
        self.proj1, self.norm2 = nn.Conv2d(dim, half, 1), ChannelNorm(half)
        self.ctx_conv, self.norm3 = nn.Conv2d(half, half, 7, padding=3, groups=SCM_GROUPS), ChannelNorm(half)
        self.enhance = Enhance(half)
        self.proj2 = nn.Conv2d(2 * half, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.norm1(F.gelu(self.dwconv(x)))
        x = self.norm2(F.gelu(self.proj1(x)))
        context = self.norm3(F.gelu(self.ctx_conv(x)))
        return F.gelu(self.proj2(torch.cat([context, self.enhance(x)], dim=1)))


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, MLP_RATIO * dim, 1)
        self.pos = _depthwise(MLP_RATIO * dim, 3)
        self.fc2 = nn.Conv2d(MLP_RATIO * dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.fc1(x))
        return self.fc2(x + F.gelu(self.pos(x)))


class Block(nn.Module):
    def __init__(self, dim: int, kernel: int, drop_path: float) -> None:
        super().__init__()
        self.layer_norm1, self.attn = ChannelNorm(dim), Attention(dim, kernel)
        self.layer_norm2, self.mlp = ChannelNorm(dim), Mlp(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.layer_norm1(x)))
        return x + self.drop_path(self.mlp(self.layer_norm2(x)))


class PlainFANet(nn.Module):
    """Images (B, 3, H, W) -> the four maps at strides 4, 8, 16, 32, contiguous (B, C, h, w)."""

    output_fmt = "NCHW"

    def __init__(self, drop_path_rate: float = 0.1) -> None:
        super().__init__()
        rates = torch.linspace(0, drop_path_rate, sum(DEPTHS)).tolist()
        self.downsample_layers = nn.ModuleList([nn.Conv2d(3, WIDTHS[0], 5, 4, 2)])
        for before, after in itertools.pairwise(WIDTHS):
            self.downsample_layers.append(nn.Conv2d(before, after, 3, 2, 1))
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(dim, kernel, rates.pop(0)) for _ in range(depth)))
            for dim, depth, kernel in zip(WIDTHS, DEPTHS, KERNELS, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
            maps.append(x)
        return maps
