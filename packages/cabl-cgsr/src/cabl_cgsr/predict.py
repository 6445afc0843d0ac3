"""Judge many images: a folder of masks, maps, overlays and evidence sheets, and one JSON line per image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from cabl_cgsr.evidence import sheet
from cabl_cgsr.inference import Localization, predict
from cabl_cgsr.modeling.localizer import Localizer
from papers_shared.devices import device_of
from papers_shared.errors import UserError
from papers_shared.hub import open_model
from papers_shared.inputs import match_images, unique_names
from papers_shared.progress import Progress
from papers_shared.sam import make_refiner

if TYPE_CHECKING:
    from cabl_cgsr.options import PredictOptions

FOLDERS = {"mask": "masks", "cam": "cams", "overlay": "overlays", "sheet": "sheets"}


def predict_many(
    localizer: Localizer,
    paths: Sequence[Path],
    output: str | Path,
    *,
    model_name: str = "",
    overlay_side: int = 2048,
    **options: Any,
) -> list[dict[str, Any]]:
    """Judge images into `output`: masks/, cams/, overlays/ and sheets/ by name, and predictions.jsonl.

    A mask is a grey PNG of 0 and 255, a map one of 0 to 255, both at the image's own size; a sheet is one HTML file
    that needs nothing else. NAME is the image's name without suffix, with -2, -3, ... appended where images share it.

    An image that cannot be judged is reported on stderr, has an `error` in place of its results, and the rest goes on.

    Args:
        model_name: Only written into the records.
        overlay_side: Longest side of the overlays in pixels; 0: full size.
        options: Those of `cabl_cgsr.inference.predict`.

    Returns:
        The records.

    Raises:
        UserError: A result would overwrite an image.
    """
    output = Path(output)
    names = unique_names(paths)
    taken = {path.resolve() for path in paths}
    for folder in FOLDERS.values():
        if clash := {(output / folder / f"{name}.png").resolve() for name in names} & taken:
            raise UserError(f"{clash.pop()}: would be overwritten by its own result; choose another --output")
        (output / folder).mkdir(parents=True, exist_ok=True)
    records = []
    with (
        Progress(len(paths), unit="image") as progress,
        open(output / "predictions.jsonl", "w", encoding="utf-8") as lines,
    ):
        for index, (path, name) in enumerate(zip(paths, names, strict=True)):
            record: dict[str, Any] = {"file": str(path), "model": model_name}
            try:
                found = predict(localizer, path, **options)
            except (UserError, MemoryError, torch.OutOfMemoryError) as error:
                record["error"] = str(error) or "out of memory"
                progress.line(f"failed: {path}: {record['error']}")
            else:
                record |= found.to_json() | _write(found, output, name, overlay_side)
                page = sheet(found, file=str(path), model=model_name)
                (output / record["sheet"]).write_text(page, encoding="utf-8")
            records.append(record)
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
            lines.flush()
            progress.update(index + 1)
    return records


def _write(found: Localization, output: Path, name: str, overlay_side: int) -> dict[str, str]:
    """Save the images of a result; all files of it by kind."""
    suffixes = {"sheet": "html"}
    files = {kind: f"{folder}/{name}.{suffixes.get(kind, 'png')}" for kind, folder in FOLDERS.items()}
    Image.fromarray(found.mask.astype(np.uint8) * 255).save(output / files["mask"])
    Image.fromarray(np.rint(found.cam * 255).astype(np.uint8)).save(output / files["cam"])
    found.draw(max_side=overlay_side).save(output / files["overlay"])
    return files


def run(options: PredictOptions) -> int:
    """`cabl-cgsr predict`: 0, or 1 if an image failed."""
    paths = match_images(options.inputs)
    localizer = open_model(Localizer, options.model, options.device)
    refiner = None
    if options.refiner != "none":
        refiner = make_refiner(options.refiner, device=str(device_of(localizer)))
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
        precision=options.precision,
        max_pixels=options.max_pixels,
    )
    for record in records:
        if "error" not in record:
            print(f"{record['verdict']:<11}  {record['score']:.3f}  {record['file']}")
    failed = sum("error" in record for record in records)
    print(f"{len(records) - failed} of {len(records)} images judged: {options.output}/sheets, masks, cams,")
    print(f"overlays and predictions.jsonl{f'; {failed} failed, see there' if failed else ''}")
    return 1 if failed else 0
