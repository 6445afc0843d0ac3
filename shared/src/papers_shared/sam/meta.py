"""SAM by Meta's own package, with the checkpoints as Meta released them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from papers_shared.cache import TensorCache
from papers_shared.errors import UserError
from papers_shared.foreign import load_official
from papers_shared.sam.network import Embedding, SamNetwork
from papers_shared.sam.shape import DECODER_EPS, ENCODER_EPS, SamShape
from papers_shared.types import Precision

INSTALL = "pip install segment-anything"


class SegmentAnything(SamNetwork):
    """A `segment_anything` network (ViT-B, L or H).

    Args:
        checkpoint: `sam_vit_b_01ec64.pth` and its like; what is not a tensor in it is refused, not run.
        decoder_heads: Heads of the mask decoder; 8 in all that Meta released.

    Raises:
        UserError: The package is not installed, or the file is missing or no SAM checkpoint.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        *,
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
        cache: TensorCache | None = None,
        decoder_heads: int = 8,
    ) -> None:
        state = load_official(checkpoint)
        shape = SamShape.of(state, checkpoint, decoder_heads)
        network = build(shape)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(
                f"{checkpoint} does not fit SAM {shape.name}: {str(error).splitlines()[1].strip()}"
            ) from error
        network.to(device).eval()
        super().__init__(
            network, shape.image_size, f"segment-anything {shape.name}", precision=precision, cache=cache
        )

    def _embed(self, pixels: Tensor) -> Embedding:
        sam: Any = self.network
        return (sam.image_encoder(pixels),)

    def _decode(
        self,
        embedding: Embedding,
        boxes: Tensor | None,
        points: Tensor | None,
        labels: Tensor | None,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        sam: Any = self.network
        pairs = (points, labels) if points is not None else None
        sparse, dense = sam.prompt_encoder(points=pairs, boxes=boxes, masks=None)
        masks, scores = sam.mask_decoder(
            image_embeddings=embedding[0],
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )
        return masks, scores


def build(shape: SamShape) -> nn.Module:
    """A `segment_anything` network of these sizes, with random weights.

    Raises:
        UserError: The package is not installed.
    """
    try:
        from segment_anything.modeling import (
            ImageEncoderViT,
            MaskDecoder,
            PromptEncoder,
            Sam,
            TwoWayTransformer,
        )
    except ImportError as error:
        raise UserError(f"Meta's SAM needs a package that is not installed ({error}): {INSTALL}") from error
    width, grid = shape.out_chans, shape.image_size // shape.patch_size
    encoder = ImageEncoderViT(
        img_size=shape.image_size,
        patch_size=shape.patch_size,
        embed_dim=shape.embed_dim,
        depth=shape.depth,
        num_heads=shape.num_heads,
        mlp_ratio=shape.mlp_dim / shape.embed_dim,
        out_chans=width,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=ENCODER_EPS),
        use_rel_pos=True,
        window_size=shape.window_size,
        global_attn_indexes=shape.global_blocks,
    )
    prompts = PromptEncoder(
        embed_dim=width,
        image_embedding_size=(grid, grid),
        input_image_size=(shape.image_size, shape.image_size),
        mask_in_chans=shape.mask_chans,
    )
    transformer = TwoWayTransformer(
        depth=shape.decoder_depth,
        embedding_dim=width,
        mlp_dim=shape.decoder_mlp_dim,
        num_heads=shape.decoder_heads,
        attention_downsample_rate=shape.downsample_rate,
    )
    for module in transformer.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = DECODER_EPS
    decoder = MaskDecoder(
        transformer_dim=width,
        transformer=transformer,
        num_multimask_outputs=shape.num_multimasks,
        iou_head_depth=shape.iou_depth,
        iou_head_hidden_dim=shape.iou_dim,
    )
    return Sam(encoder, prompts, decoder)
