"""`fanet predict`: many images to a folder of masks, overlays, tables and a page."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
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
from fanet.video import VIDEO_SUFFIXES, video_items
from papers_shared.batches import Group, Item, Loaded, Steps, item_of
from papers_shared.coco import Annotation, Form, annotate, write_coco
from papers_shared.compiling import speed_up
from papers_shared.devices import choose_precision, device_of, use_precision
from papers_shared.hub import open_model
from papers_shared.images import load_image
from papers_shared.inputs import match_items
from papers_shared.pages import chips
from papers_shared.predictions import RECORDS, Product, failures, predict_into
from papers_shared.provenance import check_trained
from papers_shared.results import PARTS, Column, Record
from papers_shared.summary import SIDE, save_small, write_summary
from papers_shared.tables import check_parquet, write_parquet, write_results
from papers_shared.types import AskedPrecision

if TYPE_CHECKING:
    from fanet.options import PredictOptions

FILES = {"mask": "masks/{}.png", "overlay": "overlays/{}.png", "small": "small/{}.jpg"}
MOST_COLUMNS = 12
"""Classes that the page has a column for; the table has all."""


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
    coco: Form | None = None,
    parquet: bool = False,
    batch_size: int = 0,
    workers: int = 0,
    overwrite: bool = False,
    skip_errors: bool = False,
) -> list[Record]:
    """Segment images into `output`: masks/NAME.png, overlays/NAME.png, and one line each in predictions.jsonl; about
    all of them predictions.csv, with the share of each class, and the page predictions.html.

    A mask is an 8-bit palette PNG at the image's own size: its values are class indices (PIL and the readers of this
    package see them; OpenCV expands the colours). NAME is the image's name without suffix, with -2, -3, ... appended
    where images share it. An image that cannot be segmented is reported on stderr, has an `error` in its record, and
    the rest goes on. Images that the folder holds already are not segmented again; other images' results stay.

    Args:
        model_name: Is only written into the records.
        overlay_side: Longest side of the overlays in pixels; 0: as large as the image.
        coco: Write the classes of all images to predictions.coco.json too, in this form (`papers_shared.coco`).
        parquet: Write the records to predictions.parquet too.
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
        save_small(result.draw(max_side=SIDE, legend=False), output / files["small"])
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
        [[item_of(image)] for image in images],
        Steps(_Reader(config, tuple(ratios), tile, max_pixels), answer, write),
        model=model_name,
        network=segmenter,
        protocol=protocol,
        options={"overlay_side": overlay_side, "max_pixels": max_pixels},
        files=FILES,
        products=_products(config, coco, parquet),
        asked=PARTS,
        batch_size=batch_size,
        workers=workers,
        overwrite=overwrite,
        skip_errors=skip_errors,
    )


def _products(config: ModelConfig, coco: Form | None, parquet: bool) -> dict[str, Product]:
    """What is written about all records of a folder."""

    def largest(record: Record) -> str:
        return max(record["shares"], key=record["shares"].__getitem__)

    def share_of(name: str) -> Column:
        return lambda record: record["shares"][name]

    def page(path: Path, records: Sequence[Record]) -> None:
        size: dict[str, Column] = {"size": lambda record: f"{record['width']} x {record['height']}"}
        columns = size | {name: share_of(name) for name in config.class_names[:MOST_COLUMNS]}
        lead = "Classes under the image, and the share of its pixels that each has. The filter knows the largest one."
        colours = class_palette(config.class_names, config.palette)
        key = f'<p class="chips">{chips(list(zip(config.class_names, colours, strict=True)))}</p>'
        write_summary(path, records, columns=columns, label=largest, lead=lead, key=key)

    def table(path: Path, records: Sequence[Record]) -> None:
        sides: dict[str, Column] = {name: itemgetter(name) for name in ("width", "height")}
        write_results(path, records, sides | {name: share_of(name) for name in config.class_names})

    def coco_file(path: Path, records: Sequence[Record]) -> None:
        done = [record for record in records if "error" not in record]
        images = [
            {"id": number, "file_name": record["file"], "width": record["width"], "height": record["height"]}
            | {name: record[name] for name in PARTS if name in record}
            for number, record in enumerate(done, start=1)
        ]
        found = (
            one
            for number, record in enumerate(done, start=1)
            for one in _annotations(path.parent / record["mask"], coco or "rle", number)
        )
        write_coco(path, images, found, config.class_names, "classes predicted by fanet")

    check_parquet(parquet)
    products: dict[str, Product] = {"predictions.html": page, "predictions.csv": table}
    if coco:
        products["predictions.coco.json"] = coco_file
    if parquet:
        products["predictions.parquet"] = write_parquet
    return products


def _annotations(mask: Path, form: Form, image: int) -> Iterator[Annotation]:
    """Those of the classes in a mask."""
    classes = np.asarray(Image.open(mask))
    for number in np.unique(classes):
        yield from annotate(classes == number, form, image_id=image, category_id=int(number))


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
    precision = use_precision(options.precision, device_of(segmenter))
    speed_up(segmenter, precision, compiled=options.compile, graphs=options.cuda_graphs)
    records = predict_many(
        segmenter,
        match_items(options.inputs, dict.fromkeys(VIDEO_SUFFIXES, partial(video_items, every=options.every))),
        options.output,
        model_name=options.model,
        flip=options.flip,
        ratios=MULTI_SCALE if options.multi_scale else (1.0,),
        tile=options.tile,
        overlap=options.overlap,
        precision=precision,
        overlay_side=options.overlay_side,
        max_pixels=options.max_pixels,
        untrained=options.untrained,
        coco=None if options.coco == "none" else options.coco,
        parquet=options.format == "parquet",
        batch_size=options.batch_size,
        workers=options.workers,
        overwrite=options.overwrite,
        skip_errors=options.skip_errors,
    )
    failed = failures(records)
    print(f"{len(records) - failed} of {len(records)} images segmented: {options.output}/masks, overlays,")
    print(f"{RECORDS} and predictions.html" + (f"; {failed} failed, see there" if failed else ""))
    return 1 if failed else 0
