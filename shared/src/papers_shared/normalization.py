"""Images travel as bytes, a quarter of what floats take, and become numbers where the network computes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Normalization(nn.Module):
    """Numbers for the bytes of images, by a table of each channel's 256 values: the same on every device.

    Args:
        table: (C, 256) float32, as `value_table` makes it.
    """

    table: Tensor
    """(C * 256, 1) float32, one channel after the other."""
    first: Tensor
    """(C, 1, 1) int32: where each channel's values begin."""

    def __init__(self, table: np.ndarray) -> None:
        super().__init__()
        first = 256 * torch.arange(len(table), dtype=torch.int32)
        self.register_buffer("table", torch.from_numpy(table).reshape(-1, 1), persistent=False)
        self.register_buffer("first", first[:, None, None], persistent=False)

    def forward(self, images: Tensor, inside: Tensor | None = None) -> Tensor:
        """(B, C, H, W) uint8 -> float32 of the same shape.

        Args:
            inside: (B, 4) integers, the top, left, bottom and right that each image has in its frame; outside are
                zeros. None: the images fill their frames.
        """
        values = F.embedding(images + self.first, self.table)[..., 0]
        if inside is None:
            return values
        top, left, bottom, right = inside[:, :, None, None, None].unbind(1)
        row = torch.arange(images.shape[2], device=images.device)[:, None]
        column = torch.arange(images.shape[3], device=images.device)
        within = (row >= top) & (row < bottom) & (column >= left) & (column < right)
        return values.masked_fill(~within, 0.0)


@lru_cache(maxsize=16)
def normalization_on(
    device: torch.device, mean: tuple[float, ...], std: tuple[float, ...], computed: Any = np.float64
) -> Normalization:
    """The normalisation by `value_table`, kept on the device for the next call."""
    return Normalization(value_table(mean, std, computed)).to(device)


def value_table(mean: Sequence[float], std: Sequence[float], computed: Any = np.float64) -> np.ndarray:
    """(C, 256) float32: (x - mean) / std of each value of each channel.

    Args:
        mean, std: Of each channel, on 0..255.
        computed: Type of the arithmetic, before it is rounded to float32.
    """
    values = np.arange(256, dtype=computed)
    shift, scale = (np.asarray(part, computed)[:, None] for part in (mean, std))
    return ((values - shift) / scale).astype(np.float32)
