"""`fanet predict`: many images to a folder of masks, overlays and JSON lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanet.config import MAX_PIXELS
from fanet.inference import MULTI_SCALE, check_options, describe_protocol, predict
from fanet.modeling.segmenter import Segmenter
from papers_shared.devices import choose_precision, device_of, use_precision
from papers_shared.hub import open_model
from papers_shared.inputs import match_images
from papers_shared.predictions import RECORDS, Item, Record, failures, predict_into
from papers_shared.provenance import check_trained
from papers_shared.types import AskedPrecision

if TYPE_CHECKING:
    from fanet.options import PredictOptions

FILES = {"mask": "masks/{}.png", "overlay": "overlays/{}.png"}


def predict_many(
    segmenter: Segmenter,
    paths: Sequence[Path],
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
        overwrite, skip_errors: As `papers_shared.predictions.predict_into` has them.

    Returns:
        The records of these images; the other options are those of `fanet.inference.predict`.

    Raises:
        UserError: An option out of range, or what `predict_into` raises.
    """
    fresh = check_trained(segmenter, untrained)
    check_options(segmenter.config, ratios, tile, overlap, max_pixels)
    output = Path(output)
    options: dict[str, Any] = {"flip": flip, "ratios": ratios, "tile": tile, "overlap": overlap}
    options["precision"] = choose_precision(precision, device_of(segmenter))

    def answer(items: Sequence[Item]) -> list[Record]:
        (item,) = items
        result = predict(segmenter, item.path, max_pixels=max_pixels, untrained=untrained, **options)
        files = {kind: pattern.format(item.name) for kind, pattern in FILES.items()}
        result.mask_image().save(output / files["mask"])
        result.draw(max_side=overlay_side).save(output / files["overlay"])
        height, width = result.mask.shape
        return [
            {"width": width, "height": height, "shares": result.shares, "untrained": list(fresh), **files}
            | {"precision": options["precision"]}
        ]

    return predict_into(
        output,
        [[Item(path)] for path in paths],
        answer,
        model=model_name,
        network=segmenter,
        protocol=describe_protocol(segmenter.config, **options),
        options={"overlay_side": overlay_side, "max_pixels": max_pixels},
        files=FILES,
        overwrite=overwrite,
        skip_errors=skip_errors,
    )


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
        overwrite=options.overwrite,
        skip_errors=options.skip_errors,
    )
    failed = failures(records)
    print(f"{len(records) - failed} of {len(records)} images segmented: {options.output}/masks, overlays and")
    print(f"{options.output}/{RECORDS}" + (f"; {failed} failed, see there" if failed else ""))
    return 1 if failed else 0
