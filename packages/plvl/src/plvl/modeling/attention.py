"""The two attentions of the network, both through `scaled_dot_product_attention`, or `cpu_attention` where that is
sooner.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from papers_shared.cpu import eager_cpu
from papers_shared.eager import is_eager
from plvl.modeling.cpu_attention import cpu_attention
from plvl.modeling.positions import position_bias, relative_rows


class SelfAttention(nn.Module):
    """Self-attention of a ViTDet block with decomposed relative positions (Li et al., "Exploring Plain Vision
    Transformer Backbones for Object Detection"; MViTv2, eq. 4).

    Args:
        dim: Width of the tokens.
        num_heads: Heads of width `dim / num_heads`.
        table_grid: Side in tokens that the two position tables cover.
        window_size: Side in tokens of the windows that attention stays inside; 0: the whole picture. Where it
            does not divide the grid, zero tokens fill up the bottom and the right, as in detectron2.
    """

    def __init__(self, dim: int, num_heads: int, *, table_grid: int, window_size: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
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
        rows = relative_rows(self.rel_pos_h, wh).to(q.dtype)
        columns = relative_rows(self.rel_pos_w, ww).to(q.dtype)
        if eager_cpu(q):
            x = cpu_attention(q, k, v, rows=rows, columns=columns)
        else:
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=position_bias(q, rows, columns))
        x = rearrange(
            x,
            "(b nh nw) heads (wh ww) d -> b (nh wh) (nw ww) (heads d)",
            nh=(H + down) // wh,
            nw=(W + right) // ww,
            wh=wh,
        )
        return self.proj(x[:, :H, :W])


class Attention(nn.Module):
    """Multi-head attention between two rows of tokens, scaled by 1 / sqrt(head width).

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
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(context_dim, dim)
        self.v = nn.Linear(context_dim, dim)
        self.proj = nn.Linear(dim, dim)
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
        k, v = self.split(self.k(key)), self.split(self.v(value))
        if self._absorbs(query.shape[1], key.shape[1]):
            return self._absorbed(query, k, v, key_mask)
        q = self.split(self.q(query))
        dropout = self.dropout if self.training else 0.0
        if torch.is_grad_enabled() and eager_cpu(q):
            x = cpu_attention(q, k, v, key_mask=key_mask, dropout=dropout)
        else:
            mask = None if key_mask is None else key_mask[:, None, None, :]
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.proj(x.transpose(1, 2).flatten(2))

    def split(self, x: Tensor) -> Tensor:
        """(B, N, dim) -> (B, heads, N, dim / heads)."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    def _absorbs(self, queries: int, keys: int) -> bool:
        """Whether `_absorbed` takes fewer multiply-adds, where they alone count."""
        if self.training or torch.is_grad_enabled() or not is_eager():
            return False
        dim = self.proj.in_features
        return keys * dim + queries * self.num_heads * keys < queries * dim + queries * keys

    def _absorbed(self, query: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None) -> Tensor:
        """The same attention, with the projections of queries and result multiplied into few keys and values.

        (x Wq) K^T = x (K Wq^T)^T and (P V) Wo = P (V Wo): a sentence has far fewer word pieces than a picture tokens.

        Args:
            query: (B, N, dim).
            k, v: (B, heads, M, dim / heads).
            key_mask: As in `forward`.
        """
        heads, width = k.shape[1], k.shape[3]
        scale = width**-0.5
        keys = k @ self.q.weight.unflatten(0, (heads, width))
        offsets = (k @ self.q.bias.view(heads, width, 1)).squeeze(3) * scale
        if key_mask is not None:
            offsets = offsets.masked_fill(~key_mask[:, None], float("-inf"))
        values = v @ self.proj.weight.T.unflatten(0, (heads, width))
        logits = torch.baddbmm(
            offsets.flatten(1)[:, None], query, keys.flatten(1, 2).transpose(1, 2), alpha=scale
        )
        weights = logits.unflatten(2, (heads, -1)).softmax(-1).flatten(2)
        return torch.baddbmm(self.proj.bias.expand(len(query), 1, -1), weights, values.flatten(1, 2))
