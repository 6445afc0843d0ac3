"""The collaborative multi-task head (Section 3.3, Figure 4): convolutions from tokens to centre, offset, size
and mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers_shared.errors import UserError
from plvl.config import BOX_TASKS, Task

SIZE_MARGIN = 1e-4
"""Sizes stay this far from 0 and 1, as in the authors' code."""


class HeadOutput(NamedTuple):
    """Maps of the head; None where a branch was not built."""

    boxes: Tensor | None
    """(B, 4) centre x, centre y, width, height as fractions of the image, read at the highest centre."""
    score_logits: Tensor | None
    """(B, 1, H/P, W/P) logits of being the centre's cell."""
    offset: Tensor | None
    """(B, 2, H/P, W/P) x and y of the centre in cells, from the upper left corner of the cell; unbounded."""
    size: Tensor | None
    """(B, 2, H/P, W/P) width and height as fractions of the image."""
    mask_logits: Tensor | None
    """(B, 1, H, W)."""


class CollaborativeHead(nn.Module):
    """Groups of branches: each group has its share of the channels and a first convolution of its own.

    Args:
        in_chans: Channels of the tokens, shared out evenly among the groups.
        dim: Width of a group's shared convolution; the box branches have half of it.
        patch_size: Side in pixels of the square that a token becomes in the mask.
        groups: Branches of each group. A group without any branch to build keeps its channels, unused.
        tasks: Branches to build: mask, or the three of the box, or all.

    Raises:
        UserError: A branch is missing or named twice, or the channels cannot be shared out.
    """

    def __init__(
        self,
        in_chans: int,
        dim: int,
        patch_size: int,
        groups: Sequence[Sequence[Task]],
        tasks: Sequence[Task],
    ) -> None:
        super().__init__()
        named = [task for group in groups for task in group]
        if sorted(named) != sorted(("mask", *BOX_TASKS)):
            raise UserError(
                f"--model.head-groups must name mask, center, offset and size once each, not {groups}"
            )
        if in_chans % len(groups):
            raise UserError(f"--model.decoder-dim {in_chans} does not divide into {len(groups)} groups")
        chans = in_chans // len(groups)
        self.groups = [tuple(task for task in group if task in tasks) for group in groups]
        self.stems = nn.ModuleList(
            ConvBNReLU(chans, dim, 3) if group else nn.Identity() for group in self.groups
        )
        self.branches = nn.ModuleDict(
            {
                task: MaskBranch(dim, patch_size)
                if task == "mask"
                else BoxBranch(dim, 1 if task == "center" else 2)
                for group in self.groups
                for task in group
            }
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, tokens: Tensor, box_token: Tensor | None = None) -> HeadOutput:
        """Tokens (B, H/P, W/P, in_chans) -> maps and boxes in float32 or wider; a box token is not looked at."""
        parts = tokens.permute(0, 3, 1, 2).chunk(len(self.groups), dim=1)
        maps: dict[str, Tensor] = {}
        for group, stem, part in zip(self.groups, self.stems, parts, strict=True):
            if group:
                shared = stem(part)
                maps.update({task: at_least_float32(self.branches[task](shared)) for task in group})
        score, offset = maps.get("center"), maps.get("offset")
        if score is None or offset is None:
            return HeadOutput(None, None, None, None, maps["mask"])
        size = maps["size"].sigmoid().clamp(SIZE_MARGIN, 1 - SIZE_MARGIN)
        return HeadOutput(decode_boxes(score, offset, size), score, offset, size, maps.get("mask"))


class ConvBNReLU(nn.Module):
    """Convolution with bias, batch norm, ReLU; (B, in_chans, H, W) -> (B, out_chans, H, W)."""

    def __init__(self, in_chans: int, out_chans: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, out_chans, kernel_size, padding=kernel_size // 2)
        self.bn = nn.BatchNorm2d(out_chans)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class BoxBranch(nn.Module):
    """3x3 convolution to half the width, then 1x1; (B, dim, h, w) -> (B, out_chans, h, w)."""

    def __init__(self, dim: int, out_chans: int) -> None:
        super().__init__()
        self.hidden = ConvBNReLU(dim, dim // 2, 3)
        self.out = nn.Conv2d(dim // 2, out_chans, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.hidden(x))


class MaskBranch(nn.Module):
    """1x1 convolution to one channel per pixel of a patch, the pixels in their positions, 5x5 convolution.

    (B, dim, h, w) -> logits (B, 1, h * patch_size, w * patch_size). The paper draws 3x3 where the authors
    have 1x1.
    """

    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.hidden = ConvBNReLU(dim, patch_size**2, 1)
        self.out = nn.Conv2d(1, 1, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.pixel_shuffle(self.hidden(x), self.patch_size))


def decode_boxes(score: Tensor, offset: Tensor, size: Tensor) -> Tensor:
    """The box at the highest centre (eq. 5); on a tie the first cell, row by row. No gradient passes the
    choice.

    The paper adds cells to offsets; as in the code, the sum is divided by the number of cells.

    Args:
        score: (B, 1, H, W) logits or probabilities.
        offset: (B, 2, H, W) x and y in cells from the corner of the cell.
        size: (B, 2, H, W) width and height as fractions of the image.

    Returns:
        (B, 4) centre x, centre y, width, height as fractions of the image.
    """
    H, W = score.shape[-2:]
    cell = score.flatten(1).argmax(dim=1)
    position = cell[:, None, None].expand(-1, 2, 1)
    x, y = offset.flatten(2).gather(2, position)[..., 0].unbind(1)
    centre = torch.stack([(cell % W + x) / W, (cell // W + y) / H], dim=1)
    return torch.cat([centre, size.flatten(2).gather(2, position)[..., 0]], dim=1)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision, from autocast, as float32: it would round boxes to several pixels, and sums to nothing."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
