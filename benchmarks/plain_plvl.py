"""PLVL written down plainly: the yardstick of the speed ratios.

The attentions are products, a bias that is added, a softmax and another product, each materialised, as the authors'
code has them; the language model runs transformers' eager attention; convolutions are contiguous. The modules and
weights are those of `plvl.PLVL`.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plvl.modeling.attention import Attention, SelfAttention
from plvl.modeling.backbone import LanguageGuidedViT, Mlp
from plvl.modeling.linear import TokenLinear
from plvl.modeling.plvl import PLVL


class PlainSelfAttention(SelfAttention):
    """Windows cut out, heads and batch in one dimension, relative positions added to the logits of every head."""

    def forward(self, x: Tensor) -> Tensor:
        B, H, W, C = x.shape
        size = self.window_size or max(H, W)
        height, width = (size, size) if self.window_size else (H, W)
        down, right = -H % height, -W % width
        x = F.pad(x, (0, 0, 0, right, 0, down))
        rows, columns = x.shape[1] // height, x.shape[2] // width
        x = x.view(B, rows, height, columns, width, C).transpose(2, 3).reshape(-1, height * width, C)
        qkv = self.qkv(x).reshape(len(x), height * width, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.reshape(3, len(x) * self.num_heads, height * width, -1).unbind(0)
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        logits = logits.view(-1, height, width, height, width)
        grid = q.view(-1, height, width, q.shape[-1])
        by_row = torch.einsum("bhwc,hkc->bhwk", grid, _positions(self.rel_pos_h, height))
        by_column = torch.einsum("bhwc,wkc->bhwk", grid, _positions(self.rel_pos_w, width))
        logits = logits + by_row[:, :, :, :, None] + by_column[:, :, :, None, :]
        x = logits.view(-1, height * width, height * width).softmax(-1) @ v
        x = (
            x.view(-1, self.num_heads, height * width, C // self.num_heads)
            .transpose(1, 2)
            .reshape(-1, height * width, C)
        )
        x = self.proj(x).view(B, rows, columns, height, width, C).transpose(2, 3)
        return x.reshape(B, rows * height, columns * width, C)[:, :H, :W]


class PlainAttention(Attention):
    """Softmax of scaled products, dropout on it, and the sum of values."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor | None = None) -> Tensor:
        q, k, v = self.split(self.q(query)), self.split(self.k(key)), self.split(self.v(value))
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        if key_mask is not None:
            logits = logits.masked_fill(~key_mask[:, None, None, :], float("-inf"))
        weights = F.dropout(logits.softmax(-1), self.dropout, self.training)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class PlainMlp(Mlp):
    """Every intermediate an array of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class PlainViT(LanguageGuidedViT):
    """The patch embedding's own memory order, channel by channel, in every block."""

    def embed(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images).permute(0, 2, 3, 1)
        return x + self.positions(x.shape[1], x.shape[2])


class PlainPLVL(PLVL):
    """Padding as a large negative number that eager attention adds to its logits."""

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = 1 - attention_mask[:, None, None, :].to(next(self.parameters()).dtype)
        mask = hidden * torch.finfo(hidden.dtype).min
        return self.language(input_ids=input_ids, attention_mask=mask).last_hidden_state


def plain(model: PLVL) -> PLVL:
    """A copy of the model, on the same weights, that computes plainly."""
    model = copy.deepcopy(model)
    model.__class__ = PlainPLVL
    model.backbone.__class__ = PlainViT
    language: Any = model.language
    language.set_attn_implementation("eager")
    for module in model.modules():
        if type(module) is SelfAttention:
            module.__class__ = PlainSelfAttention
        elif type(module) is Attention:
            module.__class__ = PlainAttention
        elif type(module) is Mlp:
            module.__class__ = PlainMlp
        elif type(module) is TokenLinear:
            module.__class__ = nn.Linear
    return model.to(memory_format=torch.contiguous_format)


def _positions(table: Tensor, size: int) -> Tensor:
    """(size, size, d): the table, resized to this side, for every query and key; as the authors, per forward."""
    if len(table) != 2 * size - 1:
        table = F.interpolate(table.T[None], size=2 * size - 1, mode="linear")[0].T
    tokens = torch.arange(size, device=table.device)
    return table[tokens[:, None] - tokens[None, :] + size - 1]
