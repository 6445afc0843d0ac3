"""The last global blocks (paper: blocks 13 to 15) behind a projection: post-norm layers that read the sentence."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from plvl.modeling.attention import Attention
from plvl.modeling.linear import TokenLinear


class Decoded(NamedTuple):
    """What the head reads."""

    tokens: Tensor
    """(B, H, W, dim)."""
    box_token: Tensor | None
    """(B, dim); EEVG only."""


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention to the sentence and a ReLU feed-forward, each with residual, then LayerNorm."""

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(dim, num_heads, dropout=dropout)
        self.cross_attn = Attention(dim, num_heads, dropout=dropout)
        self.fc1 = TokenLinear(dim, mlp_dim)
        self.fc2 = TokenLinear(mlp_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.self_attn.proj, self.cross_attn.proj, self.fc1, self.fc2):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        x: Tensor,
        text: Tensor,
        mask: Tensor | None = None,
        text_mask: Tensor | None = None,
        positions: Tensor | None = None,
        text_positions: Tensor | None = None,
    ) -> Tensor:
        """Tokens (B, L, D) and sentences (B, N, D) -> (B, L, D).

        Args:
            mask: (B, L) bool, True where a token may be seen.
            text_mask: (B, N) bool likewise.
            positions: Added to the tokens where they are queries and keys (EEVG only).
            text_positions: Added to the sentence where it is keys (EEVG only).
        """
        positioned = x if positions is None else x + positions
        x = self.norm1(x + self.dropout(self.self_attn(positioned, positioned, x, mask)))
        positioned = x if positions is None else x + positions
        keys = text if text_positions is None else text + text_positions
        x = self.norm2(x + self.dropout(self.cross_attn(positioned, keys, text, text_mask)))
        hidden = self.dropout(F.relu(self.fc1(x)))
        return self.norm3(x + self.dropout(self.fc2(hidden)))


class Decoder(nn.Module):
    """Projections of both modalities to one width, the layers, and a norm.

    Args:
        vision_dim: Width of the backbone.
        text_dim: Width of the language model.
        dim: Width of the layers.
        depth: Number of layers.
        num_heads: Heads of both attentions.
        mlp_dim: Inner width of the feed-forward.
        dropout: On attention weights, after each part and inside the feed-forward.
        grad_checkpointing: Recompute layers in the backward pass.
    """

    def __init__(
        self,
        vision_dim: int,
        text_dim: int,
        dim: int,
        depth: int,
        num_heads: int,
        mlp_dim: int,
        *,
        dropout: float = 0.1,
        grad_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.grad_checkpointing = grad_checkpointing
        self.vision_proj = TokenLinear(vision_dim, dim)
        self.text_proj = nn.Linear(text_dim, dim)
        self.layers = nn.ModuleList(DecoderLayer(dim, num_heads, mlp_dim, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor | None, text_mask: Tensor | None) -> Decoded:
        """Image tokens and sentences to image tokens that the head reads.

        Args:
            x: (B, H, W, vision_dim).
            text: (B, N, text_dim).
            mask: (B, H, W) bool, True where a token may be seen by self-attention; None: everywhere.
            text_mask: (B, N) bool, True where a word piece may be seen; None: everywhere.

        Returns:
            Tokens (B, H, W, dim).
        """
        H, W = x.shape[1:3]
        x, text = self.vision_proj(x.flatten(1, 2)), self.text_proj(text)
        if mask is not None:
            mask = mask.flatten(1)
        for layer in self.layers:
            if self.grad_checkpointing and torch.is_grad_enabled():
                x = checkpoint(layer, x, text, mask, text_mask, use_reentrant=False)
            else:
                x = layer(x, text, mask, text_mask)
        return Decoded(self.norm(x).unflatten(1, (H, W)), None)
