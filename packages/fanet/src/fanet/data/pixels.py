"""Rows -> images, through the cache of decoded pixels."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from fanet.data.cache import PixelCache
from papers_shared import images
from papers_shared.errors import UserError

Row = dict[str, Any]
ORIENTATION = 0x0112
"""The EXIF tag that says how an image is turned; values above 4 exchange height and width."""


def load_image(row: Row, cache: PixelCache | None = None) -> np.ndarray:
    """The image of a row: (H, W, 3) uint8 RGB, EXIF-rotated.

    Raises:
        UserError: The file is missing or no image.
    """
    one_thread_in_workers(os.getpid())
    entry = row["image"]
    if cache is None:
        return decode_image(entry, row["name"])
    return cache.read(f"image:{identity(entry)}", lambda: decode_image(entry, row["name"]))


def image_size(row: Row) -> tuple[int, int]:
    """(height, width) of the image of a row as `load_image` gives it, by the file's headers alone.

    Raises:
        UserError: The file is missing or no image.
    """
    with open_entry(row["image"], row["name"]) as image:
        turned = orientation_of(image) > 4
        return (image.width, image.height) if turned else (image.height, image.width)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation 1 to 8 of an image whose pixels are not decoded yet; 1 where it is upright or unknown.

    A TIFF file's own is 1: Pillow gives its size and its pixels turned already.
    """
    if image.format == "TIFF":
        return 1
    try:
        # not the method of PNG images, which decodes the pixels first
        found: Any = Image.Image.getexif(image).get(ORIENTATION)
        if found is None and image.format == "PNG":
            found = _exif_behind_pixels(image).get(ORIENTATION)
        return int(found) if found in range(1, 9) else 1
    except Exception:  # an unreadable EXIF block is none
        return 1


def decode_image(entry: Row, name: str = "") -> np.ndarray:
    """(H, W, 3) uint8 RGB of an {"path", "bytes"} entry; `name` stands in messages where there is no path."""
    _check_there(entry, name)
    if not entry["bytes"]:
        return np.array(images.load_image(entry["path"]))
    try:
        return np.array(images.load_image(io.BytesIO(entry["bytes"])))
    except UserError as error:
        raise UserError(f"{source_of(entry, name)}: {error}") from error


@contextlib.contextmanager
def open_entry(entry: Row, name: str) -> Iterator[Image.Image]:
    """The Pillow image of an entry, whose pixels are not decoded yet.

    Raises:
        UserError: The file is missing or no image; damage that shows while the block reads the pixels too.
    """
    _check_there(entry, name)
    if not entry["bytes"]:
        with images.open_image(entry["path"]) as image:
            yield image
        return
    try:
        with images.open_image(io.BytesIO(entry["bytes"])) as image:
            yield image
    except UserError as error:
        source = source_of(entry, name)
        raise UserError(str(error) if str(error).startswith(source) else f"{source}: {error}") from error


def source_of(entry: Row | None, name: str = "") -> str:
    """How a message names the file of an entry."""
    return str((entry and entry["path"]) or name or "an image of the data set")


def _check_there(entry: Row | None, name: str) -> None:
    if entry is None or not (entry["bytes"] or entry["path"]):
        raise UserError(f"{name or 'an image of the data set'}: the row holds no image")


def identity(entry: Row) -> str:
    """Changes when the file does."""
    _check_there(entry, "")
    if entry["bytes"]:
        return hashlib.blake2b(entry["bytes"], digest_size=16).hexdigest()
    try:
        stat = os.stat(entry["path"])
    except OSError as error:
        raise UserError(f"{entry['path']} cannot be read ({error.strerror})") from error
    return f"{entry['path']}:{stat.st_size}:{stat.st_mtime_ns}"


@functools.cache
def one_thread_in_workers(pid: int) -> None:
    """A loader process computes on one core; OpenCV in the main process is left as it is."""
    if torch.utils.data.get_worker_info() is not None:
        cv2.setNumThreads(0)
        cv2.ocl.setUseOpenCL(False)


def _exif_behind_pixels(image: Image.Image) -> Image.Exif:
    """The EXIF block that stands behind the pixels of a PNG file."""
    exif = Image.Exif()
    file: Any = image.fp  # type: ignore[attr-defined]
    position = file.tell()
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            exif.load(b"Exif\0\0" + file.read(length))
            break
        file.seek(length + 4, os.SEEK_CUR)
    file.seek(position)
    return exif
