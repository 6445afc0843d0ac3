"""Segment pictures: one to a `Segmentation`, many to a folder of masks, overlays and JSON lines.

Protocol of the paper (its authors' test pipeline): one scale, no flip; keep-ratio resize to the test scale,
resize up to multiples of 32, the whole picture through the network; logits brought to the network's input
size and from there to the picture's own size, both bilinear; softmax, argmax.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fanet.logits import network_logits, resize_bands, tile_bands
from fanet.modeling.segmenter import Segmenter
from fanet.options import Device, Precision, PredictOptions
from fanet.transforms import prepare_image
from papers_shared.errors import UserError
from papers_shared.images import legend, load_image, overlay, palette_for
from papers_shared.inputs import match_pictures, unique_names
from papers_shared.runs import Progress


@dataclass(eq=False)
class Segmentation:
    """What the network sees in one picture; all arrays have the picture's own size (after EXIF rotation)."""

    image: Image.Image
    """The picture, RGB, upright."""
    mask: np.ndarray
    """(H, W) uint8, class index per pixel."""
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    logit_bands: Callable[[], Iterator[Tensor]]
    """Yields bands of logits (num_classes, rows, W) from the top, each valid until the next is taken."""

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(num_classes, H, W) float32, softmax over the classes.

        Computed when first asked for, as it takes 4 * num_classes bytes per pixel; with `tile` this runs the
        network over the picture again.
        """
        height, width = self.mask.shape
        probabilities = np.empty((len(self.class_names), height, width), np.float32)
        top = 0
        for logits in self.logit_bands():
            rows = logits.shape[1]
            probabilities[:, top : top + rows] = logits.softmax(0).cpu().numpy()
            top += rows
        return probabilities

    @property
    def shares(self) -> dict[str, float]:
        """Share of the pixels of each class, in [0, 1]."""
        counts = Image.fromarray(self.mask).histogram()
        return {name: counts[index] / self.mask.size for index, name in enumerate(self.class_names)}

    def draw(self, *, alpha: float = 0.5, max_side: int = 0) -> Image.Image:
        """The picture under the colours of its classes, with a legend; `max_side` > 0 shrinks it first."""
        image, mask = self.image, Image.fromarray(self.mask)
        if max_side and max(image.size) > max_side:
            factor = max_side / max(image.size)
            size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
            image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
            mask = mask.resize(size, Image.Resampling.NEAREST)
        drawn = overlay(image, np.asarray(mask), self.palette, alpha=alpha)
        return legend(drawn, self.class_names, self.palette)

    def mask_image(self) -> Image.Image:
        """The mask as a palette image: values are the class indices, viewers show the class colours."""
        image = Image.fromarray(self.mask)
        image.putpalette([channel for colour in self.palette for channel in colour])
        return image


def predict(
    segmenter: Segmenter,
    image: Image.Image | np.ndarray | str | Path,
    *,
    tile: int = 0,
    overlap: float = 0.25,
    precision: Precision = "no",
    max_pixels: int = PredictOptions.max_pixels,
) -> Segmentation:
    """Segment one picture (a path, a Pillow picture or (H, W, 3) uint8 RGB) on the segmenter's device.

    `tile` = 0 is the paper's protocol (see the module). `tile` = N slides an N x N window over the picture at
    its native resolution; windows share `overlap` of their side, and their logits are averaged.

    Memory beside the network and the (H, W) mask: the decoded picture three times (9 bytes per pixel) while it
    is prepared; of logits at the picture's size, for a whole picture one band of at most 64 MiB (or one row),
    for tiles one row of windows (4 * num_classes * N * W bytes, and as much again to work on them).

    Raises:
        UserError: unreadable picture, more than `max_pixels` pixels, bad `tile` or `overlap`.
    """
    if tile < 0 or 0 < tile < 32:
        raise UserError(
            f"tile: {tile} pixels is too small for a window; give 32 or more, or 0 for the whole picture"
        )
    if not 0 <= overlap < 1:
        raise UserError(
            f"overlap: {overlap} is not in [0, 1); 0.25 lets neighbouring windows share a quarter"
        )
    config = segmenter.config
    if config.num_classes > 255:
        raise UserError(
            f"masks are 8 bit: a model of {config.num_classes} classes has no room, 255 is the most"
        )
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    picture = load_image(image, max_pixels=max_pixels)
    width, height = picture.size

    if tile:

        def logit_bands() -> Iterator[Tensor]:
            return tile_bands(segmenter, picture, tile, overlap, precision)

    else:
        logits = network_logits(segmenter, prepare_image(np.asarray(picture), config), precision)

        def logit_bands() -> Iterator[Tensor]:
            return resize_bands(logits, height, width)

    mask = np.empty((height, width), np.uint8)
    top = 0
    for band in logit_bands():
        rows = band.shape[1]
        mask[top : top + rows] = band.max(0).indices.to(torch.uint8).cpu().numpy()
        top += rows
    palette = palette_for(config.num_classes, config.palette)
    return Segmentation(picture, mask, config.class_names, palette, logit_bands)


def predict_many(
    segmenter: Segmenter,
    paths: Sequence[Path],
    output: str | Path,
    *,
    model: str = "",
    tile: int = 0,
    overlap: float = 0.25,
    overlay_side: int = 2048,
    precision: Precision = "no",
    max_pixels: int = PredictOptions.max_pixels,
) -> list[dict[str, Any]]:
    """Segment pictures into `output`: masks/NAME.png, overlays/NAME.png, and one line each in
    predictions.jsonl.

    A mask is an 8-bit palette PNG at the picture's own size: its values are class indices (PIL and the
    readers of this package see them; OpenCV expands the colours). NAME is the picture's name without suffix,
    with -2, -3, ... appended where pictures share it. `model` is only written into the records.

    A picture that cannot be segmented is reported on stderr, has an `error` in place of its figures, and the
    rest goes on. Returns the records.
    """
    output = Path(output)
    names = unique_names(paths)
    for folder in ("masks", "overlays"):
        written = {(output / folder / f"{name}.png").resolve() for name in names}
        if clash := written & {path.resolve() for path in paths}:
            raise UserError(f"{clash.pop()}: would be overwritten by its own result; choose another --output")
        (output / folder).mkdir(parents=True, exist_ok=True)
    protocol = describe_protocol(segmenter, tile=tile, overlap=overlap, precision=precision)
    records = []
    progress = Progress(len(paths), unit="picture")
    with open(output / "predictions.jsonl", "w", encoding="utf-8") as lines:
        for index, (path, name) in enumerate(zip(paths, names, strict=True)):
            record: dict[str, Any] = {"file": str(path), "model": model, "protocol": protocol}
            try:
                result = predict(
                    segmenter, path, tile=tile, overlap=overlap, precision=precision, max_pixels=max_pixels
                )
            except (UserError, MemoryError, torch.OutOfMemoryError) as error:
                record["error"] = str(error) or "out of memory"
                progress.line(f"failed: {path}: {record['error']}")
            else:
                record |= _write(result, output, name, overlay_side)
            records.append(record)
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
            lines.flush()
            progress.update(index + 1)
    progress.close()
    return records


def _write(result: Segmentation, output: Path, name: str, overlay_side: int) -> dict[str, Any]:
    files = {"mask": f"masks/{name}.png", "overlay": f"overlays/{name}.png"}
    result.mask_image().save(output / files["mask"])
    result.draw(max_side=overlay_side).save(output / files["overlay"])
    height, width = result.mask.shape
    return {"width": width, "height": height, "shares": result.shares, **files}


def describe_protocol(segmenter: Segmenter, *, tile: int, overlap: float, precision: Precision) -> str:
    """The sentence that goes with every result."""
    config = segmenter.config
    numbers = "float32" if precision == "no" else precision
    if tile:
        return (
            f"windows of {tile}x{tile} pixels at native resolution, {overlap:g} of their side shared, logits"
            f" resized bilinearly to the window and averaged; softmax, argmax; {numbers}"
        )
    long, short = config.test_scale
    return (
        f"one scale, no flip: keep-ratio resize within {long}x{short}, resize up to multiples of"
        f" {config.test_divisor}, logits to the network's input size, then to the original size (bilinear),"
        f" softmax, argmax; {numbers}"
    )


def open_segmenter(model: str, device: Device = "auto") -> Segmenter:
    """A trained model from a folder or the Hub, in eval mode on `device`."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; use --device cpu, or auto")
    chosen = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    return Segmenter.from_pretrained(model, device=chosen).eval()


def run(options: PredictOptions) -> int:
    """`fanet predict`: 0, or 1 if a picture failed."""
    paths = match_pictures(options.inputs)
    records = predict_many(
        open_segmenter(options.model, options.device),
        paths,
        options.output,
        model=options.model,
        tile=options.tile,
        overlap=options.overlap,
        overlay_side=options.overlay_side,
        precision=options.precision,
        max_pixels=options.max_pixels,
    )
    failed = sum("error" in record for record in records)
    print(
        f"{len(records) - failed} of {len(records)} pictures segmented: {options.output}/masks, overlays and"
    )
    print(f"{options.output}/predictions.jsonl" + (f"; {failed} failed, see there" if failed else ""))
    return 1 if failed else 0
