"""Segmentation heads: UperNet (the decoder of Fig. 3a), its peer DeepLabv3+, and the FCN head that trains beside.

Convolutions before batch norm have no bias; every resize is bilinear with align_corners=False.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fanet.modeling.blocks import channels_last
from papers_shared.errors import UserError


class MultiscaleConv2d(nn.Conv2d):
    """The 3x3 convolution of maps that are enlarged to the size of the first one and concatenated, at less cost.

    The resize and the convolution are both linear, and each works along rows and columns apart, so that the products
    over channels need not wait until a map is enlarged in both directions. With x the map enlarged in width, R (H, h)
    the matrix of the bilinear resize in height and K[u] the kernel's row u = 0, 1, 2 as a 1x3 kernel:

        y = sum over u of shift(R, u - 1) (K[u] * x)

    where shift(R, n)[i] = R[i + n], and 0 outside: that is where the convolution is padded. All K[u] together are one
    convolution at the small height, and all shift(R, n) one matrix. For UperNet's fusion of four levels this is half of
    the multiply-adds, and the enlarged and concatenated maps are never made. The result is equal up to float rounding.
    """

    def __init__(self, in_chans: int, out_chans: int) -> None:
        super().__init__(in_chans, out_chans, 3, padding=1, bias=False)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        """Maps (B, C_i, h_i, w_i), the first of them (H, W) large -> (B, out_chans, H, W)."""
        kernels = self.weight.split([x.shape[1] for x in maps], dim=1)
        result = F.conv2d(maps[0], kernels[0], padding=1)
        for x, kernel in zip(maps[1:], kernels[1:], strict=True):
            result = result + _enlarge_and_convolve(x, kernel, result.shape[-2], result.shape[-1])
        return result


def _enlarge_and_convolve(x: Tensor, kernel: Tensor, height: int, width: int) -> Tensor:
    """One map's share of `MultiscaleConv2d`: (B, C, h, w), (out, C, 3, 3) -> (B, out, height, width)."""
    batch, chans, rows, _ = x.shape
    out = kernel.shape[0]
    x = F.interpolate(x, (rows, width), mode="bilinear", align_corners=False)
    x = F.conv2d(x, kernel.transpose(1, 2).reshape(out * 3, chans, 1, 3), padding=(0, 1))
    return _shifted_resize(rows, height, x) @ x.reshape(batch, out, 3 * rows, width)


def _shifted_resize(size: int, target: int, like: Tensor) -> Tensor:
    """(target, 3 * size): the matrix of the bilinear resize, side by side moved up by -1, 0 and 1, zeros outside."""
    identity = torch.eye(size, dtype=like.dtype, device=like.device)
    resize = F.interpolate(identity[None], target, mode="linear", align_corners=False)[0].t()
    padded = F.pad(resize, (0, 0, 1, 1))
    return torch.cat([padded[u : u + target] for u in range(3)], dim=1)


class ConvBNReLU(nn.Sequential):
    """Convolution without bias, batch norm, ReLU; (B, in_chans, H, W) -> (B, out_chans, H, W).

    With `multiscale` the input is a list of maps, see `MultiscaleConv2d`.
    """

    def __init__(self, in_chans: int, out_chans: int, kernel_size: int, *, multiscale: bool = False) -> None:
        super().__init__()
        if multiscale:
            self.conv: nn.Conv2d = MultiscaleConv2d(in_chans, out_chans)
        else:
            self.conv = nn.Conv2d(in_chans, out_chans, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_chans)
        self.relu = nn.ReLU()
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
        self.bottleneck = ConvBNReLU(coarse + len(pool_scales) * channels, channels, 3, multiscale=True)
        self.laterals = nn.ModuleList(ConvBNReLU(chans, channels, 1) for chans in fine)
        self.smooths = nn.ModuleList(ConvBNReLU(channels, channels, 3) for _ in fine)
        self.fusion = ConvBNReLU(len(in_chans) * channels, channels, 3, multiscale=True)
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
        if self.training:
            maps = [_in_layout_of(self.fusion.conv, x) for x in maps]
        for i in range(len(maps) - 1, 0, -1):
            maps[i - 1] = maps[i - 1] + _resize(maps[i], maps[i - 1])
        smooth = [conv(maps[i]) for i, conv in enumerate(self.smooths)]
        smooth.append(maps[-1])
        return self.fusion(smooth)

    def pool(self, x: Tensor) -> Tensor:
        """Pyramid pooling of the coarsest map, (B, C, h, w) -> (B, channels, h, w)."""
        maps = [x]
        for scale, conv in zip(self.pool_scales, self.pools, strict=True):
            if scale == 1 and len(x) == 1:
                _refuse_single_value(conv)
            maps.append(conv(F.adaptive_avg_pool2d(x, scale)))
        return self.bottleneck(maps)


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
        if self.training:
            x = _in_layout_of(self.conv.conv, x)
        return self.classifier(self.dropout(self.conv(x)))


def _classifier(channels: int, num_classes: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, num_classes, 1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def _in_layout_of(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The same map in the memory format of a layer's weights: contiguous, unless the user asked for channels-last.

    On a CPU the gradient of dense 3x3 weights takes 2 to 4 times as long from a backbone's channels-last maps.
    """
    return x.contiguous() if conv.weight.is_contiguous() else channels_last(x)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _refuse_single_value(conv: nn.Module) -> None:
    """SyncBatchNorm, which counts the values of all processes, passes."""
    if any(isinstance(norm, nn.BatchNorm2d) and norm.training for norm in conv.modules()):
        raise UserError(
            "batch norm of the 1x1 pooled map needs two images or more per process and micro-batch: raise "
            "--optim.batch-size or --optim.micro-batch, or freeze the statistics with --optim.norm-eval"
        )
