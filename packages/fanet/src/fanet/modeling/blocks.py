"""The parts of FANet: adaptive feature enhancement (Section 3.2), feature refinement (Section 3.3), ConvMLP.

Every map is (B, C, H, W) in channels-last memory: then the permutation around the native layer norm moves no
data, and each pixel's channels lie side by side for the 1x1 convolutions. LayerNorm is over the channels of a
pixel, eps 1e-6; GELU is the exact one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath, LayerNorm2d
from torch import Tensor, nn

SCM_GROUPS = 4


def channels_last(x: Tensor) -> Tensor:
    """The same (B, C, H, W) in channels-last memory, said so that `torch.func.vmap` can do it too."""
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def gelu(x: Tensor) -> Tensor:
    """Exact GELU of a (B, C, H, W) map in channels-last memory, computed as (B, H, W, C).

    Seen like that the map is contiguous, which torch's fast CPU kernel asks for.
    """
    return F.gelu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvGeluNorm(nn.Module):
    """LN(GELU(conv(x))): the norm follows the activation."""

    def __init__(
        self, in_chans: int, out_chans: int, kernel_size: int, *, groups: int = 1, **factory: Any
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_chans, out_chans, kernel_size, padding=kernel_size // 2, groups=groups, **factory
        )
        self.norm = LayerNorm2d(out_chans, eps=1e-6, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(gelu(self.conv(x)))


class FrequencyBranch(nn.Module):
    """LN(depthwise 3x3(GELU(x))): one branch of the feature refinement module."""

    def __init__(self, dim: int, **factory: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, **factory)
        self.norm = LayerNorm2d(dim, eps=1e-6, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(gelu(x)))


class FeatureRefinement(nn.Module):
    """Feature refinement module (FRM, Section 3.3): amplifies what a smoothed copy of the map agrees with and
    what it misses.

    Args:
        dim: Channels of the input and of the output.
        high: Keep the high-frequency branch.
        low: Keep the low-frequency branch. The projection reads only the branches that are kept.
    """

    def __init__(self, dim: int, *, high: bool = True, low: bool = True, **factory: Any) -> None:
        super().__init__()
        self.down = nn.Conv2d(dim, dim, 3, stride=2, padding=1, groups=dim, **factory)
        self.low = FrequencyBranch(dim, **factory) if low else None
        self.high = FrequencyBranch(dim, **factory) if high else None
        self.proj = nn.Conv2d(dim * (int(low) + int(high)), dim, 1, **factory)

    def smooth(self, x: Tensor) -> Tensor:
        """Q: the map after a strided depthwise convolution and bilinear upsampling, (B, C, H, W) like `x`."""
        return F.interpolate(self.down(x), size=x.shape[-2:], mode="bilinear", align_corners=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W): GELU(proj([low(S), high(R)])) with S = x * Q and R = x - Q."""
        q = self.smooth(x)
        branches: list[Tensor] = []
        if self.low is not None:
            branches.append(self.low(x * q))
        if self.high is not None:
            branches.append(self.high(x - q))
        return gelu(self.proj(torch.cat(branches, dim=1)))


class AdaptiveFeatureEnhancement(nn.Module):
    """AFE (Section 3.2): convolutional embedding, then spatial context (SCM) and refinement (FRM) side by side
    on half the channels, fused by a 1x1 convolution.

    Args:
        dim: Channels of the input and of the output.
        kernel_size: Kernel of the depthwise convolutional embedding.
        scm: Keep the spatial context module, a 7x7 convolution in four groups.
        frm_high: Keep the high-frequency branch of the FRM.
        frm_low: Keep the low-frequency branch of the FRM.
    """

    def __init__(
        self,
        dim: int,
        kernel_size: int,
        *,
        scm: bool = True,
        frm_high: bool = True,
        frm_low: bool = True,
        **factory: Any,
    ) -> None:
        super().__init__()
        half = dim // 2
        frm = frm_high or frm_low
        self.ce = ConvGeluNorm(dim, dim, kernel_size, groups=dim, **factory)
        self.squeeze = ConvGeluNorm(dim, half, 1, **factory)
        self.scm = ConvGeluNorm(half, half, 7, groups=SCM_GROUPS, **factory) if scm else None
        self.frm = FeatureRefinement(half, high=frm_high, low=frm_low, **factory) if frm else None
        self.fuse = nn.Conv2d(half * max(1, int(scm) + int(frm)), dim, 1, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), itself the output of a GELU."""
        x = self.squeeze(x + self.ce(x))
        branches: list[Tensor] = []
        if self.scm is not None:
            branches.append(self.scm(x))
        if self.frm is not None:
            branches.append(self.frm(x))
        if len(branches) == 0:
            branches.append(x)
        return gelu(self.fuse(torch.cat(branches, dim=1)))


class ConvMlp(nn.Module):
    """1x1 convolution and GELU, a depthwise 3x3 with its own skip, 1x1 convolution back."""

    def __init__(self, dim: int, hidden: int, **factory: Any) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1, **factory)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, **factory)
        self.fc2 = nn.Conv2d(hidden, dim, 1, **factory)

    def forward(self, x: Tensor) -> Tensor:
        x = gelu(self.fc1(x))
        return self.fc2(x + gelu(self.conv(x)))


class Block(nn.Module):
    """x + DropPath(AFE(LN(x))), then x + DropPath(ConvMLP(LN(x))); (B, C, H, W) -> (B, C, H, W)."""

    def __init__(
        self,
        dim: int,
        kernel_size: int,
        mlp_ratio: float,
        *,
        drop_path: float = 0.0,
        scm: bool = True,
        frm_high: bool = True,
        frm_low: bool = True,
        **factory: Any,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(dim, eps=1e-6, **factory)
        self.afe = AdaptiveFeatureEnhancement(
            dim, kernel_size, scm=scm, frm_high=frm_high, frm_low=frm_low, **factory
        )
        self.drop_path1 = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()
        self.norm2 = LayerNorm2d(dim, eps=1e-6, **factory)
        self.mlp = ConvMlp(dim, int(dim * mlp_ratio), **factory)
        self.drop_path2 = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path1(self.afe(self.norm1(x)))
        return x + self.drop_path2(self.mlp(self.norm2(x)))
