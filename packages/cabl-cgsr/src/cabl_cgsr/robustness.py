"""P-F1 under JPEG compression and Gaussian blur (Section III-C, Fig. 5), as a curve and as JSON.

The picture is degraded at its own size, before anything else sees it; the mask stays. The paper's lists of
strengths were in its figure, which is lost: IMDLBenCo's are the default.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from accelerate import Accelerator

from cabl_cgsr.curves import Line, draw_curves
from cabl_cgsr.evaluate import evaluate_set, open_refiner, open_sets, protocol_name
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.options import RobustnessOptions, Variant
from cabl_cgsr.overrides import with_changes
from cabl_cgsr.pictures import Change
from cabl_cgsr.predictions import PredictionCache
from cabl_cgsr.scores import definitions, number, set_scores
from papers_shared.errors import UserError
from papers_shared.images import side_by_side
from papers_shared.metrics.forensics import PROTOCOLS
from papers_shared.runs import make_accelerator, write_json
from papers_shared.sam import PromptedSegmenter


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB through a JPEG file of this quality (OpenCV's, 4:2:0 chroma)."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), flags)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB))


def blur(picture: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB under a Gaussian of `side` x `side`; sigma = 0.3 ((side - 1) / 2 - 1) + 0.8."""
    return cv2.GaussianBlur(picture, (side, side), 0)


def jpeg_change(quality: int) -> Change:
    """Compression of a quality from 1 to 100.

    Raises:
        UserError: Another number.
    """
    if not 1 <= quality <= 100:
        raise UserError(f"--jpeg {quality}: a JPEG quality lies between 1 and 100")
    return Change(f"jpeg {quality}", partial(jpeg, quality=quality))


def blur_change(side: int) -> Change:
    """Blur with a kernel of an odd side; 0: none.

    Raises:
        UserError: An even or negative side.
    """
    if side == 0:
        return Change()
    if side < 0 or side % 2 == 0:
        raise UserError(f"--blur {side}: the kernel's side is an odd number of pixels, or 0 for none")
    return Change(f"blur {side}", partial(blur, side=side))


def robustness(
    localizer: Localizer,
    rows: Any,
    changes: Sequence[Change],
    *,
    refiner: PromptedSegmenter | None = None,
    draws: int = 1000,
    cache: PredictionCache | None = None,
    accelerator: Accelerator | None = None,
    batch_size: int = 1,
    workers: int = 0,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """P-F1 of the coarse and, with a refiner, of the refined masks after each change.

    Returns:
        For each change `change` (its name), `figures` and `intervals_95` as in `SetScores`.
    """
    variant: Variant = localizer.config.prompts.variant
    points = []
    for change in changes:
        scored = evaluate_set(
            localizer,
            rows,
            refiner=refiner,
            variants=(variant,),
            cache=cache,
            accelerator=accelerator,
            batch_size=batch_size,
            workers=workers,
            change=change,
            progress=progress,
        )
        scores = set_scores(scored, draws=draws).to_json()
        points.append(
            {
                "change": change.name or "none",
                "figures": scores["figures"],
                "intervals_95": scores["intervals_95"],
            }
        )
    return points


def run(options: RobustnessOptions) -> int:
    """The verb `cabl-cgsr robustness`: robustness.png, robustness.json and the figures as text."""
    if not options.models:
        raise UserError("no model given: name one or more model folders")
    kinds = {
        "jpeg": [(quality, jpeg_change(quality)) for quality in options.jpeg],
        "blur": [(side, blur_change(side)) for side in options.blur],
    }
    accelerator = make_accelerator(options.precision)
    with accelerator.main_process_first():
        ((name, rows),) = open_sets(options.data).items()
    refiner = open_refiner(options.refiner, accelerator.device, options.cache, options.precision)
    models: list[dict[str, Any]] = []
    protocol = ""
    for model in options.models:
        localizer = Localizer.from_pretrained(model).to(accelerator.device)
        localizer.config = with_changes(localizer.config, options.change)
        protocol = protocol_name(localizer)
        curves = {
            kind: robustness(
                localizer,
                rows,
                [change for _, change in strengths],
                refiner=refiner,
                draws=options.draws,
                cache=PredictionCache(options.cache),
                accelerator=accelerator,
                batch_size=options.batch_size,
                workers=options.data.workers,
                progress=True,
            )
            for kind, strengths in kinds.items()
        }
        models.append({"model": model, **curves})
    if not accelerator.is_main_process:
        return 0
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    strengths = {kind: [strength for strength, _ in pairs] for kind, pairs in kinds.items()}
    panel(models, strengths).save(output / "robustness.png")
    write_json(
        output / "robustness.json",
        {
            "set": name,
            "refiner": "none" if refiner is None else refiner.name,
            "protocol": protocol,
            "definitions": definitions("paper"),
            "models": models,
        },
    )
    for entry in models:
        print(entry["model"])
        for kind in kinds:
            for point in entry[kind]:
                figures = "  ".join(f"{key} {number(value)}" for key, value in point["figures"].items())
                print(f"  {kind:<5} {point['change']:<9} {figures}")
    print(f"P-F1: {PROTOCOLS['p_f1']}\nwritten: {output / 'robustness.png'}, {output / 'robustness.json'}")
    return 0


def panel(models: Sequence[dict[str, Any]], strengths: dict[str, list[int]]) -> Any:
    """Both curves of Fig. 5 side by side: P-F1 over JPEG quality and over the side of the blur kernel."""
    titles = {"jpeg": "JPEG quality", "blur": "Gaussian blur, kernel side in pixels"}
    drawn = []
    for kind, values in strengths.items():
        if not values:
            continue
        lines = []
        for entry in models:
            for figure in entry[kind][0]["figures"]:
                if not figure.startswith("p_f1."):
                    continue
                heights = [point["figures"][figure] for point in entry[kind]]
                label = f"{Path(entry['model']).parent.name or entry['model']}, {figure[5:]}"
                lines.append(Line(label, heights, dashed=figure == "p_f1.coarse"))
        drawn.append((titles[kind], draw_curves(lines, [str(value) for value in values])))
    if not drawn:
        raise UserError("nothing to draw: name qualities with --jpeg or kernels with --blur")
    return side_by_side(drawn)
