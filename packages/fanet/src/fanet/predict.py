"""`fanet predict`: many images to a folder of masks, overlays and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fanet.config import MAX_PIXELS
from fanet.inference import MULTI_SCALE, Segmentation, describe_protocol, predict
from fanet.modeling.segmenter import Segmenter
from papers_shared.errors import UserError
from papers_shared.files import write_text
from papers_shared.hub import open_model
from papers_shared.inputs import match_images, unique_names
from papers_shared.progress import Progress
from papers_shared.types import Precision

if TYPE_CHECKING:
    from fanet.options import PredictOptions

RECORDS = "predictions.jsonl"


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
    precision: Precision = "no",
    overlay_side: int = 2048,
    max_pixels: int = MAX_PIXELS,
) -> list[dict[str, Any]]:
    """Segment images into `output`: masks/NAME.png, overlays/NAME.png, and one line each in predictions.jsonl.

    A mask is an 8-bit palette PNG at the image's own size: its values are class indices (PIL and the readers of this
    package see them; OpenCV expands the colours). NAME is the image's name without suffix, with -2, -3, ... appended
    where images share it. An image that cannot be segmented is reported on stderr, has an `error` in its record, and
    the rest goes on. Results of other images that the folder holds stay, and so do their records.

    Args:
        model_name: Is only written into the records.
        overlay_side: Longest side of the overlays in pixels; 0: as large as the image.

    Returns:
        The records of these images; the other options are those of `fanet.inference.predict`.
    """
    output = Path(output)
    kept = _other_records(output / RECORDS, paths)
    taken = [Path(record["mask"]) for record in kept if "mask" in record]
    names = unique_names([*taken, *paths])[len(taken) :]
    for folder in ("masks", "overlays"):
        written = {(output / folder / f"{name}.png").resolve() for name in names}
        if clash := written & {path.resolve() for path in paths}:
            raise UserError(f"{clash.pop()}: would be overwritten by its own result; choose another --output")
        (output / folder).mkdir(parents=True, exist_ok=True)
    write_text(output / RECORDS, "".join(map(_line, kept)))
    options: dict[str, Any] = {"flip": flip, "ratios": ratios, "tile": tile, "overlap": overlap}
    options["precision"] = precision
    protocol = describe_protocol(segmenter.config, **options)
    records = []
    with (
        Progress(len(paths), unit="image") as progress,
        open(output / RECORDS, "a", encoding="utf-8") as lines,
    ):
        for number, (path, name) in enumerate(zip(paths, names, strict=True), start=1):
            record: dict[str, Any] = {"file": str(path), "model": model_name, "protocol": protocol}
            try:
                result = predict(segmenter, path, max_pixels=max_pixels, **options)
            except (UserError, MemoryError, torch.OutOfMemoryError) as error:
                record["error"] = str(error) or "out of memory"
                progress.line(f"failed: {path}: {record['error']}")
            else:
                record |= _write(result, output, name, overlay_side)
            records.append(record)
            lines.write(_line(record))
            lines.flush()
            progress.update(number)
    return records


def run(options: PredictOptions) -> int:
    """`fanet predict`: 0, or 1 if an image failed."""
    paths = match_images(options.inputs)
    records = predict_many(
        open_model(Segmenter, options.model, options.device),
        paths,
        options.output,
        model_name=options.model,
        flip=options.flip,
        ratios=MULTI_SCALE if options.multi_scale else (1.0,),
        tile=options.tile,
        overlap=options.overlap,
        precision=options.precision,
        overlay_side=options.overlay_side,
        max_pixels=options.max_pixels,
    )
    failed = sum("error" in record for record in records)
    print(f"{len(records) - failed} of {len(records)} images segmented: {options.output}/masks, overlays and")
    print(f"{options.output}/{RECORDS}" + (f"; {failed} failed, see there" if failed else ""))
    return 1 if failed else 0


def _other_records(file: Path, paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The records in `file` of other images than `paths`."""
    if not file.is_file():
        return []
    try:
        records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        own = {path.resolve() for path in paths}
        return [record for record in records if Path(record["file"]).resolve() not in own]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} does not hold records of predictions: choose another --output") from error


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _write(result: Segmentation, output: Path, name: str, overlay_side: int) -> dict[str, Any]:
    files = {"mask": f"masks/{name}.png", "overlay": f"overlays/{name}.png"}
    result.mask_image().save(output / files["mask"])
    result.draw(max_side=overlay_side).save(output / files["overlay"])
    height, width = result.mask.shape
    return {"width": width, "height": height, "shares": result.shares, **files}
