"""The language-guided visual backbone (Section 3.2): ViTDet with cross-attention to the sentence in chosen blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from papers_shared.errors import UserError
from papers_shared.hub import PretrainedFolder
from papers_shared.initialisation import trunc_normal_
from plvl.config import ModelConfig
from plvl.modeling.attention import Attention, SelfAttention
from plvl.modeling.linear import TokenLinear


class LanguageGuide(nn.Module):
    """Cross-attention from image tokens to the sentence (eq. 4), behind a norm and an adapter of its own.

    The adapter (a bottleneck with ReLU and a residual) is in the authors' code, not in the paper. The queries
    are the residual stream itself, without a norm.
    """

    def __init__(self, dim: int, text_dim: int, num_heads: int, adapter_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(text_dim, eps=1e-6)
        self.adapter = Adapter(text_dim, adapter_dim)
        self.attn = Attention(dim, num_heads, context_dim=text_dim, dropout=dropout)
        nn.init.normal_(self.attn.proj.weight, std=0.02)

    def forward(self, x: Tensor, text: Tensor, text_mask: Tensor | None) -> Tensor:
        """(B, H, W, C), sentence (B, N, text_dim), bool (B, N) or None -> (B, H, W, C), before the residual sum."""
        text = self.adapter(self.norm(text))
        return self.attn(x.flatten(1, 2), text, text, text_mask).view_as(x)


class Adapter(nn.Module):
    """x + up(ReLU(down(x)))."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, hidden)
        self.up = nn.Linear(hidden, dim)
        for linear in (self.down, self.up):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(F.relu(self.down(x)))


class Mlp(nn.Module):
    """fc2(GELU(fc1(x)))."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = TokenLinear(dim, hidden)
        self.fc2 = TokenLinear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """A local block (eq. 1) or a global one (eq. 3): self-attention, cross-attention if there is a guide,
    feed-forward.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        *,
        table_grid: int,
        window_size: int,
        guide: LanguageGuide | None,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = SelfAttention(dim, num_heads, table_grid=table_grid, window_size=window_size)
        self.guide = guide
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = StochasticDepth(drop_path, "row") if drop_path > 0 else nn.Identity()
        for linear in (self.attn.qkv, self.attn.proj, self.mlp.fc1, self.mlp.fc2):
            trunc_normal_(linear.weight)
            nn.init.zeros_(linear.bias)
        trunc_normal_(self.attn.rel_pos_h)
        trunc_normal_(self.attn.rel_pos_w)

    def forward_before_text(self, x: Tensor) -> Tensor:
        """What needs no sentence: self-attention with its residual, (B, H, W, C) -> (B, H, W, C)."""
        return x + self.drop_path(self.attn(self.norm1(x)))

    def forward_with_text(self, x: Tensor, text: Tensor | None, text_mask: Tensor | None) -> Tensor:
        """The rest: cross-attention and feed-forward with their residuals, (B, H, W, C) -> (B, H, W, C)."""
        if self.guide is not None:
            x = x + self.drop_path(self.guide(x, text, text_mask))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def forward(self, x: Tensor, text: Tensor | None = None, text_mask: Tensor | None = None) -> Tensor:
        """(B, H, W, C) and, for a block with a guide, the sentence (B, N, text_dim) -> (B, H, W, C)."""
        return self.forward_with_text(self.forward_before_text(x), text, text_mask)


