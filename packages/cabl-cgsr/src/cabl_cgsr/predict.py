"""Judge pictures: one to a `Localization`, many to a folder of masks, maps, overlays, evidence sheets and JSON.

Protocol of the paper: squares of 256, 512 and 768 pixels, each mirrored too; the image score is the mean of both
branches' probabilities over all of them; the aggregated map becomes a coarse mask, its largest component a box
and its extremes two points, and a prompted segmenter answers with the mask.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cabl_cgsr.drawing import cam_picture, draw_mask, draw_prompts, shrink
from cabl_cgsr.inference import localize, network_maps, prepare_views, prompts_of, refine
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.options import Device, Precision, PredictOptions
from cabl_cgsr.overrides import one_scale, with_changes
from cabl_cgsr.prompts import Prompts
from papers_shared.errors import UserError
from papers_shared.images import MAX_PIXELS, load_image, side_by_side
from papers_shared.inputs import match_pictures, unique_names
from papers_shared.runs import Progress
from papers_shared.sam import PromptedSegmenter, make_refiner


@dataclass(eq=False)
class Localization:
    """What the model says about one picture; arrays are (H, W), of the picture's own size after EXIF rotation."""

    image: Image.Image
    """The picture, RGB, upright."""
    score: float
    """In [0, 1], higher = manipulated."""
    threshold: float
    """The picture is judged manipulated when the score exceeds this."""
    scale_scores: dict[str, float]
    """The score at each size, mirrored or not: `512x512`, `512x512 mirrored`, ..."""
    raw_map: np.ndarray
    """float32, the aggregated map, unscaled."""
    cam: np.ndarray
    """float32 in [0, 1], higher = manipulated."""
    coarse_mask: np.ndarray
    """bool."""
    prompts: Prompts
    """What a segmenter is asked with, in pixels of the picture; they are made whether it is asked or not."""
    refined_mask: np.ndarray | None
    """bool; None where nothing was refined."""
    refiner: str
    """What made the refined mask; empty where nothing was refined."""
    not_refined: str
    """Why nothing was refined; empty where something was."""

    @property
    def manipulated(self) -> bool:
        return self.score > self.threshold

    @property
    def verdict(self) -> str:
        return "manipulated" if self.manipulated else "authentic"

    @property
    def mask(self) -> np.ndarray:
        """The refined mask, or the coarse one where nothing was refined."""
        return self.coarse_mask if self.refined_mask is None else self.refined_mask

    def draw(self, *, max_side: int = 0) -> Image.Image:
        """The picture with mask, box and points; `max_side` > 0 shrinks the result."""
        return shrink(draw_prompts(draw_mask(self.image, self.mask), self.prompts), max_side)

    def panel(self, *, height: int = 320) -> Image.Image:
        """Picture, map, coarse mask and mask side by side."""
        last = f"refined by {self.refiner}" if self.refiner else "not refined"
        pictures = [
            ("picture", self.image),
            ("activation map", cam_picture(self.cam)),
            ("coarse mask", draw_prompts(draw_mask(self.image, self.coarse_mask), self.prompts)),
            (last, draw_mask(self.image, self.mask)),
        ]
        return side_by_side(pictures, height=height)

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays."""
        return {
            "verdict": self.verdict,
            "score": self.score,
            "threshold": self.threshold,
            "scale_scores": self.scale_scores,
            "box_xyxy": self.prompts.box_xyxy,
            "points_xy": self.prompts.points_xy,
            "labels": self.prompts.labels,
            "refiner": self.refiner or None,
            "not_refined": self.not_refined or None,
            "mask_share": float(self.mask.mean()),
            "coarse_mask_share": float(self.coarse_mask.mean()),
            "width": self.image.width,
            "height": self.image.height,
        }


def predict(
    localizer: Localizer,
    image: Image.Image | np.ndarray | str | Path,
    *,
    refiner: PromptedSegmenter | str | None = "grabcut",
    always_refine: bool = False,
    fast: bool = False,
    threshold: float = 0.5,
    precision: Precision = "no",
    max_pixels: int = MAX_PIXELS,
) -> Localization:
    """Judge one picture (a path, a Pillow picture or (H, W, 3) uint8 RGB) on the localizer's device.

    Args:
        refiner: A prompted segmenter of `papers_shared.sam`, the word that makes one, or None.
        always_refine: Refine whatever the score is; otherwise only what is judged manipulated.
        fast: The middle one of the model's sizes, unmirrored, in place of all.
        threshold: Of the image score.

    Raises:
        UserError: unreadable picture, more than `max_pixels` pixels, a refiner that cannot be made, a model whose
            answers are not finite.
    """
    if not 0 <= threshold <= 1:
        raise UserError(f"threshold: {threshold} is not in [0, 1]; 0.5 is the usual one")
    device = next(localizer.parameters()).device
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    picture = load_image(image, max_pixels=max_pixels)
    config = one_scale(localizer.config) if fast else localizer.config
    views = [view[None].to(device) for view in prepare_views(picture, config)]
    training, full = localizer.training, localizer.config
    localizer.eval()
    localizer.config = config
    try:
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            (maps,) = network_maps(localizer, views, [(picture.height, picture.width)])
    finally:
        localizer.train(training)
        localizer.config = full
    coarse = localize(maps, config)
    if not math.isfinite(coarse.score):
        raise UserError("the image score is not finite: the model's weights are broken")
    prompts = prompts_of(coarse, config)
    refined, name, reason = None, "", ""
    if refiner is None:
        reason = "no refiner was given"
    elif not always_refine and coarse.score <= threshold:
        reason = "judged authentic"
    elif prompts.empty:
        reason = "the coarse mask is empty" if not coarse.mask.any() else "no prompts are made"
    else:
        segmenter = make_refiner(refiner, device=str(device)) if isinstance(refiner, str) else refiner
        segmenter.set_image(np.asarray(picture))
        refined = refine(segmenter, prompts, coarse.mask, config.prompts.multimask)
        name = segmenter.name
    return Localization(
        image=picture,
        score=coarse.score,
        threshold=threshold,
        scale_scores=dict(zip(maps.names, maps.scores, strict=True)),
        raw_map=coarse.raw_map,
        cam=coarse.cam,
        coarse_mask=coarse.mask,
        prompts=prompts,
        refined_mask=refined,
        refiner=name,
        not_refined=reason,
    )


def predict_many(
    localizer: Localizer, paths: Sequence[Path], output: str | Path, *, model: str = "", **options: Any
) -> list[dict[str, Any]]:
    """Judge pictures into `output`: masks/, cams/, overlays/ and sheets/ by name, and predictions.jsonl.

    A mask is a grey PNG of 0 and 255, a map one of 0 to 255, both at the picture's own size; a sheet is one HTML
    file that needs nothing else. NAME is the picture's name without suffix, with -2, -3, ... appended where
    pictures share it. `model` is only written into the records; `options` are those of `predict`.

    A picture that cannot be judged is reported on stderr, has an `error` in place of its figures, and the rest
    goes on. Returns the records.
    """
    from cabl_cgsr.evidence import sheet

    output = Path(output)
    names = unique_names(paths)
    taken = {path.resolve() for path in paths}
    for folder in ("masks", "cams", "overlays", "sheets"):
        if clash := {(output / folder / f"{name}.png").resolve() for name in names} & taken:
            raise UserError(f"{clash.pop()}: would be overwritten by its own result; choose another --output")
        (output / folder).mkdir(parents=True, exist_ok=True)
    records = []
    progress = Progress(len(paths), unit="picture")
    with open(output / "predictions.jsonl", "w", encoding="utf-8") as lines:
        for index, (path, name) in enumerate(zip(paths, names, strict=True)):
            record: dict[str, Any] = {"file": str(path), "model": model}
            try:
                found = predict(localizer, path, **options)
            except (UserError, MemoryError, torch.OutOfMemoryError) as error:
                record["error"] = str(error) or "out of memory"
                progress.line(f"failed: {path}: {record['error']}")
            else:
                record |= found.to_json() | _write(found, output, name)
                page = sheet(found, file=str(path), model=model)
                (output / record["sheet"]).write_text(page, encoding="utf-8")
            records.append(record)
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
            lines.flush()
            progress.update(index + 1)
    progress.close()
    return records


def _write(found: Localization, output: Path, name: str) -> dict[str, Any]:
    files = {"mask": f"masks/{name}.png", "cam": f"cams/{name}.png", "overlay": f"overlays/{name}.png"}
    Image.fromarray(found.mask.astype(np.uint8) * 255).save(output / files["mask"])
    Image.fromarray(np.rint(found.cam * 255).astype(np.uint8)).save(output / files["cam"])
    found.draw(max_side=2048).save(output / files["overlay"])
    return {**files, "sheet": f"sheets/{name}.html"}


def open_localizer(model: str, device: Device = "auto") -> Localizer:
    """A trained model from a folder or the Hub, in eval mode on `device`."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; use --device cpu, or auto")
    chosen = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    return Localizer.from_pretrained(model, device=chosen).eval()


def run(options: PredictOptions) -> int:
    """`cabl-cgsr predict`: 0, or 1 if a picture failed."""
    paths = match_pictures(options.inputs)
    localizer = open_localizer(options.model, options.device)
    localizer.config = with_changes(localizer.config, options.change)
    device = str(next(localizer.parameters()).device)
    refiner = None if options.refiner == "none" else make_refiner(options.refiner, device=device)
    records = predict_many(
        localizer,
        paths,
        options.output,
        model=options.model,
        refiner=refiner,
        always_refine=options.always_refine,
        fast=options.fast,
        threshold=options.threshold,
        precision=options.precision,
        max_pixels=options.max_pixels,
    )
    for record in records:
        if "error" not in record:
            print(f"{record['verdict']:<11}  {record['score']:.3f}  {record['file']}")
    failed = sum("error" in record for record in records)
    print(f"{len(records) - failed} of {len(records)} pictures judged: {options.output}/sheets, masks, cams,")
    print(f"overlays and predictions.jsonl{f'; {failed} failed, see there' if failed else ''}")
    return 1 if failed else 0
