"""Drawings for people: class overlays with a legend, heat maps, images side by side."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from papers_shared.errors import UserError
from papers_shared.types import RGB

COLOURMAP = np.array(
    [
        (14, 0, 63),
        (54, 0, 95),
        (102, 2, 111),
        (147, 30, 107),
        (190, 57, 95),
        (225, 92, 76),
        (251, 133, 49),
        (255, 183, 79),
        (255, 228, 126),
    ],
    np.float32,
)
"""Dark violet to light yellow in equal steps of OKLCH lightness (0.18 to 0.92) and hue."""


def check_width(width: int) -> None:
    """Refuse a width of drawings that no drawing can have."""
    if not 16 <= width <= 8192:
        raise UserError(f"--width {width}: give 16 to 8192 pixels")


def heat_map(
    values: np.ndarray, size: tuple[int, int], *, limits: tuple[float, float] | None = None
) -> Image.Image:
    """An (h, w) map in the colours of `COLOURMAP`, enlarged to `size` (width, height).

    Args:
        limits: Values at the two ends of the colours; None: the map's 1st and 99th percentile.
    """
    low, high = np.percentile(values, (1, 99)) if limits is None else limits
    stretched = ((values - low) / max(high - low, 1e-12)).clip(0, 1).astype(np.float32)
    enlarged = np.asarray(Image.fromarray(stretched).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    anchors = np.linspace(0, 1, len(COLOURMAP))
    colours = np.stack([np.interp(enlarged, anchors, COLOURMAP[:, channel]) for channel in range(3)], axis=-1)
    return Image.fromarray(colours.round().astype(np.uint8))


def shrink(
    image: Image.Image, max_side: int, resample: Image.Resampling = Image.Resampling.BILINEAR
) -> Image.Image:
    """The image with its longest side at most `max_side` pixels, never enlarged; 0: as it is."""
    if not max_side or max(image.size) <= max_side:
        return image
    factor = max_side / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, resample, reducing_gap=None if resample == Image.Resampling.NEAREST else 2.0)


def overlay(
    image: Image.Image, mask: np.ndarray, palette: Sequence[RGB], alpha: float = 0.5, ignore_index: int = 255
) -> Image.Image:
    """Lay the colour of each pixel's class over an RGB image; pixels with `ignore_index` stay as they are.

    Args:
        mask: (height, width) integer classes, as large as the image.
        palette: One colour per class.
        alpha: Share of the class colour.

    Raises:
        UserError: Sizes differ or a class has no colour.
    """
    if mask.shape != (image.height, image.width):
        raise UserError(
            f"the mask is {mask.shape[1]} x {mask.shape[0]}, the image {image.width} x {image.height}"
        )
    shown = mask != ignore_index
    values = np.unique(mask[shown])
    if values.size and not 0 <= values[0] <= values[-1] < len(palette):
        raise UserError(f"the mask holds class {values[-1]}, but there are {len(palette)} colours")
    coloured = _palette_image(mask, palette)
    blended = Image.blend(image.convert("RGB"), coloured, alpha)
    if not shown.all():
        blended.paste(image, mask=Image.fromarray(~shown))
    return blended


def legend(
    image: Image.Image, names: Sequence[str], palette: Sequence[RGB], *, text_size: int | None = None
) -> Image.Image:
    """The image with a white strip below it that gives the colour and the name of each class.

    `text_size` in pixels; chosen by the image's size when None.
    """
    size = text_size or max(12, min(image.width // 50, image.height // 16))
    font = ImageFont.load_default(size)
    row, gap = round(1.8 * size), size // 2
    corners, x, y = [], gap, 0
    for name in names:
        needed = size + gap + round(font.getlength(name)) + 2 * gap
        if x > gap and x + needed > image.width:
            x, y = gap, y + row
        corners.append((x, image.height + y))
        x += needed
    whole = Image.new("RGB", (image.width, image.height + y + row), "white")
    whole.paste(image)
    draw = ImageDraw.Draw(whole)
    for (left, top), name, colour in zip(corners, names, palette, strict=True):
        square = top + (row - size) // 2
        draw.rectangle((left, square, left + size, square + size), fill=colour, outline="black")
        draw.text((left + size + gap, top + row / 2), name, fill="black", font=font, anchor="lm")
    return whole


def marked_untrained(image: Image.Image, untrained: Sequence[str]) -> Image.Image:
    """The drawing with a red strip above it where parts of the model were never trained; otherwise as it is."""
    if not untrained:
        return image
    size = max(11, min(image.width // 24, 28))
    strip = round(1.6 * size)
    whole = Image.new("RGB", (image.width, image.height + strip), (176, 0, 32))
    whole.paste(image, (0, strip))
    words = "not trained: this answer means nothing"
    ImageDraw.Draw(whole).text(
        (size / 2, size * 0.25), words, fill="white", font=ImageFont.load_default(size)
    )
    return whole


def palette_for(num_classes: int, given: Sequence[RGB] = ()) -> tuple[RGB, ...]:
    """One colour per class: the `given` ones first, the rest made up; class 0 made up is nearly black.

    Made-up colours step around the hue circle by the golden angle, so that neighbours in the list differ
    well.
    """
    made = [(10, 10, 10)]
    for number in range(1, num_classes):
        hue, value = number * 0.618034 % 1.0, (1.0, 0.75)[number // 8 % 2]
        red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, value)
        made.append((round(255 * red), round(255 * green), round(255 * blue)))
    return (*given, *made[len(given) : num_classes])


def side_by_side(
    images: Sequence[tuple[str, Image.Image]], *, height: int | None = None, text_size: int = 16
) -> Image.Image:
    """Titled images in one row on white, scaled to one height (the first one's when None)."""
    height = height or images[0][1].height
    font = ImageFont.load_default(text_size)
    scaled = [
        image.resize((max(1, round(image.width * height / image.height)), height), Image.Resampling.LANCZOS)
        for _, image in images
    ]
    gap, head = 8, text_size + 12
    panel = Image.new(
        "RGB", (sum(image.width for image in scaled) + gap * (len(scaled) + 1), height + head + gap), "white"
    )
    draw = ImageDraw.Draw(panel)
    left = gap
    for (title, _), image in zip(images, scaled, strict=True):
        draw.text((left, head / 2), title, fill="black", font=font, anchor="lm")
        panel.paste(image, (left, head))
        left += image.width + gap
    return panel


def _palette_image(mask: np.ndarray, palette: Sequence[RGB]) -> Image.Image:
    indexed = Image.fromarray(mask.astype(np.uint8))
    indexed.putpalette([channel for colour in palette for channel in colour])
    return indexed.convert("RGB")
