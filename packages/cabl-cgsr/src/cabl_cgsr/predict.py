"""Judge many images: a folder of masks, maps, overlays and evidence sheets, and one JSON line per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cabl_cgsr.config import ModelConfig, one_scale
from cabl_cgsr.evidence import sheet
from cabl_cgsr.inference import (
    CALLS,
    ViewMaps,
    check_options,
    describe_protocol,
    judge,
    network_maps,
    prepare_views,
)
from cabl_cgsr.modeling.localizer import Localizer
from papers_shared.batches import Group, Item, Loaded, Steps, item_of
from papers_shared.compiling import speed_up
from papers_shared.devices import choose_precision, device_of, use_precision
from papers_shared.entries import one_line
from papers_shared.files import write_text
from papers_shared.hub import open_model
from papers_shared.images import MAX_PIXELS, load_image
from papers_shared.inputs import match_items
from papers_shared.predictions import RECORDS, Product, failures, predict_into
from papers_shared.provenance import check_trained
from papers_shared.results import PARTS, Column, Record
from papers_shared.sam import PromptedSegmenter, make_refiner
from papers_shared.summary import save_small, write_summary
from papers_shared.tables import check_parquet, write_parquet, write_results
from papers_shared.types import AskedPrecision

if TYPE_CHECKING:
    from cabl_cgsr.options import PredictOptions

FILES = {
    "mask": "masks/{}.png",
    "cam": "cams/{}.png",
    "overlay": "overlays/{}.png",
    "small": "small/{}.jpg",
    "sheet": "sheets/{}.html",
}


def predict_many(
    localizer: Localizer,
    images: Sequence[Path | Item],
    output: str | Path,
    *,
    model_name: str = "",
    overlay_side: int = 2048,
    refiner: PromptedSegmenter | str | None = "grabcut",
    always_refine: bool = False,
    fast: bool = False,
    config: ModelConfig | None = None,
    threshold: float | None = None,
    precision: AskedPrecision = "auto",
    max_pixels: int = MAX_PIXELS,
    untrained: bool = False,
    parquet: bool = False,
    batch_size: int = 0,
    workers: int = 0,
    overwrite: bool = False,
    skip_errors: bool = False,
) -> list[Record]:
    """Judge images into `output`: masks/, cams/, overlays/ and sheets/ by name, and one line each in predictions.jsonl;
    about all of them predictions.csv and the page predictions.html.

    A mask is a grey PNG of 0 and 255, a map a 16-bit one of 0 to 65,535, both at the image's own size; a sheet is one
    HTML file that needs nothing else. NAME is the image's name without suffix, with -2, -3, ... appended where images
    share it.

    An image that cannot be judged is reported on stderr, has an `error` in place of its results, and the rest goes on.
    Images that the folder holds already are not judged again; other images' results stay.

    Args:
        model_name: Only written into the records.
        overlay_side: Longest side of the overlays in pixels; 0: full size.
        parquet: Write the records to predictions.parquet too.
        batch_size, workers, overwrite, skip_errors: As `papers_shared.predictions.predict_into` has them. The answers
            of images that go through the network together are those of each alone but for float32 rounding.

    Returns:
        The records; the other options are those of `cabl_cgsr.inference.predict`.

    Raises:
        UserError: An option out of range, or what `predict_into` raises.
    """
    output = Path(output)
    config = one_scale(config or localizer.config) if fast else config or localizer.config
    fresh = check_trained(localizer, untrained)
    check_options(threshold, max_pixels)
    computed = choose_precision(precision, device_of(localizer))
    if isinstance(refiner, str):
        refiner = make_refiner(refiner, device=str(device_of(localizer)), precision=computed)

    def answer(batch: Sequence[tuple[Group, _Prepared]]) -> list[list[tuple[Tensor, ViewMaps]]]:
        images = [image for _, image in batch]
        views = [torch.stack(view) for view in zip(*(image.views for image in images), strict=True)]
        sizes = [(image.pixels.shape[0], image.pixels.shape[1]) for image in images]
        maps = network_maps(localizer, views, sizes, config, computed)
        return [[(image.pixels, found)] for image, found in zip(images, maps, strict=True)]

    def write(item: Item, answer: tuple[Tensor, ViewMaps]) -> Record:
        pixels, maps = answer
        found = judge(
            Image.fromarray(pixels.numpy()),
            maps,
            config,
            refiner=refiner,
            always_refine=always_refine,
            threshold=threshold,
            precision=computed,
            untrained=fresh,
        )
        files = {kind: pattern.format(item.name) for kind, pattern in FILES.items()}
        Image.fromarray(found.mask.astype(np.uint8) * 255).save(output / files["mask"])
        found.map_image().save(output / files["cam"])
        drawn = found.draw(max_side=overlay_side)
        drawn.save(output / files["overlay"])
        save_small(drawn, output / files["small"])
        write_text(output / files["sheet"], sheet(found, file=item.file, model=model_name))
        return found.to_json() | files | {"precision": computed}

    return predict_into(
        output,
        [[item_of(image)] for image in images],
        Steps(_Reader(config, max_pixels), answer, write),
        model=model_name,
        network=localizer,
        protocol=describe_protocol(config, computed),
        options={
            "refiner": None if refiner is None else refiner.name,
            "always_refine": always_refine,
            "threshold": threshold,
            "overlay_side": overlay_side,
        },
        files=FILES,
        products=_products(parquet),
        asked=PARTS,
        batch_size=batch_size,
        workers=workers,
        overwrite=overwrite,
        skip_errors=skip_errors,
    )


def _products(parquet: bool) -> dict[str, Product]:
    """What is written about all records of a folder."""
    names = ("verdict", "probability", "score", "mask_share")
    columns: dict[str, Column] = {name: itemgetter(name) for name in names}

    def page(path: Path, records: Sequence[Record]) -> None:
        lead = "What a classifier that learned from image labels says: a hint to follow, no proof."
        write_summary(
            path,
            records,
            columns={name.replace("_", " "): cell for name, cell in columns.items()},
            label=itemgetter("verdict"),
            lead=lead,
            large="sheet",
        )

    check_parquet(parquet)
    products: dict[str, Product] = {
        "predictions.html": page,
        "predictions.csv": partial(write_results, columns=columns),
    }
    if parquet:
        products["predictions.parquet"] = write_parquet
    return products


class _Prepared(NamedTuple):
    pixels: Tensor
    """(H, W, 3) uint8 RGB, upright."""
    views: list[Tensor]
    """For each size of the maps the network's input, (3, s, s)."""