class LanguageGuidedViT(nn.Module, PretrainedFolder):
    """Patch embedding, absolute positions and the blocks; built by `from_config`.

    With no language blocks it is detectron2's ViTDet without its feature pyramid.

    Args:
        config: What was built.
        patch_embed: Images (B, in_chans, H, W) -> (B, C, H/P, W/P).
        blocks: The blocks in order.
        pos_grid: Side in tokens of the absolute position table, which holds one entry more, first, for a
            class token that is never used.
        grad_checkpointing: Recompute blocks in the backward pass.
    """

    config: ModelConfig

    def __init__(
        self,
        config: ModelConfig,
        patch_embed: nn.Conv2d,
        blocks: Sequence[Block],
        *,
        pos_grid: int,
        grad_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.grad_checkpointing = grad_checkpointing
        self.patch_embed = patch_embed
        self.pos_grid = pos_grid
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + pos_grid**2, patch_embed.out_channels))
        self.blocks = nn.ModuleList(blocks)
        trunc_normal_(self.pos_embed)

    @classmethod
    def from_config(cls, config: ModelConfig) -> LanguageGuidedViT:
        """The backbone of `config` on fresh weights.

        Raises:
            UserError: A block index outside `config.depth`.
        """
        for field in ("local_blocks", "language_blocks"):
            outside = [index for index in getattr(config, field) if not 0 <= index < config.depth]
            if outside:
                option = field.replace("_", "-")
                raise UserError(f"--model.{option} names block {outside[0]}: choose 0 to {config.depth - 1}")
        patch_embed = nn.Conv2d(
            config.in_chans, config.embed_dim, config.patch_size, stride=config.patch_size
        )
        blocks = []
        for index in range(config.depth):
            local = index in config.local_blocks
            guide = None
            if index in config.language_blocks:
                guide = LanguageGuide(
                    config.embed_dim,
                    config.text_dim,
                    config.cross_heads,
                    config.adapter_dim,
                    config.cross_dropout,
                )
            block = Block(
                config.embed_dim,
                config.num_heads,
                config.mlp_ratio,
                table_grid=config.window_size if local else config.rel_pos_grid,
                window_size=config.window_size if local else 0,
                guide=guide,
                drop_path=config.drop_path_rate * index / max(config.depth - 1, 1),
            )
            blocks.append(block)
        return cls(
            config,
            patch_embed,
            blocks,
            pos_grid=config.pos_grid,
            grad_checkpointing=config.grad_checkpointing,
        )

    @property
    def first_language_block(self) -> int:
        """Index of the first block with a guide; the depth when there is none."""
        guided = [index for index, block in enumerate(self.blocks) if block.guide is not None]
        return guided[0] if guided else len(self.blocks)

    def embed(self, images: Tensor) -> Tensor:
        """Patch embedding plus positions: (B, in_chans, H, W) -> (B, H/P, W/P, C).

        Raises:
            UserError: A side is no multiple of the patch.
        """
        patch_h, patch_w = self.patch_embed.kernel_size
        if images.shape[2] % patch_h or images.shape[3] % patch_w:
            raise UserError(
                f"images of {images.shape[2]} x {images.shape[3]} pixels do not divide into patches of "
                f"{patch_h} x {patch_w}: resize or pad them to multiples"
            )
        x = self.patch_embed(images).permute(0, 2, 3, 1).contiguous()
        return x + self.positions(x.shape[1], x.shape[2])

    def positions(self, height: int, width: int) -> Tensor:
        """The absolute position table without its class entry, resized bicubically to (1, height, width, C)."""
        side = self.pos_grid
        grid = self.pos_embed[:, 1:].unflatten(1, (side, side))
        if height == width == side:
            return grid
        grid = F.interpolate(
            grid.permute(0, 3, 1, 2), size=(height, width), mode="bicubic", align_corners=False
        )
        return grid.permute(0, 2, 3, 1)

    def forward_before_text(self, images: Tensor) -> Tensor:
        """All that needs no sentence: up to the self-attention of the first block with a guide.

        Images (B, in_chans, H, W) -> tokens (B, H/P, W/P, C) for `forward_with_text`.
        """
        x = self.embed(images)
        blocks: list[Any] = list(self.blocks)
        first = self.first_language_block
        for block in blocks[:first]:
            x = self._run(block, x)
        return self._run(blocks[first].forward_before_text, x) if first < len(blocks) else x

    def forward_with_text(self, x: Tensor, text: Tensor, text_mask: Tensor | None = None) -> Tensor:
        """The rest: tokens of `forward_before_text` and sentences (B, N, text_dim) -> (B, H/P, W/P, C).

        Args:
            x: (B, H/P, W/P, C).
            text: (B, N, text_dim).
            text_mask: (B, N) bool, True where a word piece may be seen; None: everywhere, as the authors do.
        """
        blocks: list[Any] = list(self.blocks)
        first = self.first_language_block
        if first < len(blocks):
            x = self._run(blocks[first].forward_with_text, x, text, text_mask)
        for block in blocks[first + 1 :]:
            x = self._run(block, x, text, text_mask)
        return x

    def forward(self, images: Tensor, text: Tensor, text_mask: Tensor | None = None) -> Tensor:
        """Images (B, in_chans, H, W), sentences (B, N, text_dim), bool (B, N) -> (B, H/P, W/P, C)."""
        x = self.embed(images)
        for block in self.blocks:
            x = self._run(block, x, text, text_mask)
        return x

    def _run(self, step: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(step, *inputs, use_reentrant=False)
        return step(*inputs)
