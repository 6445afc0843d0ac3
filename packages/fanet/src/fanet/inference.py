"""One image in, a `Segmentation` out: the one road that `predict`, `evaluate`, `figures` and `demo` take.

Protocol of the paper (the official test pipeline): one scale, no flip; keep-ratio resize to the test scale, resize up
to multiples of 32, the whole image through the network; logits brought to the network's input size and from there to
the image's own size, both bilinear; argmax. Several scales, the mirrored image, or windows at native resolution are
options.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fanet.config import MAX_PIXELS, ModelConfig
from fanet.drawing import class_palette
from fanet.transforms import TestResize, check_channels
from papers_shared.devices import autocast, choose_precision, device_of, inputs_at_once, precision_name
from papers_shared.drawing import legend as with_legend
from papers_shared.drawing import marked_untrained, overlay, shrink
from papers_shared.errors import UserError
from papers_shared.images import load_image
from papers_shared.normalization import normalization_on
from papers_shared.provenance import check_trained
from papers_shared.threads import evaluation_mode
from papers_shared.types import RGB, AskedPrecision, Precision

MULTI_SCALE = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""The test-time scales of mmsegmentation's `--aug-test`."""
BAND_BYTES = 64 * 2**20
"""Scores at the image's own size are computed in bands of rows that take at most so many bytes."""


Box = tuple[int, int, int, int]
"""Left, upper, right, lower in pixels of the image."""


class Prepared(NamedTuple):
    """An image, ready for a network; loader processes make it."""

    pixels: Tensor
    """(H, W, 3) uint8 RGB, upright."""
    resized: tuple[Tensor, ...]
    """For each ratio the whole image as large as the network takes it, (h, w, 3) uint8; empty with tiles."""


class Window(NamedTuple):
    """What the network answers for one part of the image."""

    logits: Tensor
    """(num_classes, h, w) float32, as the network gives them, mirrored back where its input was mirrored."""
    size: tuple[int, int]
    """(height, width) of the network's input."""
    box: Box
    """The part of the image that it covers."""


View = tuple[Window, ...]
"""The windows that cover the image once, at one scale, mirrored or not; a single one for the whole image."""


@dataclass(eq=False)
class Segmentation:
    """What the network sees in one image; all arrays have the image's own size (after EXIF rotation)."""

    image: Image.Image
    """The image, RGB, upright."""
    mask: np.ndarray
    """(H, W) uint8, class index per pixel."""
    class_names: tuple[str, ...]
    palette: tuple[RGB, ...]
    protocol: str
    """How the mask was computed, in one sentence."""
    views: tuple[View, ...]
    """The network's answers, on the CPU."""
    untrained: tuple[str, ...] = ()
    """Parts of the model that were never trained."""

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(num_classes, H, W) float32: softmax over the classes, averaged over the views.

        Computed from `views` when first asked for, as it takes 4 * num_classes bytes per pixel.
        """
        height, width = self.mask.shape
        bands = class_scores(self.views, height, width)
        single = len(self.views) == 1  # then the scores are logits
        return np.concatenate([(band.softmax(0) if single else band).numpy() for band in bands], axis=1)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the pixels of each class, in [0, 1]."""
        counts = Image.fromarray(self.mask).histogram()
        return {name: counts[index] / self.mask.size for index, name in enumerate(self.class_names)}

    def draw(self, *, alpha: float = 0.5, max_side: int = 0, legend: bool = True) -> Image.Image:
        """The image under the colours of its classes, with or without their names; `max_side` > 0 shrinks it first."""
        mask = shrink(Image.fromarray(self.mask), max_side, Image.Resampling.NEAREST)
        drawn = overlay(shrink(self.image, max_side), np.asarray(mask), self.palette, alpha=alpha)
        if legend:
            drawn = with_legend(drawn, self.class_names, self.palette)
        return marked_untrained(drawn, self.untrained)

    def mask_image(self) -> Image.Image:
        """The mask as a palette image: values are the class indices, viewers show the class colours."""
        image = Image.fromarray(self.mask)
        image.putpalette([channel for colour in self.palette for channel in colour])
        return image


