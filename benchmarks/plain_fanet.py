"""FANet and its segmentor written down plainly: the yardstick of the speed ratios.

Contiguous (B, C, H, W) everywhere, a channels-first LayerNorm made of elementwise operations, as ConvNeXt-style code
writes it, and the heads as mmsegmentation 0.x has them. Entry names are those of the authors' checkpoints, so that
`fanet.convert` gives the package's network the same weights.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

WIDTHS = (96, 192, 384, 768)
DEPTHS = (2, 2, 8, 2)
KERNELS = (5, 5, 3, 3)
MLP_RATIO = 4
SCM_GROUPS = 4
POOL_SCALES = (1, 2, 3, 6)
CHANNELS = 256
AUXILIARY_STAGE = 2


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


class ConvModule(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, in_chans: int, out_chans: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, out_chans, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_chans)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class PlainUPerHead(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        *fine, coarse = WIDTHS
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), ConvModule(coarse, CHANNELS, 1))
            for scale in POOL_SCALES
        )
        self.bottleneck = ConvModule(coarse + len(POOL_SCALES) * CHANNELS, CHANNELS, 3)
        self.lateral_convs = nn.ModuleList(ConvModule(width, CHANNELS, 1) for width in fine)
        self.fpn_convs = nn.ModuleList(ConvModule(CHANNELS, CHANNELS, 3) for _ in fine)
        self.fpn_bottleneck = ConvModule(len(WIDTHS) * CHANNELS, CHANNELS, 3)
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = nn.Conv2d(CHANNELS, num_classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, maps[:-1], strict=True)]
        pooled = [_resize(module(maps[-1]), maps[-1]) for module in self.psp_modules]
        laterals.append(self.bottleneck(torch.cat([maps[-1], *pooled], dim=1)))
        for i in range(len(laterals) - 1, 0, -1):
            laterals[i - 1] = laterals[i - 1] + _resize(laterals[i], laterals[i - 1])
        levels = [conv(x) for conv, x in zip(self.fpn_convs, laterals[:-1], strict=True)] + laterals[-1:]
        fused = self.fpn_bottleneck(torch.cat([_resize(x, levels[0]) for x in levels], dim=1))
        return self.conv_seg(self.dropout(fused))


class PlainFCNHead(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(ConvModule(WIDTHS[AUXILIARY_STAGE], CHANNELS, 3))
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = nn.Conv2d(CHANNELS, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_seg(self.dropout(self.convs(x)))


class PlainSegmenterOutput(NamedTuple):
    logits: Tensor
    """(B, num_classes, H/4, W/4)."""
    aux_logits: Tensor | None
    """(B, num_classes, H/16, W/16); None outside training."""


class PlainSegmenter(nn.Module):
    """Images (B, 3, H, W), whose sides are multiples of 4 -> the logits of both heads."""

    def __init__(self, num_classes: int, drop_path_rate: float = 0.1) -> None:
        super().__init__()
        self.backbone = PlainFANet(drop_path_rate)
        self.decode_head = PlainUPerHead(num_classes)
        self.auxiliary_head = PlainFCNHead(num_classes)

    def forward(self, x: Tensor) -> PlainSegmenterOutput:
        maps = self.backbone(x)
        auxiliary = self.auxiliary_head(maps[AUXILIARY_STAGE]) if self.training else None
        return PlainSegmenterOutput(self.decode_head(maps), auxiliary)


def draw_norms(network: nn.Module) -> None:
    """Give every norm weights that are not the identity's."""
    for module in network.modules():
        if isinstance(module, ChannelNorm | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.bias, -0.2, 0.2)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
