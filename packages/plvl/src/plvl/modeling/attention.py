"""The two attentions of the network, both through `scaled_dot_product_attention`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from plvl.modeling.linear import TokenLinear


class SelfAttention(nn.Module):
    """Self-attention of a ViTDet block with decomposed relative positions (Li et al., "Exploring Plain Vision
    Transformer Backbones for Object Detection"; MViTv2, eq. 4).

    Args:
        dim: Width of the tokens.
        num_heads: Heads of width `dim / num_heads`.
        table_grid: Side in tokens that the two position tables cover.
        window_size: Side in tokens of the windows that attention stays inside; 0: the whole image. Where it
            does not divide the grid, zero tokens fill up the bottom and the right, as in detectron2.
    """

    def __init__(self, dim: int, num_heads: int, *, table_grid: int, window_size: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.qkv = TokenLinear(dim, 3 * dim)
        self.proj = TokenLinear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * table_grid - 1, dim // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * table_grid - 1, dim // num_heads))

    def forward(self, x: Tensor) -> Tensor:
        """Normed tokens (B, H, W, C) -> (B, H, W, C), before the residual sum."""
        H, W = x.shape[1:3]
        wh, ww = (self.window_size, self.window_size) if self.window_size else (H, W)
        down, right = -H % wh, -W % ww
        if down or right:
            x = F.pad(x, (0, 0, 0, right, 0, down))
        x = rearrange(x, "b (nh wh) (nw ww) c -> (b nh nw) (wh ww) c", wh=wh, ww=ww)
        q, k, v = rearrange(
            self.qkv(x), "b n (three heads d) -> three b heads n d", three=3, heads=self.num_heads
        ).unbind(0)
        attend = attend_appended if q.is_cuda else attend_biased
        x = attend(q, k, v, relative_positions(self.rel_pos_h, wh), relative_positions(self.rel_pos_w, ww))
        x = rearrange(
            x,
            "(b nh nw) heads (wh ww) d -> b (nh wh) (nw ww) (heads d)",
            nh=(H + down) // wh,
            nw=(W + right) // ww,
            wh=wh,
        )
        return self.proj(x[:, :H, :W])


class Attention(nn.Module):
    """Multi-head attention between two sequences of tokens, scaled by 1 / sqrt(head width).

    Args:
        dim: Width of the queries and of the result.
        num_heads: Heads of width `dim / num_heads`.
        context_dim: Width of keys and values; None: `dim`.
        dropout: Dropout on the attention weights.
    """

    def __init__(
        self, dim: int, num_heads: int, *, context_dim: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        context_dim = dim if context_dim is None else context_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.q = TokenLinear(dim, dim)
        self.k = TokenLinear(context_dim, dim)
        self.v = TokenLinear(context_dim, dim)
        self.proj = TokenLinear(dim, dim)
        for linear in (self.q, self.k, self.v):
            # one Xavier matrix of three stacked parts, as torch.nn.MultiheadAttention has it
            nn.init.xavier_uniform_(linear.weight, gain=2**-0.5)
            nn.init.zeros_(linear.bias)
        nn.init.zeros_(self.proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Queries (B, N, dim), keys and values (B, M, context_dim) -> (B, N, dim).

        Args:
            key_mask: (B, M) bool, True where a key may be seen; None: everywhere.
        """
        q, k, v = self.split(self.q(query)), self.split(self.k(key)), self.split(self.v(value))
        mask = None if key_mask is None else key_mask[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.proj(x.transpose(1, 2).flatten(2))

    def split(self, x: Tensor) -> Tensor:
        """(B, N, dim) -> (B, heads, N, dim / heads)."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


def attend_biased(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Attention whose logits have the scores of relative positions added (MViTv2, eq. 4).

    Args:
        q, k, v: (B, heads, L, d), L = height * width row by row.
        rel_h: (height, height, d), of `relative_positions`.
        rel_w: (width, width, d) likewise.

    Returns:
        (B, heads, L, d).
    """
    by_height, by_width = (scores.contiguous() for scores in position_scores(q, rel_h, rel_w))
    bias = (by_height[..., :, None] + by_width[..., None, :]).flatten(-2).flatten(-3, -2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def attend_appended(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """The same as `attend_biased` without an L x L bias, so that flash attention takes it.

    Each query carries its scores of all rows and columns, each key a 1 at its own row and column: their product is the
    score of that key's position. The fused kernels want values as wide as keys, hence the zeros. On a CPU, whose
    kernels take a bias, training takes longer in this form.
    """
    (H, W), d = (len(rel_h), len(rel_w)), q.shape[-1]
    row, column = (torch.eye(side, dtype=k.dtype, device=k.device) for side in (H, W))
    marks = torch.cat([row[:, None].expand(-1, W, -1), column.expand(H, -1, -1)], dim=-1)
    scores = position_scores(q * d**0.5, rel_h, rel_w)
    q = torch.cat([q.unflatten(-2, (H, W)), *scores], dim=-1).flatten(-3, -2)
    k = torch.cat([k, marks.flatten(0, 1).expand(*k.shape[:2], -1, -1)], dim=-1)
    x = F.scaled_dot_product_attention(q, k, F.pad(v, (0, H + W)), scale=d**-0.5)
    return x[..., :d]


def position_scores(q: Tensor, rel_h: Tensor, rel_w: Tensor) -> tuple[Tensor, Tensor]:
    """The unscaled queries (..., L, d) against both tables, for each row and for each column.

    Returns:
        (..., height, width, height) and (..., height, width, width).
    """
    grid = q.unflatten(-2, (len(rel_h), len(rel_w)))
    by_height = torch.einsum("...ywd,ykd->...ywk", grid, rel_h.to(q.dtype))
    by_width = torch.einsum("...ywd,wkd->...ywk", grid, rel_w.to(q.dtype))
    return by_height, by_width


def relative_positions(table: Tensor, size: int) -> Tensor:
    """The entries of a relative position table for every query and key of a side of `size` tokens.

    A table built for another side is resized linearly. Entry `query - key + size - 1` belongs to a pair.

    Returns:
        (size queries, size keys, d).
    """
    if len(table) != 2 * size - 1:
        table = F.interpolate(table.T[None], size=2 * size - 1, mode="linear", align_corners=False)[0].T
    return table.unfold(0, size, 1).flip(-1).mT