def predict(
    segmenter: Any,
    image: Image.Image | np.ndarray | Tensor | str | Path,
    *,
    flip: bool = False,
    ratios: Sequence[float] = (1.0,),
    tile: int = 0,
    overlap: float = 0.25,
    precision: AskedPrecision = "auto",
    max_pixels: int = MAX_PIXELS,
    untrained: bool = False,
) -> Segmentation:
    """Segment one image on the segmenter's device; the segmenter is afterwards as it was, in training mode too.

    Memory beside the network and the (H, W) mask: the decoded image three times (9 bytes per pixel) while it is
    prepared, one band of scores at the image's size (`BAND_BYTES`), and the network's answers at a quarter of its
    input's size (with tiles about 0.45 * num_classes bytes per pixel of the image).

    Args:
        segmenter: Images (1, 3, h, w) -> an output with `logits` (1, num_classes, h/4, w/4); has a `config`.
        image: A path, a Pillow image, or an array or tensor of pixels (see `papers_shared.images.from_array`).
        flip: Average the class probabilities with those of the mirrored image.
        ratios: Factors of the test scale; with more than one, class probabilities are averaged over them.
        tile: 0: the paper's protocol, the whole image shrunk to the test scale. N: an N x N window slides over the
            image at its native resolution.
        overlap: Share of the window's side that neighbouring windows have in common; their logits are averaged.
        precision: What the network computes in.
        max_pixels: Larger images are refused.
        untrained: Answer with a network whose parts were never trained, too.

    Raises:
        UserError: A network that was never trained, an unreadable image, more than `max_pixels` pixels, an option out
            of range, or more than 255 classes.
    """
    config: ModelConfig = segmenter.config
    fresh = check_trained(segmenter, untrained)
    check_options(config, ratios, tile, overlap, max_pixels)
    computed = choose_precision(precision, device_of(segmenter))
    loaded = load_image(image, max_pixels=max_pixels)
    pixels = np.asarray(loaded)
    prepared = prepare(pixels, config, ratios=ratios, tile=tile)
    (views,) = network_views(
        segmenter, [prepared], flip=flip, ratios=ratios, tile=tile, overlap=overlap, precision=computed
    )
    return Segmentation(
        loaded,
        class_map(views, *pixels.shape[:2]).cpu().numpy(),
        config.class_names,
        class_palette(config.class_names, config.palette),
        describe_protocol(config, flip=flip, ratios=ratios, tile=tile, overlap=overlap, precision=computed),
        tuple(_fetched(view) for view in views),
        fresh,
    )


def prepare(
    pixels: np.ndarray, config: ModelConfig, *, ratios: Sequence[float] = (1.0,), tile: int = 0
) -> Prepared:
    """An image (H, W, 3) uint8 RGB, as the options of `predict` have it.

    Raises:
        UserError: The network takes another number of channels than images have.
    """
    check_channels(config)
    resizes = [TestResize(config.test_scale, config.test_divisor, ratio) for ratio in ratios if not tile]
    return Prepared(torch.tensor(pixels), tuple(torch.from_numpy(one.resize(pixels)) for one in resizes))


def network_views(
    segmenter: Any,
    images: Sequence[Prepared],
    *,
    flip: bool = False,
    ratios: Sequence[float] = (1.0,),
    tile: int = 0,
    overlap: float = 0.25,
    precision: Precision = "fp32",
    together: int = 0,
) -> list[list[View]]:
    """The network's answers about each image, on its device; the other options are those of `predict`.

    All windows of one scale, mirrored or not, have one size, so that many go through the network together.

    Args:
        images: As `prepare` makes them with the same options; what is resized has one size for all of them.
        together: Most windows in a batch; 0: as many as the device takes.

    Raises:
        UserError: An answer is not finite.
    """
    mirrored = (False, True) if flip else (False,)
    answers: list[list[View]] = [[] for _ in images]
    with evaluation_mode(segmenter), torch.no_grad(), autocast(segmenter, precision):
        for number, ratio in enumerate(ratios):
            parts = [
                _Part(image.pixels if tile else image.resized[number], flipped, box, ratio if tile else 0)
                for image in images
                for flipped in mirrored
                for box in _boxes(image.pixels.shape[0], image.pixels.shape[1], tile, overlap)
            ]
            windows = iter(_answers(segmenter, parts, together))
            for image, views in zip(images, answers, strict=True):
                count = len(_boxes(image.pixels.shape[0], image.pixels.shape[1], tile, overlap))
                views += [tuple(islice(windows, count)) for _ in mirrored]
    finite = [window.logits.isfinite().all() for views in answers for view in views for window in view]
    if not torch.stack(finite).all():
        raise UserError("the network's answer is not finite: its weights are damaged")
    return answers


