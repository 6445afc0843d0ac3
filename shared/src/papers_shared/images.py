"""Careful loading of images."""

from __future__ import annotations

import os
import stat
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from papers_shared.errors import UserError

MAX_PIXELS = 178_956_970
"""Default size limit, the same as Pillow's own: about 13,400 x 13,400, half a gigabyte as RGB."""

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
"""What is read, whatever a file is called; Pillow knows more, and starts other programs for some of it."""

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


def load_image(source: str | Path | BinaryIO | Image.Image, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An image as 8-bit RGB, upright as viewers show it (see `to_rgb`); of several frames the first.

    Args:
        source: A path, an open binary file, or a Pillow image.
        max_pixels: Limit of width x height, applied before the pixels are decoded.

    Raises:
        UserError: The file is missing, not an image, cut off, larger than `max_pixels`, or not displayable.
    """
    if isinstance(source, Image.Image):
        return _decode(source, "the image", max_pixels)
    if not isinstance(source, str | os.PathLike):
        return _read(source, getattr(source, "name", "the image"), max_pixels)
    try:
        if not stat.S_ISREG(os.stat(source).st_mode):
            what = "a folder" if os.path.isdir(source) else "no regular file"
            raise UserError(f"{source} is {what}, not an image")
        with open(source, "rb") as file:
            return _read(file, str(source), max_pixels)
    except FileNotFoundError:
        raise UserError(f"{source}: no such file") from None
    except OSError as problem:
        raise UserError(f"{source} cannot be read ({problem.strerror})") from None


def to_rgb(image: Image.Image, name: str = "the image") -> Image.Image:
    """An opened image as 8-bit RGB, turned by its EXIF orientation (an unreadable EXIF block is none).

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


def _read(file: BinaryIO, name: str, max_pixels: int) -> Image.Image:
    try:
        image = _open(file)
    except Image.UnidentifiedImageError:
        raise UserError(f"{name} is not an image in a known format ({', '.join(FORMATS)})") from None
    except _READ_ERRORS as problem:
        raise UserError(f"{name} cannot be read as an image ({problem})") from None
    return _decode(image, name, max_pixels)


def _open(file: BinaryIO) -> Image.Image:
    """The image in an open file, not yet decoded, if it is in one of `FORMATS`.

    In place of `Image.open`, whose limit of the size is one for the whole process.
    """
    Image.init()  # makes the formats known; does nothing the second time
    file.seek(0)
    start = file.read(16)
    for factory, accept in (Image.OPEN[name] for name in FORMATS if name in Image.OPEN):
        accepted = accept is None or accept(start)
        if accepted and not isinstance(accepted, str):
            file.seek(0)
            return factory(file, "")
    raise Image.UnidentifiedImageError


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
