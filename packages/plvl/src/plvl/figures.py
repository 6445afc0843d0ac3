"""The paper's figures 5 to 7: image, truth, prediction and centre score map, one row per sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from papers_shared.drawing import check_width, heat_map, marked_untrained, side_by_side
from papers_shared.errors import UserError
from papers_shared.files import check_new
from papers_shared.hub import open_model
from papers_shared.provenance import check_trained
from plvl.data import load_image, load_mask, open_split
from plvl.drawing import caption, draw_target
from plvl.inference import predict
from plvl.modeling.plvl import PLVL

if TYPE_CHECKING:
    from plvl.options import FiguresOptions


def qualitative(
    model: PLVL, rows: Sequence[dict[str, Any]], *, width: int = 320, untrained: bool = False
) -> Image.Image:
    """Figures 5 to 7: for each row of `plvl.data.open_split` the image, the truth, the prediction and the score map.

    The map is the probability of the centre over the cells of the stretched image, enlarged to the image.

    Args:
        width: of one image of the figure, in pixels.
        untrained: Draw with a network whose parts were never trained, too; the figure then says so.

    Raises:
        UserError: A network that was never trained, no rows, or an image that cannot be read.
    """
    if not len(rows):
        raise UserError("no sentence to draw")
    fresh = check_trained(model, untrained)
    return marked_untrained(_stack([_row(model, row, width) for row in rows]), fresh)


def _row(model: PLVL, row: dict[str, Any], width: int) -> Image.Image:
    grounding = predict(model, load_image(row), [row["expression"]], untrained=True)[0]
    image = grounding.image
    columns = [
        ("image", image),
        ("truth", draw_target(image, row["box_xyxy"], load_mask(row))),
        ("prediction", draw_target(image, grounding.box_xyxy, grounding.mask)),
    ]
    if grounding.score_map is not None:
        columns.append(("centre score", heat_map(grounding.score_map, image.size)))
    height = max(1, round(image.height * width / image.width))
    scaled = [(title, column.resize((width, height), Image.Resampling.LANCZOS)) for title, column in columns]
    return caption(side_by_side(scaled), f"Sentence: {row['expression']}")


def _stack(rows: Sequence[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def run(options: FiguresOptions) -> int:
    """`plvl figures`: writes qualitative.png."""
    file = Path(options.output) / "qualitative.png"
    check_new(file, options.overwrite)
    check_width(options.width)
    rows = open_split(options.data, options.split)
    if options.count < 1:
        raise UserError(f"--count {options.count}: give 1 or more")
    number = min(options.count, len(rows))
    chosen = np.random.default_rng(options.seed).choice(len(rows), number, replace=False)
    model = open_model(PLVL, options.model, options.device)
    drawn = [rows[int(index)] for index in chosen]
    figure = qualitative(model, drawn, width=options.width, untrained=options.untrained)
    figure.save(file)
    print(f"written: {file}")
    return 0
