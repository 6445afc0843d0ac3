"""Sizes of a SAM network, read from the shapes in a checkpoint of Meta's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from papers_shared.errors import UserError

ENCODER_EPS, DECODER_EPS = 1e-6, 1e-5
"""Of the LayerNorms of the image encoder, and of those of the mask decoder's transformer."""
SIZES = {768: "vit-b", 1024: "vit-l", 1280: "vit-h"}


@dataclass(frozen=True)
class SamShape:
    """Everything that `segment_anything` and transformers need to know to build the network."""

    image_size: int
    """Side of the square input in pixels."""
    patch_size: int
    embed_dim: int
    """Width of the image encoder."""
    depth: int
    num_heads: int
    mlp_dim: int
    window_size: int
    """Side of the attention windows in patches."""
    global_blocks: tuple[int, ...]
    """Blocks whose attention sees the whole image."""
    out_chans: int
    """Channels of the embedding, and width of prompt encoder and mask decoder."""
    mask_chans: int
    decoder_depth: int
    decoder_heads: int
    decoder_mlp_dim: int
    downsample_rate: int
    num_multimasks: int
    iou_depth: int
    iou_dim: int

    @property
    def name(self) -> str:
        """vit-b, vit-l, vit-h, or the width of another encoder."""
        return SIZES.get(self.embed_dim, f"vit-{self.embed_dim}")

    @staticmethod
    def of(state: dict[str, Tensor], path: Path | str, decoder_heads: int = 8) -> SamShape:
        """Read the shapes.

        Args:
            state: Entry names as Meta released them.
            path: The file, for messages.
            decoder_heads: Heads of the mask decoder, which no shape tells; 8 in all that Meta released.

        Raises:
            UserError: Entries are missing: it is no SAM checkpoint.
        """
        try:
            return _read(state, decoder_heads)
        except (KeyError, IndexError, ValueError) as error:
            raise UserError(
                f"{path} is not a SAM checkpoint as Meta released it (ViT-B, L or H): {error} is missing"
            ) from error


def _read(state: dict[str, Tensor], decoder_heads: int) -> SamShape:
    patch = state["image_encoder.patch_embed.proj.weight"].shape
    grid = state["image_encoder.pos_embed"].shape[1]
    depth = _count(state, r"image_encoder\.blocks\.(\d+)\.")
    reaches = [
        (state[f"image_encoder.blocks.{block}.attn.rel_pos_h"].shape[0] + 1) // 2 for block in range(depth)
    ]
    windows = [reach for reach in reaches if reach < grid]
    head_dim = state["image_encoder.blocks.0.attn.rel_pos_h"].shape[1]
    out_chans = state["image_encoder.neck.0.weight"].shape[0]
    attention = state["mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight"].shape
    iou_depth = _count(state, r"mask_decoder\.iou_prediction_head\.layers\.(\d+)\.")
    return SamShape(
        image_size=grid * patch[2],
        patch_size=patch[2],
        embed_dim=patch[0],
        depth=depth,
        num_heads=patch[0] // head_dim,
        mlp_dim=state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0],
        window_size=windows[0] if windows else 0,
        global_blocks=tuple(block for block, reach in enumerate(reaches) if reach == grid),
        out_chans=out_chans,
        mask_chans=state["prompt_encoder.mask_downscaling.3.weight"].shape[0],
        decoder_depth=_count(state, r"mask_decoder\.transformer\.layers\.(\d+)\."),
        decoder_heads=decoder_heads,
        decoder_mlp_dim=state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
        downsample_rate=attention[1] // attention[0],
        num_multimasks=state["mask_decoder.mask_tokens.weight"].shape[0] - 1,
        iou_depth=iou_depth,
        iou_dim=state["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
    )


def _count(state: dict[str, Tensor], pattern: str) -> int:
    numbers = [int(match[1]) for name in state if (match := re.match(pattern, name))]
    if not numbers:
        raise KeyError(pattern.replace("\\", ""))
    return max(numbers) + 1
