"""The parts of Conformer: convolution block, transformer block, and the couplings between both branches.

Maps are (B, C, H, W), tokens (B, 1 + h*w, D) with the class token in front and the grid h x w row by row. The
names of the parts are those of the public ImageNet checkpoint.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from cabl_cgsr.modeling.cabl import Cabl

EPS = 1e-6


class ConvBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolution around a shortcut, each with batch norm; the 3x3 carries the stride.

    Args:
        in_chans: Channels of the input.
        out_chans: Channels of the output; the width between is a quarter of it.
        stride: Of the 3x3 convolution, and of the shortcut.
        project: A 1x1 convolution on the shortcut.
        before_first: Applied to what the first convolution reads, not to the shortcut.
        before_last: Applied to what the last convolution reads.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        *,
        stride: int = 1,
        project: bool = False,
        before_first: nn.Module | None = None,
        before_last: nn.Module | None = None,
    ) -> None:
        super().__init__()
        mid_chans = out_chans // 4
        self.conv1 = nn.Conv2d(in_chans, mid_chans, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(mid_chans, eps=EPS)
        self.conv2 = nn.Conv2d(mid_chans, mid_chans, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(mid_chans, eps=EPS)
        self.conv3 = nn.Conv2d(mid_chans, out_chans, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_chans, eps=EPS)
        self.residual_conv = nn.Conv2d(in_chans, out_chans, 1, stride=stride, bias=False) if project else None
        self.residual_bn = nn.BatchNorm2d(out_chans, eps=EPS) if project else None
        self.before_first = before_first
        self.before_last = before_last

    def forward(self, x: Tensor, coupled: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps (B, in_chans, H, W) -> the output (B, out_chans, H / stride, W / stride) and the map between.

        Args:
            coupled: (B, out_chans / 4, H, W), added to what the 3x3 convolution reads.

        Returns:
            The output, and the activated output of the 3x3 convolution, which is handed to the tokens.
        """
        shortcut = x
        if self.before_first is not None:
            x = self.before_first(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = x if coupled is None else x + coupled
        between = F.relu(self.bn2(self.conv2(x)))
        x = between if self.before_last is None else self.before_last(between)
        x = self.bn3(self.conv3(x))
        if self.residual_conv is not None and self.residual_bn is not None:
            shortcut = self.residual_bn(self.residual_conv(shortcut))
        return F.relu(x + shortcut, inplace=True), between


class MapToTokens(nn.Module):
    """Down-coupling: a map, averaged over the cells of the token grid, as an update of all tokens."""

    def __init__(self, in_chans: int, embed_dim: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv_project = nn.Conv2d(in_chans, embed_dim, 1)
        self.ln = nn.LayerNorm(embed_dim, eps=EPS)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """(B, in_chans, h * stride, w * stride) and the tokens -> what is added to them, of their shape.

        The class token is its own update: adding doubles it, as in the released network. Pooling comes before
        the 1x1 convolution: the result is the same, the work a stride^2-th.
        """
        x = self.conv_project(F.avg_pool2d(x, self.stride))
        patches = F.gelu(self.ln(x.flatten(2).transpose(1, 2)))
        return torch.cat([tokens[:, :1], patches], dim=1)


class TokensToMap(nn.Module):
    """Up-coupling: the patch tokens as a map, repeated over the pixels of their cell."""

    def __init__(self, embed_dim: int, out_chans: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv_project = nn.Conv2d(embed_dim, out_chans, 1)
        self.bn = nn.BatchNorm2d(out_chans, eps=EPS)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens of the grid (h, w) -> (B, out_chans, h * stride, w * stride)."""
        x = tokens[:, 1:].transpose(1, 2).unflatten(2, grid)
        x = F.relu(self.bn(self.conv_project(x)))
        return x if self.stride == 1 else F.interpolate(x, scale_factor=self.stride, mode="nearest")


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, N, dim) -> tokens (B, N, dim) and, on request, the attention.

        Args:
            weights: Also return the attention, averaged over the heads: (B, N, N), rows sum to 1. Without it
                the fused kernel runs, which holds no N x N map.
        """
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if weights:
            x, attention = (attend if q.is_cuda else attend_by_head)(q, k, v)
        else:
            x, attention = F.scaled_dot_product_attention(q, k, v), None
        return self.proj(x.transpose(1, 2).flatten(2)), attention


def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Attention that also returns its weights: (B, heads, N, d) each -> (B, heads, N, d), and the mean over the
    heads (B, N, N).
    """
    weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1)
    return weights @ v, weights.mean(dim=1)


def attend_by_head(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """`attend` as a CPU does it faster: the weights of all heads together are 127 MB at 768x768, and moving them takes
    longer than the products.
    """
    tokens: list[Tensor] = []
    total = torch.zeros((), dtype=q.dtype, device=q.device)
    for query, key, value in zip(q.unbind(1), k.unbind(1), v.unbind(1), strict=True):
        weights = (query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)).softmax(dim=-1)
        tokens.append(weights @ value)
        total = total + weights
    return torch.stack(tokens, dim=1), total / len(tokens)


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class TransformerBlock(nn.Module):
    """Pre-norm attention and MLP; tokens (B, N, dim) -> tokens, and the attention as in `Attention`."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = Mlp(dim, dim * mlp_ratio)
        self.drop_path = StochasticDepth(drop_path, mode="row")

    def forward(self, x: Tensor, weights: bool = False) -> tuple[Tensor, Tensor | None]:
        update, attention = self.attn(self.norm1(x), weights)
        x = x + self.drop_path(update)
        return x + self.drop_path(self.mlp(self.norm2(x))), attention


class ConvTransBlock(nn.Module):
    """Blocks 2 to 12: both branches and the couplings between them.

    Args:
        in_chans: Channels of the map that comes in.
        out_chans: Channels of the map that goes out.
        embed_dim: Width of the tokens.
        coupling_stride: Pixels of the map per token, after `stride`.
        stride: Of the first convolution part.
        last_stride: Of the second one, whose shortcut `project_last` projects.
        cabl: Edge gates by placement: `output`, `first`, `last` (twice).
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        embed_dim: int,
        num_heads: int,
        mlp_ratio: int,
        *,
        coupling_stride: int,
        stride: int = 1,
        last_stride: int = 1,
        project_last: bool = False,
        drop_path: float = 0.0,
        cabl: Cabl | None = None,
    ) -> None:
        super().__init__()
        placement = cabl.config.placement if cabl is not None else "output"
        first = cabl if placement == "first" else None
        last = cabl if placement == "last" else None
        mid_chans = out_chans // 4
        self.cnn_block = ConvBlock(
            in_chans,
            out_chans,
            stride=stride,
            project=in_chans != out_chans,
            before_first=first,
            before_last=last,
        )
        self.squeeze_block = MapToTokens(mid_chans, embed_dim, coupling_stride)
        self.trans_block = TransformerBlock(embed_dim, num_heads, mlp_ratio, drop_path)
        self.expand_block = TokensToMap(embed_dim, mid_chans, coupling_stride)
        self.fusion_block = ConvBlock(
            out_chans, out_chans, stride=last_stride, project=project_last, before_last=last
        )
        self.cabl = cabl if placement == "output" else None

    def forward(
        self, x: Tensor, tokens: Tensor, grid: tuple[int, int], weights: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The map (B, in_chans, H, W) and the tokens of the grid (h, w) -> map, tokens, attention or None."""
        x, between = self.cnn_block(x)
        tokens, attention = self.trans_block(tokens + self.squeeze_block(between, tokens), weights)
        x, _ = self.fusion_block(x, self.expand_block(tokens, grid))
        return x if self.cabl is None else self.cabl(x), tokens, attention
