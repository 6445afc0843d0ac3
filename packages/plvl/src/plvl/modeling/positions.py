"""Decomposed relative positions (MViTv2, eq. 4): a table for rows and a table for columns."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def position_bias(q: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """What relative positions add to the logits: the unscaled queries against the two tables.

    Args:
        q: (..., L, d), L = height * width row by row.
        rows: (height, height, d), of `relative_rows`.
        columns: (width, width, d) likewise.

    Returns:
        (..., L, L).
    """
    q = q.unflatten(-2, (len(rows), len(columns)))
    by_height = torch.einsum("...ywd,ykd->...ywk", q, rows).contiguous()
    by_width = torch.einsum("...ywd,wkd->...ywk", q, columns).contiguous()
    return (by_height[..., :, None] + by_width[..., None, :]).flatten(-2).flatten(-3, -2)


def relative_rows(table: Tensor, size: int) -> Tensor:
    """The rows of a relative position table for every query and key of a side of `size` tokens.

    A table built for another side is resized linearly. Row `query - key + size - 1` belongs to a pair.

    Returns:
        (size queries, size keys, d).
    """
    if len(table) != 2 * size - 1:
        table = F.interpolate(table.T[None], size=2 * size - 1, mode="linear", align_corners=False)[0].T
    places = torch.arange(size, device=table.device)
    return table[places[:, None] - places[None, :] + size - 1]