def class_map(views: Sequence[View], height: int, width: int) -> Tensor:
    """The class of the highest score, (height, width) uint8 on the device of the views."""
    # not argmax, which is several times slower on a CPU
    bands = (band.max(0).indices.to(torch.uint8) for band in class_scores(views, height, width))
    return torch.cat(list(bands))


def describe_protocol(
    config: ModelConfig,
    *,
    flip: bool = False,
    ratios: Sequence[float] = (1.0,),
    tile: int = 0,
    overlap: float = 0.25,
    precision: Precision = "fp32",
) -> str:
    """The sentence that goes with every prediction and every evaluation."""
    if tile:
        covered = f"windows of {tile}x{tile} pixels at native resolution, {overlap:g} of their side shared"
        covered += ", their logits averaged"
    else:
        covered = f"whole image, keep-ratio resize within {max(config.test_scale)}x{min(config.test_scale)}"
        covered += f", resize up to multiples of {config.test_divisor}"
    scales = "one scale" if tuple(ratios) == (1.0,) else f"scales {', '.join(f'{r:g}' for r in ratios)}"
    views = f"{scales}, {'with' if flip else 'no'} flip"
    if flip or len(ratios) > 1:
        views += ", class probabilities averaged"
    return (
        f"{covered}; {views}; logits resized bilinearly to the network's input size, then to the image's own size;"
        f" argmax; {precision_name(precision)}"
    )


