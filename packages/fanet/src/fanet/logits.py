"""A picture to logits at its own size, in bands of rows so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fanet.modeling.segmenter import Segmenter
from fanet.options import Precision
from fanet.transforms import prepare_image

BAND_BYTES = 64 * 2**20
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resize_bands(logits: Tensor, height: int, width: int, *, max_bytes: int = BAND_BYTES) -> Iterator[Tensor]:
    """Bilinear resize (align_corners=False) of logits (C, h, w), as bands (C, rows, width) from the top.

    A band takes at most `max_bytes`, or one row if that is larger. A result that fits one band is torch's own
    resize; otherwise rows are interpolated first and columns by torch, equal up to float rounding.
    """
    channels, source_height, _ = logits.shape
    rows = max(1, max_bytes // (logits.element_size() * channels * width))
    if rows >= height:
        yield F.interpolate(logits[None], (height, width), mode="bilinear", align_corners=False)[0]
        return
    for top in range(0, height, rows):
        targets = torch.arange(top, min(top + rows, height), dtype=torch.float64, device=logits.device)
        sources = ((targets + 0.5) * (source_height / height) - 0.5).clamp(min=0)
        upper = sources.long()
        lower = (upper + 1).clamp(max=source_height - 1)
        weight = (sources - upper).to(logits.dtype)[:, None]
        band = torch.lerp(logits[:, upper], logits[:, lower], weight)
        yield F.interpolate(band[None], (len(targets), width), mode="bilinear", align_corners=False)[0]


def network_logits(segmenter: Segmenter, images: Tensor, precision: Precision) -> Tensor:
    """Normalised picture (1, 3, h, w) to float32 logits (num_classes, h, w), in eval mode and without
    gradients."""
    device = next(segmenter.parameters()).device
    training = segmenter.training
    segmenter.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, DTYPES[precision], enabled=precision != "no"):
            logits = segmenter(images.to(device)).logits
    finally:
        segmenter.train(training)
    return F.interpolate(logits.float(), images.shape[-2:], mode="bilinear", align_corners=False)[0]


def tile_bands(
    segmenter: Segmenter, picture: Image.Image, tile: int, overlap: float, precision: Precision
) -> Iterator[Tensor]:
    """Averaged logits of overlapping windows, as bands (C, rows, W): the rows that no later window
    touches."""
    width, height = picture.size
    tile_width, tile_height = min(tile, width), min(tile, height)
    stride = max(1, round(tile * (1 - overlap)))
    native = replace(
        segmenter.config,
        test_scale=(max(tile_width, tile_height), min(tile_width, tile_height)),
        test_divisor=1,
    )
    device = next(segmenter.parameters()).device
    sums = torch.zeros(native.num_classes, tile_height, width, device=device)
    counts = torch.zeros(tile_height, width, device=device)
    tops = _starts(height, tile_height, stride)
    for top, next_top in zip(tops, [*tops[1:], height], strict=True):
        for left in _starts(width, tile_width, stride):
            window = picture.crop((left, top, left + tile_width, top + tile_height))
            sums[:, :, left : left + tile_width] += network_logits(
                segmenter, prepare_image(window, native), precision
            )
            counts[:, left : left + tile_width] += 1
        done = next_top - top
        yield sums[:, :done].div_(counts[:done])
        for pending in (sums, counts):
            pending[..., : tile_height - done, :] = pending[..., done:, :].clone()
            pending[..., tile_height - done :, :] = 0


def _starts(length: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows that cover `length`; the last one ends at the border."""
    return [*range(0, length - window, stride), length - window]
