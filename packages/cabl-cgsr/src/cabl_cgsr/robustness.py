"""P-F1 under JPEG compression and Gaussian blur (Section III-C, Fig. 5), as a curve and as JSON.

The image is degraded at its own size, before anything else sees it; the mask stays. The paper's lists of
strengths were in its drawing, which is lost: IMDLBenCo's are the default.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cabl_cgsr.drawing import Line, draw_curves
from cabl_cgsr.evaluate import (
    REFINED,
    describe_evaluation,
    describe_options,
    evaluate,
    open_refiner,
    open_sets,
    report_failed,
    report_left_out,
)
from cabl_cgsr.inference import describe_protocol
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.prediction_cache import PredictionCache
from cabl_cgsr.scores import definitions, number
from cabl_cgsr.set_inference import Degradation
from papers_shared.devices import use_precision
from papers_shared.drawing import side_by_side
from papers_shared.errors import UserError
from papers_shared.files import atomic_file, check_writable, write_json
from papers_shared.metrics.forensics import PROTOCOLS
from papers_shared.provenance import tell_untrained
from papers_shared.results import check_evaluation, evaluation_file
from papers_shared.training.distributed import make_accelerator, precision_of

if TYPE_CHECKING:
    from cabl_cgsr.options import RobustnessOptions


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB through a JPEG file of this quality (OpenCV's, 4:2:0 chroma)."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), flags)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB))


def blur(image: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB under a Gaussian of `side` x `side`; sigma = 0.3 ((side - 1) / 2 - 1) + 0.8."""
    return cv2.GaussianBlur(image, (side, side), 0)


def jpeg_degradation(quality: int) -> Degradation:
    """Compression of a quality from 1 to 100.

    Raises:
        UserError: Another number.
    """
    if not 1 <= quality <= 100:
        raise UserError(f"--jpeg {quality}: a JPEG quality lies between 1 and 100")
    return Degradation(f"jpeg {quality}", partial(jpeg, quality=quality))


def blur_degradation(side: int) -> Degradation:
    """Blur with a kernel of an odd side; 0: none.

    Raises:
        UserError: An even or negative side.
    """
    if side == 0:
        return Degradation()
    if side < 0 or side % 2 == 0:
        raise UserError(f"--blur {side}: the kernel's side is an odd number of pixels, or 0 for none")
    return Degradation(f"blur {side}", partial(blur, side=side))


def robustness(
    localizer: Localizer, rows: Any, degradations: Sequence[Degradation], **options: Any
) -> list[dict[str, Any]]:
    """P-F1 of the coarse and, with a refiner, of the refined masks after each degradation.

    Args:
        options: Those of `evaluate`.

    Returns:
        For each one `degradation` (its name), `metrics`, `intervals_95` and `failed` as in `SetScores`.
    """
    points = []
    for degradation in degradations:
        found = evaluate(localizer, rows, degradation=degradation, **options)
        kept = {key: found[key] for key in ("metrics", "intervals_95", "failed")}
        points.append({"degradation": degradation.name or "none", **kept})
    return points


def run(options: RobustnessOptions) -> int:
    """`cabl-cgsr robustness`: a PNG of the curves, their JSON, and the metrics as text; 1 if an image failed."""
    if not options.models:
        raise UserError("no model given: name one or more model folders")
    kinds = {
        "jpeg": [(quality, jpeg_degradation(quality)) for quality in options.jpeg],
        "blur": [(side, blur_degradation(side)) for side in options.blur],
    }
    accelerator = make_accelerator(options.precision)
    use_precision(options.precision, accelerator.device)
    with accelerator.main_process_first():
        sets = open_sets(options.data)
    ((name, opened),) = sets.items()
    about, file = describe_evaluation(options, sets), Path()
    if accelerator.is_main_process:
        named = [*Path(options.models[0]).parts[-2:], *describe_options(options, [name])]
        file = Path(options.output) / evaluation_file("robustness", "", *named).name.replace(
            "-evaluation", "", 1
        )
        check_evaluation(file, about)
        check_writable(file.with_suffix(".png"))
        report_left_out(sets)
    refiner = open_refiner(options.refiner, accelerator.device, options.cache, precision_of(accelerator))
    models: list[dict[str, Any]] = []
    for model in options.models:
        localizer = Localizer.from_pretrained(model, device=accelerator.device)
        config = options.config_for(localizer.config)
        curves = {
            kind: robustness(
                localizer,
                opened.rows,
                [degradation for _, degradation in strengths],
                refiner=refiner,
                variants=(config.prompts.variant,),
                config=config,
                draws=options.draws,
                cache=PredictionCache(options.cache),
                accelerator=accelerator,
                batch_size=options.batch_size,
                workers=options.data.workers,
                progress=True,
            )
            for kind, strengths in kinds.items()
        }
        models.append(
            {
                "model": model,
                "untrained": tell_untrained(localizer, model) if accelerator.is_main_process else [],
                "precision": precision_of(accelerator),
                "protocol": describe_protocol(config, precision_of(accelerator)),
                **curves,
            }
        )
    if not accelerator.is_main_process:
        return 0
    strengths = {kind: [strength for strength, _ in pairs] for kind, pairs in kinds.items()}
    with atomic_file(file.with_suffix(".png")) as partial_file:
        panel(models, strengths).save(partial_file, "PNG")
    failed = dict(opened.broken)
    for entry in models:
        for point in (point for kind in kinds for point in entry[kind]):
            failed |= point.pop("failed")
    result = {
        **about,
        "set": name,
        "left_out": dict(opened.left_out),
        "failed": failed,
        "refiner": "none" if refiner is None else refiner.name,
        "refined": REFINED,
        "definitions": definitions("paper"),
        "models": models,
    }
    write_json(file, result)
    for entry in models:
        print(entry["model"])
        for kind in kinds:
            for point in entry[kind]:
                metrics = "  ".join(f"{key} {number(value)}" for key, value in point["metrics"].items())
                print(f"  {kind:<5} {point['degradation']:<9} {metrics}")
    print(f"P-F1: {PROTOCOLS['p_f1']}\nwritten: {file.with_suffix('.png')}, {file}")
    return report_failed(list(failed.items()))


def panel(models: Sequence[dict[str, Any]], strengths: dict[str, list[int]]) -> Any:
    """Both curves of Fig. 5 side by side: P-F1 over JPEG quality and over the side of the blur kernel."""
    titles = {"jpeg": "JPEG quality", "blur": "Gaussian blur, kernel side in pixels"}
    drawn = []
    for kind, values in strengths.items():
        if not values:
            continue
        lines = []
        for entry in models:
            for metric in entry[kind][0]["metrics"]:
                if not metric.startswith("p_f1."):
                    continue
                heights = [point["metrics"][metric] for point in entry[kind]]
                label = f"{Path(entry['model']).parent.name or entry['model']}, {metric[5:]}"
                lines.append(Line(label, heights, dashed=metric == "p_f1.coarse"))
        drawn.append((titles[kind], draw_curves(lines, [str(value) for value in values])))
    if not drawn:
        raise UserError("nothing to draw: name qualities with --jpeg or kernels with --blur")
    return side_by_side(drawn)
