"""EEVG's decoder and head (Chen et al., "An Efficient and Effective Transformer Decoder-Based Framework for
Multi-Task Visual Grounding"), the baseline of Table 7.

Neither repository has the rows between EEVG and PLVL, and the elimination is only known in outline. Chosen
here:

- EEVG w. PLVL: the language-guided backbone under EEVG's decoder and head.
- EEVG w. CMTH: the box token stays, since the elimination hangs on it, but the box comes from the dense head;
  positions that were eliminated reach that head as zeros; its two halves and their
  shared convolutions are 384 wide, half of EEVG's 768.
- The loss of the box is L1 + GIoU as in `plvl.losses`; EEVG's own L1 is on centre and size, summed over the four.
- A layer is scored by its self-attention on the way in, and tokens leave behind it, so that the last layer's
  leave the mask too. All images of a batch lose as many as the one that loses fewest, the lowest scores
  first. The random tenth that stays does so in training only: evaluation is deterministic, though not
  independent of the batch.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from papers_shared.errors import UserError
from plvl.modeling.attention import Attention
from plvl.modeling.decoder import Decoded, DecoderLayer
from plvl.modeling.head import HeadOutput, at_least_float32


class EEVGDecoder(nn.Module):
    """Layers over a learned box token and the image tokens, which thin out from layer to layer.

    Args:
        vision_dim: Width of the backbone.
        text_dim: Width of the language model.
        dim: Width of the layers.
        depth: Number of layers.
        num_heads: Heads of both attentions.
        mlp_dim: Inner width of the feed-forward.
        grid: Side in tokens of the images, which the learned positions fix.
        max_tokens: Longest sentence in word pieces, likewise.
        threshold: Tokens with a lower score (0 to 1 within an image) leave; 0: none.
        keep: Share of the leaving tokens that stay in training, drawn at random.
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
        grid: int,
        max_tokens: int,
        threshold: float,
        keep: float,
        dropout: float = 0.1,
        grad_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.threshold = threshold
        self.keep = keep
        self.grad_checkpointing = grad_checkpointing
        self.vision_proj = nn.Linear(vision_dim, dim)
        self.text_proj = nn.Linear(text_dim, dim)
        self.box_token = nn.Parameter(torch.randn(1, dim))
        self.positions = nn.Parameter(torch.randn(1 + grid**2, dim))
        self.text_positions = nn.Parameter(torch.randn(max_tokens, dim))
        self.layers = nn.ModuleList(DecoderLayer(dim, num_heads, mlp_dim, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor | None, text_mask: Tensor | None) -> Decoded:
        """Image tokens (B, H, W, vision_dim) and sentences (B, N, text_dim) -> tokens and box token.

        Args:
            mask: (B, H, W) bool, True where a token may be seen by self-attention; None: everywhere.
            text_mask: (B, N) bool likewise.

        Returns:
            Tokens (B, H, W, dim), zero where eliminated, and the box token (B, dim).

        Raises:
            UserError: Images of another grid or sentences longer than the learned positions.
        """
        B, H, W = x.shape[:3]
        if (self.grid, self.grid) != (H, W) or text.shape[1] > len(self.text_positions):
            raise UserError(
                f"EEVG's learned positions are for {self.grid} x {self.grid} tokens and "
                f"{len(self.text_positions)} word pieces, not {H} x {W} and {text.shape[1]}: set "
                "--model.image-size and --model.max-tokens"
            )
        text = self.text_proj(text)
        text_positions = self.text_positions[: text.shape[1]]
        x = torch.cat([self.box_token.expand(B, 1, -1), self.vision_proj(x.flatten(1, 2))], dim=1)
        present = torch.arange(H * W, device=x.device).expand(B, -1)
        seen = torch.ones(B, H * W, dtype=torch.bool, device=x.device) if mask is None else mask.flatten(1)
        layers: list[Any] = list(self.layers)
        for layer in layers:
            visible = F.pad(seen.gather(1, present), (1, 0), value=True)
            positions = self.positions[F.pad(present + 1, (1, 0))]
            inputs = (x, text, visible, text_mask, positions, text_positions)
            if self.grad_checkpointing and torch.is_grad_enabled():
                out = checkpoint(layer, *inputs, use_reentrant=False)
            else:
                out = layer(*inputs)
            if self.threshold > 0:
                scores = self.scores(layer.self_attn, x + positions, visible[:, 1:], present)
                staying = self.staying(scores)
                present = present.gather(1, staying)
                out = torch.cat([out[:, :1], _pick(out[:, 1:], staying)], dim=1)
            x = out
        x = self.norm(x)
        tokens = x.new_zeros(B, H * W, x.shape[-1])
        tokens = tokens.scatter(1, present[..., None].expand(-1, -1, x.shape[-1]), x[:, 1:])
        return Decoded(tokens.unflatten(1, (H, W)), x[:, 0])

    @torch.no_grad()
    def scores(self, attn: Attention, positioned: Tensor, visible: Tensor, present: Tensor) -> Tensor:
        """How much the box token looks at each remaining position, from 0 to 1 within an image: (B, L).

        Logits averaged over heads, softmax, 3x3 mean on the grid (missing positions count 0), minimum to 0,
        maximum to 1.
        """
        q, k = attn.split(attn.q(positioned[:, :1])), attn.split(attn.k(positioned[:, 1:]))
        logits = (q @ k.transpose(2, 3)).mean(dim=1)[:, 0] * q.shape[-1] ** -0.5
        weights = logits.float().masked_fill(~visible, -torch.inf).softmax(dim=1)
        grid = weights.new_zeros(len(weights), self.grid**2).scatter(1, present, weights)
        smooth = F.avg_pool2d(grid.view(-1, 1, self.grid, self.grid), 3, stride=1, padding=1)
        scores = smooth.flatten(1).gather(1, present)
        low, high = scores.aminmax(dim=1, keepdim=True)
        return (scores - low) / (high - low).clamp(min=torch.finfo(scores.dtype).tiny)

    def staying(self, scores: Tensor) -> Tensor:
        """Scores (B, L) -> indices (B, M) of the tokens that stay, in order."""
        order = scores.argsort(dim=1, stable=True)
        leaving = int((scores < self.threshold).sum(dim=1).min())
        lowest, rest = order[:, :leaving], order[:, leaving:]
        if self.training:
            drawn = torch.rand(lowest.shape, device=scores.device).argsort(dim=1)
            kept = lowest.gather(1, drawn[:, : int(leaving * self.keep)])
            rest = torch.cat([rest, kept], dim=1)
        return rest.sort(dim=1).values


class EEVGHead(nn.Module):
    """The box from the box token by a three-layer MLP, the mask from each token by a two-layer one and a 5x5
    convolution.

    Args:
        dim: Width of the tokens.
        patch_size: Side in pixels of the square that a token becomes in the mask.
        rec: Build the box's MLP.
        res: Build the mask's.
    """

    def __init__(self, dim: int, patch_size: int, *, rec: bool = True, res: bool = True) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.box = MLP(dim, dim, dim, 4) if rec else None
        self.mask = MLP(dim, dim, patch_size**2) if res else None
        self.mask_out = nn.Conv2d(1, 1, 5, padding=2) if res else None

    def forward(self, tokens: Tensor, box_token: Tensor) -> HeadOutput:
        """Tokens (B, H/P, W/P, dim) and box token (B, dim) -> boxes (B, 4) cxcywh in [0, 1], logits (B, 1, H, W)."""
        boxes = None if self.box is None else at_least_float32(self.box(box_token)).sigmoid()
        if self.mask is None or self.mask_out is None:
            return HeadOutput(boxes, None, None, None, None)
        pixels = F.pixel_shuffle(self.mask(tokens).permute(0, 3, 1, 2), self.patch_size)
        return HeadOutput(boxes, None, None, None, at_least_float32(self.mask_out(pixels)))


class MLP(nn.Module):
    """Linear layers of the given widths with ReLU between them."""

    def __init__(self, *dims: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


def _pick(x: Tensor, index: Tensor) -> Tensor:
    """Rows `index` (B, M) of x (B, L, D)."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))
