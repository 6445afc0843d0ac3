"""`fanet predict`: many images to a folder of masks, overlays, tables and a page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch import Tensor

from fanet.config import MAX_PIXELS, ModelConfig
from fanet.data.pixels import one_thread_in_workers
from fanet.drawing import class_palette
from fanet.inference import (
    MULTI_SCALE,
    Prepared,
    Segmentation,
    check_options,
    class_map,
    describe_protocol,
    network_views,
    prepare,
)
from fanet.modeling.segmenter import Segmenter
from papers_shared.batches import Group, Item, Loaded, Record, Steps
from papers_shared.devices import choose_precision, device_of, use_precision
from papers_shared.hub import open_model
from papers_shared.images import load_image
from papers_shared.inputs import match_images
from papers_shared.predictions import RECORDS, failures, predict_into
from papers_shared.provenance import check_trained
from papers_shared.types import AskedPrecision

if TYPE_CHECKING:
    from fanet.options import PredictOptions

FILES = {"mask": "masks/{}.png", "overlay": "overlays/{}.png"}


def predict_many(
    segmenter: Segmenter,
    images: Sequence[Path | Item],
    output: str | Path = "predictions",
    *,
    model_name: str = "",
    flip: bool = False,
    ratios: Sequence[float] = (1.0,),
    tile: int = 0,
    overlap: float = 0.25,
    precision: AskedPrecision = "auto",
    overlay_side: int = 2048,
    max_pixels: int = MAX_PIXELS,
    untrained: bool = False,
    batch_size: int = 0,
    workers: int = 0,
    overwrite: bool = False,
    skip_errors: bool = False,
) -> list[Record]:
    """Segment images into `output`: masks/NAME.png, overlays/NAME.png, and one line each in predictions.jsonl.

    A mask is an 8-bit palette PNG at the image's own size: its values are class indices (PIL and the readers of this
    package see them; OpenCV expands the colours). NAME is the image's name without suffix, with -2, -3, ... appended
    where images share it. An image that cannot be segmented is reported on stderr, has an `error` in its record, and
    the rest goes on. Images that the folder holds already are not segmented again; other images' results stay.

    Args:
        model_name: Is only written into the records.
        overlay_side: Longest side of the overlays in pixels; 0: as large as the image.
        batch_size, workers, overwrite, skip_errors: As `papers_shared.predictions.predict_into` has them. What goes
            through the network together has one size; the answers are those of `fanet.inference.predict` but for
            float32 rounding, which can change the class of a pixel where two are equally likely.

    Returns:
        The records of these images; the other options are those of `fanet.inference.predict`.

    Raises:
        UserError: An option out of range, or what `predict_into` raises.
    """
    fresh = check_trained(segmenter, untrained)
    config = segmenter.config
    check_options(config, ratios, tile, overlap, max_pixels)
    output, palette = Path(output), class_palette(config.class_names, config.palette)
    options: dict[str, Any] = {"flip": flip, "ratios": ratios, "tile": tile, "overlap": overlap}
    options["precision"] = choose_precision(precision, device_of(segmenter))
    protocol = describe_protocol(config, **options)

    def answer(batch: Sequence[tuple[Group, Prepared]]) -> list[list[tuple[Tensor, np.ndarray]]]:
        images = [image for _, image in batch]
        found = network_views(segmenter, images, **options, together=batch_size)
        masks = [
            class_map(views, *image.pixels.shape[:2]) for views, image in zip(found, images, strict=True)
        ]
        return [[(image.pixels, mask.cpu().numpy())] for image, mask in zip(images, masks, strict=True)]

    def write(item: Item, answer: tuple[Tensor, np.ndarray]) -> Record:
        pixels, mask = answer
        image = Image.fromarray(pixels.numpy())
        result = Segmentation(image, mask, config.class_names, palette, protocol, (), fresh)
        files = {kind: pattern.format(item.name) for kind, pattern in FILES.items()}
        result.mask_image().save(output / files["mask"])
        result.draw(max_side=overlay_side).save(output / files["overlay"])
        height, width = mask.shape
        return {
            "width": width,
            "height": height,
            "shares": result.shares,
            "untrained": list(fresh),
            "precision": options["precision"],
        } | files

    return predict_into(
        output,
        [[image if isinstance(image, Item) else Item(image)] for image in images],
        Steps(_Reader(config, tuple(ratios), tile, max_pixels), answer, write),
        model=model_name,
        network=segmenter,
        protocol=protocol,
        options={"overlay_side": overlay_side, "max_pixels": max_pixels},
        files=FILES,
        batch_size=batch_size,
        workers=workers,
        overwrite=overwrite,
        skip_errors=skip_errors,
    )


@dataclass(frozen=True)
class _Reader:
    """Decodes and resizes images; loader processes get a copy of it."""

    config: ModelConfig
    ratios: tuple[float, ...]
    tile: int
    max_pixels: int

    def __call__(self, group: Group) -> Loaded:
        one_thread_in_workers(os.getpid())
        pixels = np.asarray(load_image(group[0].source, max_pixels=self.max_pixels))
        image = prepare(pixels, self.config, ratios=self.ratios, tile=self.tile)
        inputs = tuple((resized.shape[0], resized.shape[1]) for resized in image.resized)
        size = image.pixels.nbytes + sum(resized.nbytes for resized in image.resized)
        return Loaded(image, inputs, size)


def run(options: PredictOptions) -> int:
    """`fanet predict`: 0, or 1 if an image failed."""
    segmenter = open_model(Segmenter, options.model, options.device)
    records = predict_many(
        segmenter,
        match_images(options.inputs),
        options.output,
        model_name=options.model,
        flip=options.flip,
        ratios=MULTI_SCALE if options.multi_scale else (1.0,),
        tile=options.tile,
        overlap=options.overlap,
        precision=use_precision(options.precision, device_of(segmenter)),
        overlay_side=options.overlay_side,
        max_pixels=options.max_pixels,
        untrained=options.untrained,
        batch_size=options.batch_size,
        workers=options.workers,
        overwrite=options.overwrite,
        skip_errors=options.skip_errors,
    )
    failed = failures(records)
    print(f"{len(records) - failed} of {len(records)} images segmented: {options.output}/masks, overlays and")
    print(f"{options.output}/{RECORDS}" + (f"; {failed} failed, see there" if failed else ""))
    return 1 if failed else 0
