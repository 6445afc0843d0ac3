"""Rows -> images, through the cache of decoded pixels."""

from __future__ import annotations

import functools
import hashlib
import io
import os
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
    _one_thread_in_workers(os.getpid())
    entry = row["image"]
    if cache is None:
        return decode_image(entry, row["name"])
    return cache.read(f"image:{identity(entry)}", lambda: decode_image(entry, row["name"]))


def image_size(row: Row) -> tuple[int, int]:
    """(height, width) of the image of a row, by the file's header, EXIF-rotated.

    Raises:
        UserError: The file is missing or no image.
    """
    with open_entry(row["image"], row["name"]) as image:
        try:
            # not the method of PNG images, which decodes the pixels first
            turned = Image.Image.getexif(image).get(ORIENTATION, 1) > 4
        except Exception:  # an unreadable EXIF block is none
            turned = False
        return (image.width, image.height) if turned else (image.height, image.width)


def decode_image(entry: Row, name: str = "") -> np.ndarray:
    """(H, W, 3) uint8 RGB of an {"path", "bytes"} entry; `name` stands in messages where there is no path."""
    if not entry["bytes"]:
        return np.array(images.load_image(entry["path"]))
    try:
        return np.array(images.load_image(io.BytesIO(entry["bytes"])))
    except UserError as error:
        raise UserError(f"{source_of(entry, name)}: {error}") from error


def open_entry(entry: Row, name: str) -> Image.Image:
    """The Pillow image of an entry, whose pixels are not decoded yet.

    Raises:
        UserError: The file is missing or no image.
    """
    source = source_of(entry, name)
    try:
        return Image.open(io.BytesIO(entry["bytes"]) if entry["bytes"] else entry["path"])
    except FileNotFoundError as error:
        raise UserError(f"{source} does not exist") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{source} is not a readable image ({error})") from error


def source_of(entry: Row, name: str = "") -> str:
    """How a message names the file of an entry."""
    return str(entry["path"] or name or "an image of the data set")


def identity(entry: Row) -> str:
    """Changes when the file does."""
    if entry["bytes"]:
        return hashlib.blake2b(entry["bytes"], digest_size=16).hexdigest()
    try:
        stat = os.stat(entry["path"])
    except OSError as error:
        raise UserError(f"{entry['path']} cannot be read ({error.strerror})") from error
    return f"{entry['path']}:{stat.st_size}:{stat.st_mtime_ns}"


@functools.cache
def _one_thread_in_workers(pid: int) -> None:
    """A loader process computes on one core; OpenCV in the main process is left as it is."""
    if torch.utils.data.get_worker_info() is not None:
        cv2.setNumThreads(0)
        cv2.ocl.setUseOpenCL(False)
