"""The smallest networks of the tests, and inputs for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from plvl.config import ModelConfig
from plvl.modeling.plvl import PLVL
from plvl.modeling.start_weights import build

TINY = ModelConfig(
    image_size=32,
    patch_size=4,
    embed_dim=32,
    depth=4,
    num_heads=2,
    local_blocks=(0, 2),
    language_blocks=(1, 3),
    window_size=4,
    pos_grid=4,
    rel_pos_grid=6,
    cross_heads=2,
    adapter_dim=8,
    vocab_size=50,
    text_dim=16,
    text_depth=2,
    text_heads=2,
    text_mlp_dim=32,
    text_positions=20,
    max_tokens=12,
    decoder_dim=24,
    decoder_depth=2,
    decoder_heads=2,
    decoder_mlp_dim=32,
    head_dim=8,
)
EEVG = replace(TINY, language_blocks=(), decoder="eevg", head="eevg", decoder_dim=32)


def tiny(config: ModelConfig = TINY, **changes: Any) -> PLVL:
    torch.manual_seed(0)
    return build(replace(config, **changes)).eval()


def inputs(batch: int = 2, size: tuple[int, int] = (32, 32)) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(batch, 3, *size, generator=generator)
    ids = torch.randint(4, 50, (batch, 7), generator=generator)
    attention_mask = torch.ones(batch, 7, dtype=torch.long)
    attention_mask[-1, 4:] = 0
    pixel_mask = torch.ones(batch, *size)
    pixel_mask[-1, :, size[1] * 3 // 4 :] = 0
    return images, ids, attention_mask, pixel_mask
