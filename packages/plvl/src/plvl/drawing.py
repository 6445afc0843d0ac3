"""Boxes, masks and sentences drawn on images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from papers_shared.drawing import overlay

COLOUR = (255, 30, 210)
CAPTION_LINES = 4


def draw_target(image: Image.Image, box: Sequence[float] | None, mask: np.ndarray | None) -> Image.Image:
    """An image under a mask (H, W) bool and a box (corners in its pixels); what is None is left out."""
    drawn = image.convert("RGB")
    if mask is not None:
        drawn = overlay(drawn, np.where(mask, 0, 255), [COLOUR], alpha=0.5)
    if box is not None:
        x0, y0, x1, y1 = box
        line = max(2, round(max(image.size) / 200))
        corners = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        ImageDraw.Draw(drawn).rectangle(corners, outline=COLOUR, width=line)
    return drawn


def caption(image: Image.Image, sentence: str) -> Image.Image:
    """The image with the sentence on a white strip below it, on as many lines as it needs (four at most)."""
    size = max(12, min(image.width // 28, 28))
    font = ImageFont.load_default(size)
    lines: list[str] = []
    for word in sentence.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= image.width - size:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > CAPTION_LINES:
        lines = [*lines[: CAPTION_LINES - 1], f"{lines[CAPTION_LINES - 1]} ..."]
    strip = round(size * (0.8 + 1.3 * max(1, len(lines))))
    whole = Image.new("RGB", (image.width, image.height + strip), "white")
    whole.paste(image)
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        top = image.height + size * (0.4 + 1.3 * number)
        draw.text((size / 2, top), line, fill="black", font=font, anchor="la")
    return whole
