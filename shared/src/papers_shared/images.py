"""Pictures: careful loading, letterboxes, and drawings for people."""

from __future__ import annotations

import colorsys
import os
import struct
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from papers_shared.errors import UserError

RGB = tuple[int, int, int]
MAX_PIXELS = 178_956_970
"""Default size limit, the same as Pillow's own: about 13,400 x 13,400, half a gigabyte as RGB."""

_READ_ERRORS = (
    Image.DecompressionBombError,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    struct.error,
    zlib.error,
)
_open_lock = threading.Lock()


def load_image(picture: str | Path | BinaryIO | Image.Image, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A picture as 8-bit RGB, upright as viewers show it (see `to_rgb`); of several frames the first.

    Args:
        picture: A path, an open binary file, or a Pillow image.
        max_pixels: Limit of width x height, applied before the pixels are decoded.

    Raises:
        UserError: The file is missing, not a picture, cut off, larger than `max_pixels`, or not displayable.
    """
    if isinstance(picture, Image.Image):
        return _decode(picture, "the picture", max_pixels)
    name = str(picture) if isinstance(picture, str | os.PathLike) else getattr(picture, "name", "the picture")
    try:
        image = _open(picture)
    except FileNotFoundError:
        raise UserError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{name} is a folder, not a picture") from None
    except Image.UnidentifiedImageError:
        raise UserError(f"{name} is not a picture in a known format") from None
    except _READ_ERRORS as problem:
        raise UserError(f"{name} cannot be read as a picture ({problem})") from None
    with image:
        return _decode(image, name, max_pixels)


def to_rgb(image: Image.Image, name: str = "the picture") -> Image.Image:
    """An opened picture as 8-bit RGB, turned by its EXIF orientation (an unreadable EXIF block is none).

    Transparency is laid over white. 16-bit grey is divided by 257 (65535 becomes 255). Floating grey must
    lie in 0..1.

    Raises:
        UserError: The values are not displayable; the message begins with `name`.
    """
    try:
        turned = image.getexif().get(0x0112, 1) != 1
        image = ImageOps.exif_transpose(image) if turned else image
    except _READ_ERRORS:
        pass
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_bytes(np.asarray(image), name)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    try:
        return image.copy() if image.mode == "RGB" else image.convert("RGB")
    except ValueError:
        raise UserError(f"{name} has the colour mode {image.mode}, which cannot be shown as RGB") from None


@dataclass(frozen=True)
class Letterbox:
    """Where a picture lies inside its letterbox; all sizes are (height, width) in pixels."""

    original: tuple[int, int]
    inner: tuple[int, int]
    """Size of the resized picture inside the box."""
    top: int
    left: int

    def boxes_to_original(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (..., 4) x0, y0, x1, y1: from pixels of the letterbox to those of the original, clipped."""
        height, width = self.original
        shift = np.array([self.left, self.top] * 2, dtype=np.float64)
        scale = np.array([width / self.inner[1], height / self.inner[0]] * 2)
        return np.clip((np.asarray(boxes, dtype=np.float64) - shift) * scale, 0, [width, height] * 2)

    def mask_to_original(self, mask: np.ndarray) -> np.ndarray:
        """A map (H, W) over the letterbox → (height, width) of the original.

        Floating maps are interpolated bilinearly, integer and boolean ones take the nearest pixel.
        """
        inner = mask[self.top : self.top + self.inner[0], self.left : self.left + self.inner[1]]
        size = self.original[::-1]
        if np.issubdtype(mask.dtype, np.floating):
            resized = Image.fromarray(inner.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
        else:
            resized = Image.fromarray(inner.astype(np.int32)).resize(size, Image.Resampling.NEAREST)
        return np.asarray(resized).astype(mask.dtype)


def letterbox(
    image: Image.Image, size: int | tuple[int, int], fill: RGB = (114, 114, 114)
) -> tuple[Image.Image, Letterbox]:
    """Fit an RGB picture into `size` = side or (height, width), aspect ratio kept, centred on `fill`."""
    height, width = (size, size) if isinstance(size, int) else size
    scale = min(height / image.height, width / image.width)
    inner = max(1, round(image.height * scale)), max(1, round(image.width * scale))
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    boxed = Image.new("RGB", (width, height), fill)
    boxed.paste(image.resize(inner[::-1], Image.Resampling.BILINEAR), (left, top))
    return boxed, Letterbox((image.height, image.width), inner, top, left)


def overlay(
    image: Image.Image, mask: np.ndarray, palette: Sequence[RGB], alpha: float = 0.5, ignore_index: int = 255
) -> Image.Image:
    """Lay the colour of each pixel's class over an RGB picture; pixels with `ignore_index` stay as they are.

    Args:
        mask: (height, width) integer classes, as large as the picture.
        palette: One colour per class.
        alpha: Share of the class colour.

    Raises:
        UserError: Sizes differ or a class has no colour.
    """
    if mask.shape != (image.height, image.width):
        raise UserError(
            f"the mask is {mask.shape[1]} x {mask.shape[0]}, the picture {image.width} x {image.height}"
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
    """The picture with a white strip below it that gives the colour and the name of each class.

    `text_size` in pixels; chosen by the picture's size when None.
    """
    size = text_size or max(12, min(image.width // 50, image.height // 16))
    font = ImageFont.load_default(size)
    row, gap = round(1.8 * size), size // 2
    places, x, y = [], gap, 0
    for name in names:
        needed = size + gap + round(font.getlength(name)) + 2 * gap
        if x > gap and x + needed > image.width:
            x, y = gap, y + row
        places.append((x, image.height + y))
        x += needed
    whole = Image.new("RGB", (image.width, image.height + y + row), "white")
    whole.paste(image)
    draw = ImageDraw.Draw(whole)
    for (left, top), name, colour in zip(places, names, palette, strict=True):
        square = top + (row - size) // 2
        draw.rectangle((left, square, left + size, square + size), fill=colour, outline="black")
        draw.text((left + size + gap, top + row / 2), name, fill="black", font=font, anchor="lm")
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
    pictures: Sequence[tuple[str, Image.Image]], *, height: int | None = None, text_size: int = 16
) -> Image.Image:
    """Titled pictures in one row on white, scaled to one height (the first one's when None)."""
    height = height or pictures[0][1].height
    font = ImageFont.load_default(text_size)
    scaled = [
        image.resize((max(1, round(image.width * height / image.height)), height), Image.Resampling.LANCZOS)
        for _, image in pictures
    ]
    gap, head = 8, text_size + 12
    panel = Image.new(
        "RGB", (sum(image.width for image in scaled) + gap * (len(scaled) + 1), height + head + gap), "white"
    )
    draw = ImageDraw.Draw(panel)
    left = gap
    for (title, _), image in zip(pictures, scaled, strict=True):
        draw.text((left, head / 2), title, fill="black", font=font, anchor="lm")
        panel.paste(image, (left, head))
        left += image.width + gap
    return panel


def _open(path_or_file: str | Path | BinaryIO) -> Image.Image:
    """`Image.open` without Pillow's own global size limit; `load_image` applies its argument instead."""
    with _open_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path_or_file)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _decode(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    width, height = image.size
    if width * height > max_pixels:
        raise UserError(
            f"{name} has {width} x {height} = {width * height:,} pixels, more than the limit of "
            f"{max_pixels:,}: shrink it or raise the limit"
        )
    try:
        image.load()
    except _READ_ERRORS as problem:
        raise UserError(f"{name} is damaged or cut off ({problem})") from None
    return to_rgb(image, name)


def _to_bytes(values: np.ndarray, name: str) -> np.ndarray:
    """Grey values of more than 8 bits as uint8."""
    if np.issubdtype(values.dtype, np.floating):
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise UserError(f"{name} holds floating values outside 0..1: save it as 8- or 16-bit first")
        return np.round(values * 255).astype(np.uint8)
    if values.min() < 0 or values.max() > 65535:
        raise UserError(f"{name} holds integers outside 0..65535: save it as 8- or 16-bit first")
    return np.round(values / 257).astype(np.uint8)


def _palette_image(mask: np.ndarray, palette: Sequence[RGB]) -> Image.Image:
    indexed = Image.fromarray(mask.astype(np.uint8))
    indexed.putpalette([channel for colour in palette for channel in colour])
    return indexed.convert("RGB")
