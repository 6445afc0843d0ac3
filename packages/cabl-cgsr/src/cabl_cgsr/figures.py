"""The paper's qualitative panel (Fig. 4) from trained models and images of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cabl_cgsr.data import load_mask
from cabl_cgsr.data.items import Found
from cabl_cgsr.data.pairing import pair
from cabl_cgsr.drawing import draw_map, draw_mask
from cabl_cgsr.inference import predict
from cabl_cgsr.modeling.localizer import Localizer
from papers_shared.devices import device_of
from papers_shared.drawing import check_width, marked_untrained, side_by_side
from papers_shared.errors import UserError
from papers_shared.files import check_new
from papers_shared.hub import open_model
from papers_shared.images import load_image
from papers_shared.inputs import match_images
from papers_shared.provenance import check_trained
from papers_shared.sam import PromptedSegmenter, make_refiner

if TYPE_CHECKING:
    from cabl_cgsr.options import FiguresOptions


def qualitative(
    localizers: Mapping[str, Localizer],
    images: Sequence[Path],
    masks: Sequence[Path | None],
    *,
    refiner: PromptedSegmenter | None = None,
    width: int = 240,
    untrained: bool = False,
) -> Image.Image:
    """One row per image: the image, the truth where there is one, and of each model the map, the coarse mask
    and, with a refiner, the refined mask; images are refined whatever their score.

    Args:
        localizers: title -> model.
        masks: Truth of each image, None where there is none.
        width: Of one image in the panel, in pixels.
        untrained: Draw with networks whose parts were never trained, too; the figure then says so.
    """
    fresh = [part for localizer in localizers.values() for part in check_trained(localizer, untrained)]
    rows = []
    for path, mask in zip(images, masks, strict=True):
        image = load_image(path)
        columns = [("image", image)]
        if mask is not None:
            columns.append(("truth", draw_mask(image, _truth(path, mask))))
        elif any(masks):
            columns.append(("no truth given", Image.new("RGB", image.size, (128, 128, 128))))
        for title, localizer in localizers.items():
            found = predict(localizer, image, refiner=refiner, always_refine=True, untrained=untrained)
            columns.append((f"{title}: {found.score:.2f}", draw_map(found.cam)))
            columns.append(("coarse mask", draw_mask(image, found.coarse_mask)))
            if refiner is not None:
                columns.append((refiner.name, draw_mask(image, found.mask)))
        rows.append(side_by_side([(title, _fit(image, width)) for title, image in columns]))
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return marked_untrained(sheet, fresh)


def _masks_of(images: Sequence[Path], masks: Sequence[Path]) -> list[Path | None]:
    """The mask of each image, by its name.

    Raises:
        UserError: Several masks fit an image, one mask fits several images, or no mask fits any.
    """
    pairs = pair(*([Found(path, path.name) for path in some] for some in (images, masks)))
    for path, doubt in pairs.doubts.items():
        raise UserError(f"--masks: {path} {doubt}; name the masks of one image of each name")
    if masks and not pairs.masks:
        raise UserError(
            f"--masks: no mask has the name of an image, such as {images[0].stem} or {images[0].stem}_gt"
        )
    return [pairs.masks.get(path) for path in images]


def _truth(image: Path, mask: Path) -> np.ndarray:
    rows = {key: {"path": str(path), "bytes": None} for key, path in (("image", image), ("mask", mask))}
    return load_mask({"name": image.name, "label": 1, **rows})


def _fit(image: Image.Image, width: int) -> Image.Image:
    return image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)


def _title(model: str) -> str:
    """The name of the model's folder; of the run's for its best/, with the part named for its last/."""
    path = Path(model).expanduser().resolve()
    if path.name == "best":
        return path.parent.name
    return f"{path.parent.name}, last" if path.name == "last" else path.name


def run(options: FiguresOptions) -> int:
    """`cabl-cgsr figures`: writes qualitative.png."""
    if not options.models:
        raise UserError("no model given: name one or more model folders")
    file = Path(options.output) / "qualitative.png"
    check_new(file, options.overwrite)
    check_width(options.width)
    images = match_images(options.images)
    masks = _masks_of(images, match_images(options.masks) if options.masks else [])
    localizers = {_title(model): open_model(Localizer, model, options.device) for model in options.models}
    if len(localizers) < len(options.models):
        raise UserError(
            "two models have the same name: each is titled by its folder, best/ and last/ by their run"
        )
    device = str(device_of(next(iter(localizers.values()))))
    refiner = None if options.refiner == "none" else make_refiner(options.refiner, device=device)
    how: dict[str, Any] = {"width": options.width, "untrained": options.untrained}
    qualitative(localizers, images, masks, refiner=refiner, **how).save(file)
    print(f"written: {file}")
    return 0
