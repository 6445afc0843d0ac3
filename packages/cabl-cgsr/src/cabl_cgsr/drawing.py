"""Drawings for people: maps as colours, masks with outlines, box and points, curves of fractions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cabl_cgsr.prompts import POSITIVE, Prompts
from papers_shared.drawing import heat_map, legend, palette_for
from papers_shared.types import RGB

MASK = (230, 40, 90)
BOX = (255, 214, 10)
POINTS = {True: (40, 200, 90), False: (235, 60, 50)}
"""Green: the positive point; red: the negative one; as in the paper's Fig. 1."""
CURVES_SIZE = (560, 360)
CURVES_MARGIN = (52, 14, 14, 34)
"""Left, top, right, bottom in pixels."""


def draw_map(cam: np.ndarray) -> Image.Image:
    """A map (H, W) in [0, 1] in colours, dark for 0."""
    return heat_map(cam, (cam.shape[1], cam.shape[0]), limits=(0.0, 1.0))


def draw_map_over(image: Image.Image, cam: np.ndarray, alpha: float = 0.6) -> Image.Image:
    """The map's colours over the image in grey."""
    return Image.blend(image.convert("L").convert("RGB"), draw_map(cam), alpha)


def draw_mask(image: Image.Image, mask: np.ndarray, alpha: float = 0.45) -> Image.Image:
    """The image with the mask (H, W) tinted and outlined; an empty mask leaves it as it is."""
    import cv2

    pixels = np.array(image)
    tint = np.array(MASK, np.float32)
    pixels[mask] = (pixels[mask] * (1 - alpha) + tint * alpha).astype(np.uint8)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(pixels, outlines, -1, MASK, _line_width(image))
    return Image.fromarray(pixels)


def draw_prompts(image: Image.Image, prompts: Prompts) -> Image.Image:
    """The image with box and points."""
    drawn = image.copy()
    draw, stroke = ImageDraw.Draw(drawn), _line_width(image)
    if prompts.box_xyxy is not None:
        draw.rectangle(prompts.box_xyxy, outline=BOX, width=stroke)
    radius = 3 * stroke
    for (x, y), label in zip(prompts.points_xy, prompts.labels, strict=True):
        disk = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(disk, fill=POINTS[label == POSITIVE], outline="white", width=max(1, stroke // 2))
    return drawn


@dataclass(frozen=True)
class Line:
    """One curve."""

    name: str
    values: Sequence[float | None]
    """One for each position on the horizontal axis; None leaves a gap."""
    dashed: bool = False


def draw_curves(lines: Sequence[Line], positions: Sequence[str]) -> Image.Image:
    """Lines over named positions, the vertical axis from 0 to the next tenth above the highest value."""
    known = [value for line in lines for value in line.values if value is not None]
    top = min(1.0, (int(max(known, default=0.1) * 10 - 1e-9) + 1) / 10)
    colours = palette_for(len(lines) + 1)[1:]
    image = Image.new("RGB", CURVES_SIZE, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    left, above, right, below = CURVES_MARGIN
    width, height = CURVES_SIZE[0] - left - right, CURVES_SIZE[1] - above - below

    def at(position: int, value: float) -> tuple[float, float]:
        across = position / max(1, len(positions) - 1)
        return left + across * width, above + (1 - value / top) * height

    for step in range(round(top * 10) + 1):
        y = at(0, step / 10)[1]
        draw.line((left, y, left + width, y), fill=(222, 222, 222))
        draw.text((left - 6, y), f"{step / 10:.1f}", fill="black", font=font, anchor="rm")
    for position, name in enumerate(positions):
        draw.text(
            (at(position, 0)[0], CURVES_SIZE[1] - below + 8), name, fill="black", font=font, anchor="mt"
        )
    for line, colour in zip(lines, colours, strict=True):
        points = [None if value is None else at(i, value) for i, value in enumerate(line.values)]
        for start, end in pairwise(points):
            if start is not None and end is not None:
                _segment(draw, start, end, colour, line.dashed)
        for point in points:
            if point is not None:
                x, y = point
                draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour, outline="white")
    return legend(image, [line.name for line in lines], colours, text_size=13)


def _segment(
    draw: ImageDraw.ImageDraw,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: RGB,
    dashed: bool,
) -> None:
    if not dashed:
        draw.line((*start, *end), fill=colour, width=3)
        return
    number = max(1, round(((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5 / 12))
    for index in range(number):
        a, b = index / number, (index + 0.55) / number
        draw.line(
            tuple(s + (e - s) * t for t in (a, b) for s, e in zip(start, end, strict=True)),
            fill=colour,
            width=3,
        )


def _line_width(image: Image.Image) -> int:
    return max(2, max(image.size) // 300)
