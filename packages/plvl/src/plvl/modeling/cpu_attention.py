"""Attention on the CPU: as many heads at a time as its cache holds, and no matrix of weights kept for training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from plvl.modeling.positions import position_bias

AT_ONCE = 2**19
"""Weights that are computed at once: 2 MB in float32."""


def cpu_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    key_mask: Tensor | None = None,
    rows: Tensor | None = None,
    columns: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """`scaled_dot_product_attention` whose backward pass computes the weights again.

    Args:
        q: (B, heads, L, d).
        k: (B, heads, M, d).
        v: (B, heads, M, dv).
        key_mask: (B, M) bool, True where a key may be seen; None: everywhere.
        rows, columns: (height, height, d) and (width, width, d), of a query's row or column and then a key's:
            with them, L = M = height * width and the unscaled queries against both are added to the logits
            (MViTv2, eq. 4).
        dropout: Rate of weights that are left out.

    Returns:
        (B, heads, L, dv).
    """
    out: Tensor = _CpuAttention.apply(q, k, v, key_mask, rows, columns, dropout)
    return out


class _CpuAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        key_mask: Tensor | None,
        rows: Tensor | None,
        columns: Tensor | None,
        dropout: float,
    ) -> Tensor:
        B, heads, L, M = *q.shape[:3], k.shape[2]
        kept = None
        if dropout > 0:
            kept = q.new_empty((B, heads, L, M), dtype=torch.bool).bernoulli_(1 - dropout)
        out = q.new_empty(B, L, heads, v.shape[3]).transpose(1, 2)
        for part in _parts(q, k):
            query, key, value = (x[part].flatten(0, 1) for x in (q, k, v))
            weights = _weights(query, key, None if key_mask is None else key_mask[part[0]], rows, columns)
            if kept is not None:
                weights *= kept[part].flatten(0, 1)
            out[part] = (weights @ value).view_as(out[part])
        ctx.save_for_backward(q, k, v, key_mask, rows, columns, kept)
        ctx.factor = 1 / (1 - dropout)
        return out.mul_(ctx.factor) if dropout > 0 else out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, key_mask, rows, columns, kept = ctx.saved_tensors
        scale = q.shape[-1] ** -0.5
        if kept is not None:
            grad = grad * ctx.factor
        to_q, to_k, to_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        to_rows = None if rows is None else torch.zeros_like(rows)
        to_columns = None if columns is None else torch.zeros_like(columns)
        for part in _parts(q, k):
            query, key, value, change = (x[part].flatten(0, 1) for x in (q, k, v, grad))
            weights = seen = _weights(
                query, key, None if key_mask is None else key_mask[part[0]], rows, columns
            )
            to_seen = change @ value.transpose(1, 2)
            if kept is not None:
                passed = kept[part].flatten(0, 1)
                seen, to_seen = weights * passed, to_seen.mul_(passed)
            to_v[part] = (seen.transpose(1, 2) @ change).view_as(to_v[part])
            to_logits = torch.ops.aten._softmax_backward_data(to_seen, weights, -1, weights.dtype)
            to_query = torch.bmm(to_logits, key).mul_(scale)
            if to_rows is not None and to_columns is not None:
                grid = query.unflatten(1, (len(rows), len(columns)))
                by_key = to_logits.unflatten(2, (len(rows), len(columns))).unflatten(1, grid.shape[1:3])
                by_row, by_column = by_key.sum(4), by_key.sum(3)
                to_rows += torch.einsum("nywk,nywd->ykd", by_row, grid)
                to_columns += torch.einsum("nywk,nywd->wkd", by_column, grid)
                to_query += torch.einsum("nywk,ykd->nywd", by_row, rows).flatten(1, 2)
                to_query += torch.einsum("nywk,wkd->nywd", by_column, columns).flatten(1, 2)
            to_q[part] = to_query.view_as(to_q[part])
            to_k[part] = (to_logits.transpose(1, 2) @ query).mul_(scale).view_as(to_k[part])
        return to_q, to_k, to_v, None, to_rows, to_columns, None


def _parts(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice]]:
    """Pictures and heads that are computed together."""
    pictures, heads = q.shape[:2]
    count = max(1, AT_ONCE // (q.shape[2] * k.shape[2]))
    some_heads, some_pictures = min(heads, count), max(1, count // heads)
    for first in range(0, pictures, some_pictures):
        for head in range(0, heads, some_heads):
            yield slice(first, first + some_pictures), slice(head, head + some_heads)


def _weights(
    query: Tensor, key: Tensor, key_mask: Tensor | None, rows: Tensor | None, columns: Tensor | None
) -> Tensor:
    """What the queries give to the keys, before dropout.

    Args:
        query: (pictures x heads, L, d).
        key: (pictures x heads, M, d).
        key_mask: (pictures, M).
        rows, columns: As `cpu_attention` takes them.

    Returns:
        (pictures x heads, L, M).
    """
    scale = query.shape[-1] ** -0.5
    if rows is None or columns is None:
        logits = torch.bmm(query, key.transpose(1, 2)).mul_(scale)
    else:
        logits = position_bias(query, rows, columns)
        torch.baddbmm(logits, query, key.transpose(1, 2), alpha=scale, out=logits)
    if key_mask is not None:
        of_each_head = key_mask.repeat_interleave(len(query) // len(key_mask), 0)
        logits.masked_fill_(~of_each_head[:, None], float("-inf"))
    return torch.softmax(logits, -1, out=logits)
