"""Careful loading of images."""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from papers_shared.errors import UserError

MAX_PIXELS = 178_956_970
"""Default size limit, the same as Pillow's own: about 13,400 x 13,400, half a gigabyte as RGB."""

CHANNELS = (1, 3, 4)
"""Grey, RGB and RGBA."""

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
"""What is read, whatever a file is called; Pillow knows more, and starts other programs for some of it."""

READ_ERRORS = (
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


def load_image(source: Any, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An image as 8-bit RGB, upright as viewers show it (see `to_rgb`); of several frames the first.

    Args:
        source: A path, an open binary file, a Pillow image, or an array or tensor as `from_array` takes it.
        max_pixels: Limit of width x height, applied before the pixels are decoded.

    Raises:
        UserError: The file is missing, not an image, cut off, larger than `max_pixels`, or not displayable.
    """
    if isinstance(source, Image.Image):
        return _decode(source, "the image", max_pixels)
    if hasattr(source, "read"):
        return _read(source, getattr(source, "name", "the image"), max_pixels)
    if not isinstance(source, str | os.PathLike):
        return _decode(from_array(source), "the image", max_pixels)
    with regular_file(source) as file:
        return _read(file, str(source), max_pixels)


def from_array(values: Any) -> Image.Image:
    """An array or a tensor of pixels as a Pillow image, grey, RGB or RGBA.

    Args:
        values: (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels; whole numbers in 0..255, uint16 in 0..65535,
            booleans, or floats in 0..1.

    Raises:
        UserError: Another type, shape or range.
    """
    if hasattr(values, "detach"):  # a tensor of torch, maybe on a GPU or in bfloat16
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
    if not isinstance(values, np.ndarray):
        raise UserError(
            f"the image is of type {type(values).__name__}: give a path, a Pillow image, an array or a tensor"
        )
    shape = values.shape
    if values.ndim == 3 and shape[-1] not in CHANNELS and shape[0] in CHANNELS:
        values = values.transpose(1, 2, 0)
    if values.size == 0 or not (values.ndim == 2 or (values.ndim == 3 and values.shape[-1] in CHANNELS)):
        raise UserError(
            f"the image has the shape {shape}: it must be (height, width), or have 1, 3 or 4 channels first or last"
        )
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    elif values.dtype == np.uint16 or np.issubdtype(values.dtype, np.floating):
        values = _to_bytes(values, "the image")
    elif not np.issubdtype(values.dtype, np.integer) or values.min() < 0 or values.max() > 255:
        raise UserError(
            f"the image holds {values.dtype} outside 0..255: give 8-bit values, or floats in 0..1"
        )
    return Image.fromarray(np.ascontiguousarray(values.astype(np.uint8)))


@contextmanager
def open_image(source: str | Path | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """An image as Pillow opens it: size and mode are known, the pixels are read when they are asked for.

    Args:
        source: A path or an open binary file.
        max_pixels: Limit of width x height.

    Raises:
        UserError: As `load_image`; damage that shows while the block reads the pixels too.
    """
    if not isinstance(source, str | os.PathLike):
        with _opened(source, getattr(source, "name", "the image"), max_pixels) as image:
            yield image
        return
    with regular_file(source) as file, _opened(file, str(source), max_pixels) as image:
        yield image


def verify_image(source: str | Path) -> None:
    """Read all of an image file, for nothing but to see that it can be read; a JPEG at an eighth of its size.

    Raises:
        UserError: As `load_image`.
    """
    with open_image(source) as image:
        image.draft("RGB", (max(image.width // 8, 1), max(image.height // 8, 1)))
        image.load()
        if image.mode == "F" or image.mode.startswith("I"):
            to_rgb(image, str(source))


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
    except READ_ERRORS:
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


@contextmanager
def regular_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """An image's file, open to be read as bytes; a pipe or a device, which may never end, is refused.

    Raises:
        UserError: The file is missing, no regular file, or cannot be opened.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            what = "a folder" if os.path.isdir(path) else "no regular file"
            raise UserError(f"{path} is {what}, not an image")
        file = open(path, "rb")  # noqa: SIM115 (closed below; what the block raises is not about opening)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UserError:
        raise
    except (OSError, ValueError) as problem:
        raise UserError(f"{path} cannot be read ({getattr(problem, 'strerror', problem)})") from None
    with file:
        yield file


@contextmanager
def _opened(file: BinaryIO, name: str, max_pixels: int) -> Iterator[Image.Image]:
    image = _identified(file, name)
    _check_size(image, name, max_pixels)
    try:
        yield image
    except UserError:
        raise
    except READ_ERRORS as problem:
        raise UserError(f"{name} is damaged or cut off ({problem})") from None


def _read(file: BinaryIO, name: str, max_pixels: int) -> Image.Image:
    return _decode(_identified(file, name), name, max_pixels)


def _identified(file: BinaryIO, name: str) -> Image.Image:
    try:
        return _open(file)
    except Image.UnidentifiedImageError:
        raise UserError(f"{name} is not an image in a known format ({', '.join(FORMATS)})") from None
    except READ_ERRORS as problem:
        raise UserError(f"{name} cannot be read as an image ({problem})") from None


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


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise UserError(
            f"{name} has {width} x {height} = {width * height:,} pixels, more than the limit of "
            f"{max_pixels:,}: shrink it or raise the limit"
        )


def _decode(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    _check_size(image, name, max_pixels)
    try:
        image.load()
    except READ_ERRORS as problem:
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