@dataclass(frozen=True)
class _Reader:
    """Decodes and resizes images; loader processes get a copy of it."""

    config: ModelConfig
    max_pixels: int

    def __call__(self, group: Group) -> Loaded:
        image = load_image(group[0].source, max_pixels=self.max_pixels)
        prepared = _Prepared(torch.tensor(np.asarray(image)), prepare_views(image, self.config))
        inputs = tuple((view.shape[-2], view.shape[-1]) for view in prepared.views)
        return Loaded(prepared, inputs, prepared.pixels.nbytes + sum(view.nbytes for view in prepared.views))


def run(options: PredictOptions) -> int:
    """`cabl-cgsr predict`: 0, or 1 if an image failed."""
    images = match_items(options.inputs)
    localizer = open_model(Localizer, options.model, options.device)
    precision = use_precision(options.precision, device_of(localizer))
    speed_up(localizer, precision, compiled=options.compile, graphs=options.cuda_graphs, calls=CALLS)
    refiner = None
    if options.refiner != "none":
        refiner = make_refiner(options.refiner, device=str(device_of(localizer)), precision=precision)
    records = predict_many(
        localizer,
        images,
        options.output,
        model_name=options.model,
        overlay_side=options.overlay_side,
        refiner=refiner,
        always_refine=options.always_refine,
        config=options.config_for(localizer.config),
        threshold=options.threshold,
        precision=precision,
        max_pixels=options.max_pixels,
        untrained=options.untrained,
        parquet=options.format == "parquet",
        batch_size=options.batch_size,
        workers=options.workers,
        overwrite=options.overwrite,
        skip_errors=options.skip_errors,
    )
    for record in records:
        if "error" not in record:
            print(f"{record['verdict']:<11}  {record['probability']:.3f}  {one_line(record['file'])}")
    failed = failures(records)
    print(f"{len(records) - failed} of {len(records)} images judged: {options.output}/sheets, masks, cams,")
    print(f"overlays, {RECORDS} and predictions.html{f'; {failed} failed, see there' if failed else ''}")
    return 1 if failed else 0
