"""Segmentation heads: UperNet (the decoder of Fig. 3a), its peer DeepLabv3+, and the FCN head that trains beside.

Convolutions before batch norm have no bias; every resize is bilinear with align_corners=False.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers_shared.errors import UserError


class ConvBNReLU(nn.Sequential):
    """Convolution without bias, batch norm, ReLU; (B, in_chans, H, W) -> (B, out_chans, H, W)."""

    def __init__(self, in_chans: int, out_chans: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, out_chans, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_chans)
        self.relu = nn.ReLU(inplace=True)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")


class UPerHead(nn.Module):
    """UperNet: pyramid pooling over the last map, top-down sums, and a fusion of all levels at the first one's size.

    Args:
        in_chans: Channels of the four maps, from fine to coarse.
        num_classes: Classes predicted.
        channels: Width of the decoder.
        pool_scales: Side lengths of the pyramid pooling.
        dropout: Probability of dropping a channel before the last convolution.
    """

    def __init__(
        self,
        in_chans: Sequence[int],
        num_classes: int,
        channels: int = 256,
        pool_scales: Sequence[int] = (1, 2, 3, 6),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        *fine, coarse = in_chans
        self.pool_scales = tuple(pool_scales)
        self.pools = nn.ModuleList(ConvBNReLU(coarse, channels, 1) for _ in pool_scales)
        self.bottleneck = ConvBNReLU(coarse + len(pool_scales) * channels, channels, 3)
        self.laterals = nn.ModuleList(ConvBNReLU(chans, channels, 1) for chans in fine)
        self.smooths = nn.ModuleList(ConvBNReLU(channels, channels, 3) for _ in fine)
        self.fusion = ConvBNReLU(len(in_chans) * channels, channels, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = _classifier(channels, num_classes)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_i, H_i, W_i), from fine to coarse -> logits (B, num_classes, H_0, W_0).

        Raises:
            UserError: One single image in training: the 1x1 pooled map has no variance to normalise by.
        """
        return self.classifier(self.dropout(self.fuse(features)))

    def fuse(self, features: Sequence[Tensor]) -> Tensor:
        """The decoder's map before dropout and classifier, (B, channels, H_0, W_0)."""
        maps = [lateral(features[i]) for i, lateral in enumerate(self.laterals)]
        maps.append(self.pool(features[-1]))
        for i in range(len(maps) - 1, 0, -1):
            maps[i - 1] = maps[i - 1] + _resize(maps[i], maps[i - 1])
        smooth = [conv(maps[i]) for i, conv in enumerate(self.smooths)]
        smooth.append(maps[-1])
        return self.fusion(torch.cat([_resize(x, smooth[0]) for x in smooth], dim=1))

    def pool(self, x: Tensor) -> Tensor:
        """Pyramid pooling of the coarsest map, (B, C, h, w) -> (B, channels, h, w)."""
        maps = [x]
        for scale, conv in zip(self.pool_scales, self.pools, strict=True):
            if scale == 1 and len(x) == 1:
                _refuse_single_value(conv)
            maps.append(_resize(conv(F.adaptive_avg_pool2d(x, scale)), x))
        return self.bottleneck(torch.cat(maps, dim=1))


class DeepLabV3PlusHead(nn.Module):
    """DeepLabv3+ (row of Table 1): segmentation_models_pytorch's decoder, and the classifier of the other heads.

    Args:
        in_chans: Channels of the four maps, from fine to coarse; the last must be at stride 16, as the third.
        num_classes: Classes predicted.
        channels: Width of the decoder.
        dropout: Probability of dropping a channel before the last convolution.

    Raises:
        UserError: segmentation_models_pytorch is not installed.
    """

    def __init__(
        self, in_chans: Sequence[int], num_classes: int, channels: int = 256, dropout: float = 0.1
    ) -> None:
        super().__init__()
        try:
            from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
        except ImportError as error:
            raise UserError(
                'model.head deeplabv3plus needs segmentation_models_pytorch: pip install "fanet[peers]"'
            ) from error
        fine, coarse = in_chans[0], in_chans[-1]
        self.decoder = DeepLabV3PlusDecoder(
            encoder_channels=(fine, fine, fine, coarse),
            encoder_depth=4,
            out_channels=channels,
            atrous_rates=(6, 12, 18),
            output_stride=16,
            aspp_separable=True,
            aspp_dropout=0.5,
        )
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = _classifier(channels, num_classes)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_i, H_i, W_i) at strides 4, 8, 16, 16 -> logits (B, num_classes, H_0, W_0).

        Raises:
            UserError: One single image in training: the 1x1 pooled map has no variance to normalise by.
        """
        fine, coarse = features[0], features[-1]
        if len(coarse) == 1:
            _refuse_single_value(self.decoder.aspp)
        wanted = [-(-side // 4) * 4 for side in fine.shape[-2:]]  # the decoder enlarges by 4 exactly
        if list(fine.shape[-2:]) != wanted:
            fine = F.interpolate(fine, wanted, mode="bilinear", align_corners=False)
        decoded = self.decoder([fine, fine, fine, coarse])  # which reads the third and the last
        return self.classifier(self.dropout(decoded))


class FCNHead(nn.Module):
    """One 3x3 convolution and a classifier on one map.

    Args:
        in_chans: Channels of the map.
        num_classes: Classes predicted.
        channels: Width of the convolution.
        dropout: Probability of dropping a channel before the last convolution.
    """

    def __init__(self, in_chans: int, num_classes: int, channels: int = 256, dropout: float = 0.1) -> None:
        super().__init__()
        self.conv = ConvBNReLU(in_chans, channels, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = _classifier(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, h, w) -> logits (B, num_classes, h, w)."""
        return self.classifier(self.dropout(self.conv(x)))


def _classifier(channels: int, num_classes: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, num_classes, 1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def _resize(x: Tensor, like: Tensor) -> Tensor:
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _refuse_single_value(conv: nn.Module) -> None:
    """SyncBatchNorm, which counts the values of all processes, passes."""
    if any(isinstance(norm, nn.BatchNorm2d) and norm.training for norm in conv.modules()):
        raise UserError(
            "batch norm of the 1x1 pooled map needs two images or more per process and micro-batch: raise "
            "--optim.batch_size (or lower --optim.accumulation), or freeze the statistics with --optim.norm_eval"
        )
