"""Conformer with CABL and its maps written down plainly: the yardstick of the speed ratios.

Eager attention whose maps are all kept, in training too, edges that the backward pass remembers, 1x1 convolutions
before pooling, contiguous (B, C, H, W) everywhere, and maps of one image, one size and one mirror at a time. Only
the package's defaults are here. Entry names are those of `cabl_cgsr.Localizer`, so that its weights load.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
BLOCKS, PATCH, EPS = 12, 16, 1e-6


def edges(x: Tensor) -> Tensor:
    """Eq. (1): each channel, weighted by the sigmoid of its Sobel magnitude, on top of itself."""
    channels = x.shape[1]
    kernel = torch.tensor(SOBEL, dtype=x.dtype, device=x.device)
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    gx = F.conv2d(padded, kernel.repeat(channels, 1, 1, 1), groups=channels)
    gy = F.conv2d(padded, kernel.T.repeat(channels, 1, 1, 1), groups=channels)
    return x + torch.sigmoid(torch.sqrt(gx**2 + gy**2 + 1e-12)) * x


class PlainConvBlock(nn.Module):
    def __init__(self, in_chans: int, out_chans: int, stride: int = 1, project: bool = False) -> None:
        super().__init__()
        mid = out_chans // 4
        self.conv1 = nn.Conv2d(in_chans, mid, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(mid, eps=EPS)
        self.conv2 = nn.Conv2d(mid, mid, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(mid, eps=EPS)
        self.conv3 = nn.Conv2d(mid, out_chans, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_chans, eps=EPS)
        self.project = project
        if project:
            self.residual_conv = nn.Conv2d(in_chans, out_chans, 1, stride, bias=False)
            self.residual_bn = nn.BatchNorm2d(out_chans, eps=EPS)

    def forward(self, x: Tensor, coupled: Tensor | None = None) -> tuple[Tensor, Tensor]:
        residual = self.residual_bn(self.residual_conv(x)) if self.project else x
        x = F.relu(self.bn1(self.conv1(x)))
        if coupled is not None:
            x = x + coupled
        between = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(between)) + residual), between


class PlainAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, dim) -> tokens, and the maps of all heads (B, heads, N, N)."""
        B, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        weights = ((q @ k.transpose(-2, -1)) * (C // self.heads) ** -0.5).softmax(dim=-1)
        x = (weights.to(v.dtype) @ v).transpose(1, 2).reshape(B, N, C)
        return self.proj(x), weights


class PlainMlp(nn.Module):
    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, dim * ratio)
        self.fc2 = nn.Linear(dim * ratio, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class PlainTransformerBlock(nn.Module):
    def __init__(self, dim: int, heads: int, ratio: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attn = PlainAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = PlainMlp(dim, ratio)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        update, weights = self.attn(self.norm1(x))
        x = x + self._drop(update)
        return x + self._drop(self.mlp(self.norm2(x))), weights

    def _drop(self, update: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return update
        kept = torch.rand(len(update), 1, 1, device=update.device) >= self.drop_path
        return update / (1 - self.drop_path) * kept


class PlainMapToTokens(nn.Module):
    def __init__(self, in_chans: int, dim: int, stride: int) -> None:
        super().__init__()
        self.conv_project = nn.Conv2d(in_chans, dim, 1)
        self.pool = nn.AvgPool2d(stride, stride)
        self.ln = nn.LayerNorm(dim, eps=EPS)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        x = self.pool(self.conv_project(x)).flatten(2).transpose(1, 2)
        return torch.cat([tokens[:, 0][:, None], F.gelu(self.ln(x))], dim=1)


class PlainTokensToMap(nn.Module):
    def __init__(self, dim: int, out_chans: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv_project = nn.Conv2d(dim, out_chans, 1)
        self.bn = nn.BatchNorm2d(out_chans, eps=EPS)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        x = tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, height, width)
        x = F.relu(self.bn(self.conv_project(x)))
        return F.interpolate(x, size=(height * self.stride, width * self.stride))


class PlainDualBlock(nn.Module):
    """Blocks 2 to 12, with the edges on the map that goes out."""

    def __init__(
        self, in_chans: int, out_chans: int, dim: int, heads: int, ratio: int, number: int, drop_path: float
    ) -> None:
        super().__init__()
        coupling = 4 // 2 ** ((number - 1) // 4)
        grows = in_chans != out_chans
        self.cnn_block = PlainConvBlock(in_chans, out_chans, 2 if grows and number > 2 else 1, grows)
        self.squeeze_block = PlainMapToTokens(out_chans // 4, dim, coupling)
        self.trans_block = PlainTransformerBlock(dim, heads, ratio, drop_path)
        self.expand_block = PlainTokensToMap(dim, out_chans // 4, coupling)
        self.fusion_block = PlainConvBlock(out_chans, out_chans, 1, number == BLOCKS)

    def forward(self, x: Tensor, tokens: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        x, between = self.cnn_block(x)
        tokens, weights = self.trans_block(tokens + self.squeeze_block(between, tokens))
        x, _ = self.fusion_block(x, self.expand_block(tokens, height, width))
        return edges(x), tokens, weights


class PlainConformer(nn.Module):
    def __init__(
        self, stem: int, chans: int, dim: int, heads: int, ratio: int = 4, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.conv1 = nn.Conv2d(3, stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv_1 = PlainConvBlock(stem, chans, project=True)
        self.trans_patch_conv = nn.Conv2d(stem, dim, PATCH // 4, PATCH // 4)
        self.trans_1 = PlainTransformerBlock(dim, heads, ratio)
        in_chans = chans
        for number in range(2, BLOCKS + 1):
            out_chans = chans * 2 ** ((number - 1) // 4)
            rate = drop_path * (number - 1) / (BLOCKS - 1)
            block = PlainDualBlock(in_chans, out_chans, dim, heads, ratio, number, rate)
            self.add_module(f"conv_trans_{number}", block)
            in_chans = out_chans
        self.trans_norm = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Images whose sides are multiples of 16 -> map, tokens, and the attention of all blocks and heads."""
        height, width = images.shape[2] // PATCH, images.shape[3] // PATCH
        stem = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, 2, 1)
        x, _ = self.conv_1(stem)
        x = edges(x)
        tokens = self.trans_patch_conv(stem).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.to(tokens.dtype).expand(len(tokens), -1, -1), tokens], dim=1)
        tokens, weights = self.trans_1(tokens)
        kept = [weights]
        for number in range(2, BLOCKS + 1):
            x, tokens, weights = self.get_submodule(f"conv_trans_{number}")(x, tokens, height, width)
            kept.append(weights)
        return x, self.trans_norm(tokens), kept


class PlainOutput(NamedTuple):
    """Logits (B, 1); maps (B, 1, h, w); the attention (B, heads, N, N) of each block."""

    logits_conv: Tensor
    logits_trans: Tensor
    conv_map: Tensor
    trans_map: Tensor
    attention: list[Tensor]


class PlainLocalizer(nn.Module):
    """Backbone and heads of one logit; the sizes are those of `cabl_cgsr.config.ConformerSizes`."""

    def __init__(
        self, stem: int, chans: int, dim: int, heads: int, ratio: int = 4, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.backbone = PlainConformer(stem, chans, dim, heads, ratio, drop_path)
        self.conv_cls_head = nn.Conv2d(4 * chans, 1, 3, 1, 1)
        self.trans_cls_head = nn.Linear(dim, 1)

    def forward(self, images: Tensor) -> PlainOutput:
        height, width = images.shape[2] // PATCH, images.shape[3] // PATCH
        x, tokens, attention = self.backbone(images)
        conv_map = self.conv_cls_head(x)
        patches = tokens[:, 1:] @ self.trans_cls_head.weight.T.to(tokens.dtype)
        trans_map = patches.transpose(1, 2).reshape(len(images), -1, height, width)
        logits_conv = F.adaptive_avg_pool2d(conv_map, 1).flatten(1)
        return PlainOutput(logits_conv, self.trans_cls_head(tokens[:, 0]), conv_map, trans_map, attention)


def plain_maps(network: PlainLocalizer, views: list[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Score and aggregated map (Eq. 2) of one image, from one view (1, 3, s, s) and one mirror at a time.

    Returns:
        The score, and the unscaled map (H, W) of this size.
    """
    maps, scores = [], []
    for view in views:
        for mirrored in (False, True):
            output = network(view.flip(-1) if mirrored else view)
            conv_map, trans_map = _scaled(_full(output.conv_map)), _scaled(_full(output.trans_map))
            union = torch.maximum(conv_map, trans_map)
            attention = _full(torch.stack(output.attention)).mean(dim=2).sum(dim=0)[:, 1:, 1:]
            coupled = (attention @ union.reshape(1, -1, 1)).reshape(union.shape)
            coupled = coupled.flip(-1) if mirrored else coupled
            maps.append(F.interpolate(coupled, size=size, mode="bilinear", align_corners=False)[0, 0])
            scores.append(_full(output.logits_conv.sigmoid() + output.logits_trans.sigmoid()) / 2)
    return torch.stack(scores).mean(), torch.stack(maps).mean(dim=0)


def _scaled(maps: Tensor) -> Tensor:
    low, high = maps.amin(dim=(2, 3), keepdim=True), maps.amax(dim=(2, 3), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-5)


def _full(values: Tensor) -> Tensor:
    """In float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
