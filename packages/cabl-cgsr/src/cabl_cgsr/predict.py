"""Judge many images: a folder of masks, maps, overlays and evidence sheets, and one JSON line per image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cabl_cgsr.config import ModelConfig, one_scale
from cabl_cgsr.evidence import sheet
from cabl_cgsr.inference import check_options, describe_protocol, predict
from cabl_cgsr.modeling.localizer import Localizer
from papers_shared.devices import choose_precision, device_of, use_precision
from papers_shared.entries import one_line
from papers_shared.files import write_text
from papers_shared.hub import open_model
from papers_shared.images import MAX_PIXELS
from papers_shared.inputs import match_images
from papers_shared.predictions import RECORDS, Item, Record, failures, predict_into
from papers_shared.provenance import check_trained
from papers_shared.sam import PromptedSegmenter, make_refiner
from papers_shared.types import AskedPrecision

if TYPE_CHECKING:
    from cabl_cgsr.options import PredictOptions

FILES = {
    "mask": "masks/{}.png",
    "cam": "cams/{}.png",
    "overlay": "overlays/{}.png",
    "sheet": "sheets/{}.html",
}


def predict_many(
    localizer: Localizer,
    paths: Sequence[Path],
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
    overwrite: bool = False,
    skip_errors: bool = False,
) -> list[Record]:
    """Judge images into `output`: masks/, cams/, overlays/ and sheets/ by name, and predictions.jsonl.

    A mask is a grey PNG of 0 and 255, a map one of 0 to 255, both at the image's own size; a sheet is one HTML file
    that needs nothing else. NAME is the image's name without suffix, with -2, -3, ... appended where images share it.

    An image that cannot be judged is reported on stderr, has an `error` in place of its results, and the rest goes on.
    Images that the folder holds already are not judged again; other images' results stay.

    Args:
        model_name: Only written into the records.
        overlay_side: Longest side of the overlays in pixels; 0: full size.
        overwrite, skip_errors: As `papers_shared.predictions.predict_into` has them.

    Returns:
        The records; the other options are those of `cabl_cgsr.inference.predict`.

    Raises:
        UserError: An option out of range, or what `predict_into` raises.
    """
    output = Path(output)
    config = one_scale(config or localizer.config) if fast else config or localizer.config
    check_trained(localizer, untrained)
    check_options(threshold, max_pixels)
    computed = choose_precision(precision, device_of(localizer))
    if isinstance(refiner, str):
        refiner = make_refiner(refiner, device=str(device_of(localizer)), precision=computed)
    options: dict[str, Any] = {"refiner": refiner, "always_refine": always_refine, "config": config}
    options |= {
        "threshold": threshold,
        "precision": computed,
        "max_pixels": max_pixels,
        "untrained": untrained,
    }

    def answer(items: Sequence[Item]) -> list[Record]:
        (item,) = items
        found = predict(localizer, item.path, **options)
        files = {kind: pattern.format(item.name) for kind, pattern in FILES.items()}
        Image.fromarray(found.mask.astype(np.uint8) * 255).save(output / files["mask"])
        Image.fromarray(np.rint(found.cam * 255).astype(np.uint8)).save(output / files["cam"])
        found.draw(max_side=overlay_side).save(output / files["overlay"])
        write_text(output / files["sheet"], sheet(found, file=item.file, model=model_name))
        return [found.to_json() | files | {"precision": computed}]

    return predict_into(
        output,
        [[Item(path)] for path in paths],
        answer,
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
        overwrite=overwrite,
        skip_errors=skip_errors,
    )


def run(options: PredictOptions) -> int:
    """`cabl-cgsr predict`: 0, or 1 if an image failed."""
    paths = match_images(options.inputs)
    localizer = open_model(Localizer, options.model, options.device)
    precision = use_precision(options.precision, device_of(localizer))
    refiner = None
    if options.refiner != "none":
        refiner = make_refiner(options.refiner, device=str(device_of(localizer)), precision=precision)
    records = predict_many(
        localizer,
        paths,
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
        overwrite=options.overwrite,
        skip_errors=options.skip_errors,
    )
    for record in records:
        if "error" not in record:
            print(f"{record['verdict']:<11}  {record['probability']:.3f}  {one_line(record['file'])}")
    failed = failures(records)
    print(f"{len(records) - failed} of {len(records)} images judged: {options.output}/sheets, masks, cams,")
    print(f"overlays and {RECORDS}{f'; {failed} failed, see there' if failed else ''}")
    return 1 if failed else 0