def class_scores(
    views: Sequence[View], height: int, width: int, *, max_bytes: int = BAND_BYTES
) -> Iterator[Tensor]:
    """Scores of every class at (height, width), as bands (num_classes, rows, width) from the top.

    The scores are logits for a single view, else class probabilities averaged over the views. A band takes at most
    `max_bytes`, or one row if that is larger.
    """
    rows = max(1, max_bytes // (4 * len(views[0][0].logits) * width))
    for top in range(0, height, rows):
        bands = (_logit_rows(view, top, min(top + rows, height), width) for view in views)
        if len(views) == 1:
            yield from bands
            continue
        total = next(bands).softmax(0)
        for band in bands:
            total += band.softmax(0)
        yield total.div_(len(views))


def resize_rows(logits: Tensor, sizes: Sequence[tuple[int, int]], top: int, bottom: int) -> Tensor:
    """Rows `top` to `bottom` of logits (C, h, w) after a bilinear resize to each of `sizes` in turn.

    All rows together are computed by torch's own resize; some of them by interpolating rows first, then columns,
    which is equal up to float rounding.
    """
    if not sizes:
        return logits[:, top:bottom]
    *before, (height, width) = sizes
    source_height, source_width = before[-1] if before else logits.shape[1:]
    if (source_height, source_width) == (height, width):
        return resize_rows(logits, before, top, bottom)
    if (top, bottom) == (0, height):
        source = resize_rows(logits, before, 0, source_height)
        return F.interpolate(source[None], (height, width), mode="bilinear", align_corners=False)[0]
    targets = torch.arange(top, bottom, dtype=torch.float64)
    positions = ((targets + 0.5) * (source_height / height) - 0.5).clamp(min=0)
    upper = positions.long()
    lower = (upper + 1).clamp(max=source_height - 1)
    first, last = int(upper[0]), int(lower[-1]) + 1
    source = resize_rows(logits, before, first, last)
    weight = (positions - upper).to(source)[:, None]
    upper, lower = ((rows - first).to(source.device) for rows in (upper, lower))
    band = torch.lerp(source[:, upper], source[:, lower], weight)
    return F.interpolate(band[None], (bottom - top, width), mode="bilinear", align_corners=False)[0]


def _logit_rows(view: View, top: int, bottom: int, width: int) -> Tensor:
    """Rows of one view's logits at the image's size, (num_classes, bottom - top, width): averaged over windows."""
    if len(view) == 1:
        logits, size, (_, _, right, lower) = view[0]
        return resize_rows(logits, (size, (lower, right)), top, bottom)
    example = view[0].logits
    sums = example.new_zeros(len(example), bottom - top, width)
    counts = example.new_zeros(bottom - top, width)
    for logits, size, (left, upper, right, lower) in view:
        first, last = max(top, upper), min(bottom, lower)
        if first < last:
            rows = slice(first - top, last - top)
            sums[:, rows, left:right] += resize_rows(
                logits, (size, (lower - upper, right - left)), first - upper, last - upper
            )
            counts[rows, left:right] += 1
    return sums.div_(counts)


class _Part(NamedTuple):
    """What one pass of the network is about."""

    pixels: Tensor
    """(H, W, 3) uint8: the image, or with `ratio` 0 the whole of it as large as the network takes it."""
    flipped: bool
    box: Box
    """The part of the image."""
    ratio: float
    """Of the window's size in the network to its size in the image."""

    def input(self) -> Tensor:
        """The network's input before it is normalised, (3, h, w) uint8."""
        pixels = self.pixels.numpy()
        if self.ratio:
            left, upper, right, lower = self.box
            size = (right - left, lower - upper)
            pixels = TestResize(size, 1, self.ratio).resize(pixels[upper:lower, left:right])
        pixels = pixels[:, ::-1] if self.flipped else pixels
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _fetched(view: View) -> View:
    """The view with its logits on the CPU, fetched at once."""
    logits = torch.stack([window.logits for window in view]).cpu()
    return tuple(window._replace(logits=one) for window, one in zip(view, logits, strict=True))


def _answers(segmenter: Any, parts: Sequence[_Part], together: int) -> list[Window]:
    """The network's logits for parts whose inputs have one size."""
    config, device, windows = segmenter.config, device_of(segmenter), []
    normalize = normalization_on(device, tuple(config.mean), tuple(config.std))
    first = parts[0].input()
    together = together or inputs_at_once(device, first[0].numel())
    for start in range(0, len(parts), together):
        batch = parts[start : start + together]
        inputs = torch.stack([part.input() for part in batch]).to(device, non_blocking=True)
        logits = segmenter(normalize(inputs)).logits.float()
        for part, one in zip(batch, logits, strict=True):
            size = (first.shape[1], first.shape[2])
            windows.append(Window(one.flip(-1) if part.flipped else one, size, part.box))
    return windows


def _boxes(height: int, width: int, tile: int, overlap: float) -> list[Box]:
    """The windows that cover an image, row by row."""
    high, wide = (min(tile, height), min(tile, width)) if tile else (height, width)
    stride = max(1, round(tile * (1 - overlap)))
    tops, lefts = _starts(height, high, stride), _starts(width, wide, stride)
    return [(left, top, left + wide, top + high) for top in tops for left in lefts]


def _starts(length: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows that cover `length`; the last one ends at the border."""
    return [*range(0, length - window, stride), length - window]


def check_options(
    config: ModelConfig, ratios: Sequence[float], tile: int, overlap: float, max_pixels: int = MAX_PIXELS
) -> None:
    """Refuse options of `predict` that no image could be segmented with."""
    if max_pixels < 1:
        raise UserError(f"--max-pixels {max_pixels}: give 1 or more")
    if tile < 0 or 0 < tile < 32:
        raise UserError(f"--tile {tile}: give a window of 32 pixels or more, or 0 for the whole image")
    if not 0 <= overlap < 1:
        raise UserError(
            f"--overlap {overlap}: give 0 or more and less than 1; 0.25 shares a quarter of the side"
        )
    if not ratios or min(ratios) <= 0:
        raise UserError(f"ratios {tuple(ratios)!r}: give one factor or more, all above 0")
    if config.num_classes > 255:
        raise UserError(f"masks are 8-bit: at most 255 classes, and this model has {config.num_classes}")
