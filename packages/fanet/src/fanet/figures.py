"""The paper's figures from trained models: the qualitative panel (Fig. 5) and the FRM maps (Fig. 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fanet.data import load_mask
from fanet.drawing import class_palette
from fanet.inference import Segmentation, predict
from fanet.modeling.blocks import FeatureRefinement
from fanet.modeling.segmenter import Segmenter
from papers_shared.drawing import check_width, heat_map, legend, marked_untrained, overlay, side_by_side
from papers_shared.errors import UserError
from papers_shared.files import check_new
from papers_shared.hub import open_model
from papers_shared.images import load_image
from papers_shared.inputs import match_images, unique_names
from papers_shared.provenance import check_trained

if TYPE_CHECKING:
    from fanet.options import FiguresOptions


def qualitative(
    segmenters: Mapping[str, Segmenter],
    images: Sequence[str | Path],
    masks: Sequence[str | Path | None] | None = None,
    *,
    width: int = 320,
    untrained: bool = False,
) -> Image.Image:
    """Fig. 5: one row per image, with the image, the truth where there is one, and each model's prediction.

    Args:
        segmenters: Title -> model; all of the same classes.
        masks: Truth as index masks, one or None per image.
        width: Of one image in the panel, in pixels.
        untrained: Draw with networks whose parts were never trained, too; the figure then says so.
    """
    first = next(iter(segmenters.values())).config
    palette = class_palette(first.class_names, first.palette)
    for title, segmenter in segmenters.items():
        if segmenter.config.class_names != first.class_names:
            raise UserError(f"{title} has other classes than the first model: draw them in separate panels")
    fresh = [part for segmenter in segmenters.values() for part in check_trained(segmenter, untrained)]
    rows = []
    for path, mask in zip(images, masks or [None] * len(images), strict=True):
        image = load_image(path)
        columns = [("image", image)]
        if mask is not None:
            columns.append(("truth", overlay(image, _truth(path, mask, first.num_classes), palette)))
        elif any(masks or ()):
            columns.append(("no truth given", Image.new("RGB", image.size, (128, 128, 128))))
        for title, segmenter in segmenters.items():
            columns.append(
                (title, overlay(image, predict(segmenter, image, untrained=untrained).mask, palette))
            )
        rows.append(side_by_side([(title, _fit(column, width)) for title, column in columns]))
    return marked_untrained(legend(_stack(rows), first.class_names, palette, text_size=16), fresh)


def frm_maps(
    segmenter: Segmenter,
    image: str | Path,
    mask: str | Path | None = None,
    *,
    width: int = 320,
    untrained: bool = False,
) -> Image.Image:
    """Fig. 6: what the feature refinement module in the last block of stage 3 does to one image.

    In the paper's order: the image, the FRM's input F, the high frequencies R = F - Q, the low frequencies
    S = F * Q, the FRM's output, the prediction, and the truth if there is one. A map is the mean magnitude
    over its channels, stretched between its 1st and 99th percentile.

    Raises:
        UserError: The backbone has no FRM (it is not a FANet, or its switches are off).
    """
    result, features = frm_features(segmenter, load_image(image), untrained)
    columns = [("image", result.image)]
    for title, values in features.items():
        columns.append((title, heat_map(values.abs().mean(0).cpu().numpy(), result.image.size)))
    columns.append(("prediction", overlay(result.image, result.mask, result.palette)))
    if mask is not None:
        truth = _truth(image, mask, len(result.class_names))
        columns.append(("truth", overlay(result.image, truth, result.palette)))
    drawn = side_by_side([(title, _fit(column, width)) for title, column in columns])
    drawn = legend(drawn, result.class_names, result.palette, text_size=16)
    return marked_untrained(drawn, result.untrained)


def frm_features(
    segmenter: Segmenter, image: Image.Image, untrained: bool = False
) -> tuple[Segmentation, dict[str, Tensor]]:
    """The prediction, and maps (C, h, w) of the last FRM of stage 3 on the way to it: F, R, S, output."""
    modules = [
        module
        for name, module in segmenter.named_modules()
        if isinstance(module, FeatureRefinement) and "stage3" in name
    ]
    if not modules:
        raise UserError(f"the backbone {segmenter.config.backbone} has no feature refinement module to draw")
    seen: list[tuple[Tensor, Tensor]] = []
    handle = modules[-1].register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    try:
        result = predict(segmenter, image, untrained=untrained)
    finally:
        handle.remove()
    features, output = seen[0]
    with torch.no_grad():
        smooth = modules[-1].smooth(features)
    maps = {"F: FRM input": features, "R = F - Q": features - smooth, "S = F * Q": features * smooth}
    return result, {title: value[0] for title, value in (maps | {"FRM output": output}).items()}


def run(options: FiguresOptions) -> int:
    """`fanet figures`: writes qualitative.png and, for the first model that has an FRM, frm-NAME.png."""
    if not options.models:
        raise UserError("no model given: name one or more model folders")
    images = match_images(options.images)
    output = Path(options.output)
    panel, maps = output / "qualitative.png", [output / f"frm-{name}.png" for name in unique_names(images)]
    for file in (panel, *maps):
        check_new(file, options.overwrite)
    check_width(options.width)
    truth = {path.stem: path for path in match_images(options.masks)} if options.masks else {}
    masks = [truth.get(path.stem) for path in images]
    if truth and not any(masks):
        raise UserError(f"no mask has the name of an image, such as {images[0].stem!r}")
    segmenters = {_title(model): open_model(Segmenter, model, options.device) for model in options.models}
    if len(segmenters) < len(options.models):
        raise UserError(
            "two models have the same name: each is titled by its folder, best/ and last/ by their run"
        )
    how: dict[str, Any] = {"width": options.width, "untrained": options.untrained}
    qualitative(segmenters, images, masks, **how).save(panel)
    print(f"written: {panel}")
    refined = [
        segmenter
        for segmenter in segmenters.values()
        if any(isinstance(module, FeatureRefinement) for module in segmenter.modules())
    ]
    if not refined:
        print("no FRM maps: none of the models has a feature refinement module")
        return 0
    for path, mask, file in zip(images, masks, maps, strict=True):
        frm_maps(refined[0], path, mask, **how).save(file)
        print(f"written: {file}")
    return 0


def _truth(image: str | Path, mask: str | Path, num_classes: int) -> np.ndarray:
    """The index mask (H, W) uint8 of an image; UserError if it does not belong to it."""
    row = {"name": str(mask)} | {
        key: {"path": str(path), "bytes": None} for key, path in (("image", image), ("mask", mask))
    }
    return load_mask(row, num_classes)


def _title(model: str) -> str:
    """The name of the model's folder; of the run's for its best/, with the part named for its last/."""
    path = Path(model).expanduser().resolve()
    if path.name == "best":
        return path.parent.name
    return f"{path.parent.name}, last" if path.name == "last" else path.name


def _fit(image: Image.Image, width: int) -> Image.Image:
    return image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)


def _stack(rows: Sequence[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet
