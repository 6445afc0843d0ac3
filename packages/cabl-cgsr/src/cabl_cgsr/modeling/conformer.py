"""The backbone: Conformer (Peng et al., ICCV 2021, "Conformer: Local Features Coupling Global
Representations for Visual Recognition") with CABL gates."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cabl_cgsr.config import NUM_BLOCKS, CablConfig, ConformerSizes
from cabl_cgsr.modeling.blocks import ConvBlock, ConvTransBlock, TransformerBlock
from cabl_cgsr.modeling.cabl import Cabl
from papers_shared.initialisation import trunc_normal_

PATCH_SIZE = 16


class ConformerFeatures(NamedTuple):
    """What both branches end with; h = ceil(H / 16), w = ceil(W / 16)."""

    conv: Tensor
    """(B, 4 * conv_chans, h, w); with `last_stride=2` half of that, rounded up."""
    tokens: Tensor
    """(B, 1 + h*w, embed_dim), normalised; the class token in front."""


class ConformerFeaturesWithAttention(NamedTuple):
    """The same, and what class activation maps need beside it."""

    conv: Tensor
    tokens: Tensor
    attention: Tensor
    """(B, 1 + h*w, 1 + h*w): softmax(Q K^T / sqrt(d)), mean over the heads, sum over the 12 blocks."""


class Conformer(nn.Module):
    """A convolution and a transformer branch of 12 blocks, coupled in 2 to 12, without position embedding.

    Args:
        sizes: Widths.
        cabl: The edge gates; `operator="none"`: the released network.
        drop_path_rate: Stochastic depth of the last transformer block; rises linearly from 0.
        last_stride: Of the end of block 12. 2 in the ImageNet classifier; 1 keeps the map on the grid of the
            tokens, as class activation maps need it. The weights are the same.
        grad_checkpointing: Compute the edge maps again in the backward pass.
    """

    def __init__(
        self,
        sizes: ConformerSizes,
        cabl: CablConfig,
        *,
        drop_path_rate: float = 0.0,
        last_stride: int = 1,
        grad_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        gates = [
            Cabl(cabl, grad_checkpointing=grad_checkpointing)
            if cabl.operator != "none" and number <= cabl.blocks
            else None
            for number in range(1, NUM_BLOCKS + 1)
        ]
        first = gates[0] if cabl.placement == "first" else None
        last = gates[0] if cabl.placement == "last" else None
        dim, heads, ratio = sizes.embed_dim, sizes.num_heads, sizes.mlp_ratio
        self.num_features = 4 * sizes.conv_chans
        self.embed_dim = dim

        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.conv1 = nn.Conv2d(3, sizes.stem_chans, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(sizes.stem_chans)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv_1 = ConvBlock(
            sizes.stem_chans, sizes.conv_chans, project=True, before_first=first, before_last=last
        )
        self.cabl_1 = gates[0] if cabl.placement == "output" else None
        self.trans_patch_conv = nn.Conv2d(sizes.stem_chans, dim, PATCH_SIZE // 4, stride=PATCH_SIZE // 4)
        self.trans_1 = TransformerBlock(dim, heads, ratio)
        in_chans = sizes.conv_chans
        for number in range(2, NUM_BLOCKS + 1):
            stage = (number - 1) // 4
            out_chans = sizes.conv_chans * 2**stage
            block = ConvTransBlock(
                in_chans,
                out_chans,
                dim,
                heads,
                ratio,
                coupling_stride=4 // 2**stage,
                stride=1 if in_chans == out_chans else 2,
                last_stride=last_stride if number == NUM_BLOCKS else 1,
                project_last=number == NUM_BLOCKS,
                drop_path=drop_path_rate * (number - 1) / (NUM_BLOCKS - 1),
                cabl=gates[number - 1],
            )
            self.add_module(f"conv_trans_{number}", block)
            in_chans = out_chans
        self.trans_norm = nn.LayerNorm(dim)
        self.apply(init_weights)
        trunc_normal_(self.cls_token)

    def forward(
        self, images: Tensor, attention: bool = False
    ) -> ConformerFeatures | ConformerFeaturesWithAttention:
        """Images (B, 3, H, W), normalised -> the features of both branches.

        Sides that are no multiples of 16 are resized (bilinear) to the next one, so that the maps always cover exactly
        the image.

        Args:
            attention: Also give the attention; only class activation maps need it.
        """
        images = resize_to_patches(images)
        if not self.training:  # in training the caller chooses the layout
            images = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # channels-last
        grid = patch_grid(images)
        stem = self.maxpool(F.relu(self.bn1(self.conv1(images))))
        x, _ = self.conv_1(stem)
        x = x if self.cabl_1 is None else self.cabl_1(x)
        patches = self.trans_patch_conv(stem).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.to(patches.dtype).expand(len(patches), -1, -1), patches], dim=1)
        tokens, total = self.trans_1(tokens, attention)
        for number in range(2, NUM_BLOCKS + 1):
            x, tokens, added = self.get_submodule(f"conv_trans_{number}")(x, tokens, grid, attention)
            total = total + added if attention else None
        tokens = self.trans_norm(tokens)
        return ConformerFeaturesWithAttention(x, tokens, total) if attention else ConformerFeatures(x, tokens)

    def fsdp_units(self) -> list[nn.Module]:
        """The blocks, each of which is called once in a forward pass."""
        blocks = [self.get_submodule(f"conv_trans_{number}") for number in range(2, NUM_BLOCKS + 1)]
        return [self.conv_1, self.trans_1, *blocks]


def patch_grid(images: Tensor) -> tuple[int, int]:
    """(h, w) of the tokens of images (B, 3, H, W): both sides in patches, rounded up."""
    return -(-images.shape[-2] // PATCH_SIZE), -(-images.shape[-1] // PATCH_SIZE)


def resize_to_patches(images: Tensor) -> Tensor:
    """(B, C, H, W), both sides rounded up to multiples of 16, bilinear; as it is where it fits already."""
    size = [side * PATCH_SIZE for side in patch_grid(images)]
    if list(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False)


def init_weights(module: nn.Module) -> None:
    """Linear layers: normal of deviation 0.02, cut at 2; convolutions: He's normal by fan-out; biases 0."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
