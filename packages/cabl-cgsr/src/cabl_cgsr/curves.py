"""Curves of fractions as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFont

from papers_shared.images import legend, palette_for

SIZE = (560, 360)
MARGIN = (52, 14, 14, 34)
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class Line:
    name: str
    values: Sequence[float | None]
    """One for each place on the horizontal axis; None leaves a gap."""
    dashed: bool = False


def draw_curves(lines: Sequence[Line], places: Sequence[str]) -> Image.Image:
    """Lines over named places, the vertical axis from 0 to the next tenth above the highest value."""
    known = [value for line in lines for value in line.values if value is not None]
    top = min(1.0, (int(max(known, default=0.1) * 10 - 1e-9) + 1) / 10)
    colours = palette_for(len(lines) + 1)[1:]
    image = Image.new("RGB", SIZE, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    left, above, right, below = MARGIN
    width, height = SIZE[0] - left - right, SIZE[1] - above - below

    def at(place: int, value: float) -> tuple[float, float]:
        across = place / max(1, len(places) - 1)
        return left + across * width, above + (1 - value / top) * height

    for step in range(round(top * 10) + 1):
        y = at(0, step / 10)[1]
        draw.line((left, y, left + width, y), fill=(222, 222, 222))
        draw.text((left - 6, y), f"{step / 10:.1f}", fill="black", font=font, anchor="rm")
    for place, name in enumerate(places):
        draw.text((at(place, 0)[0], SIZE[1] - below + 8), name, fill="black", font=font, anchor="mt")
    for line, colour in zip(lines, colours, strict=True):
        points = [None if value is None else at(i, value) for i, value in enumerate(line.values)]
        for start, end in pairwise(points):
            if start is not None and end is not None:
                _stroke(draw, start, end, colour, line.dashed)
        for point in points:
            if point is not None:
                x, y = point
                draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour, outline="white")
    return legend(image, [line.name for line in lines], colours, text_size=13)


def _stroke(
    draw: ImageDraw.ImageDraw,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: tuple[int, int, int],
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
