"""Rows -> images: upright RGB, and their sizes by the files' headers."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image

from papers_shared import images
from papers_shared.errors import UserError

Row = dict[str, Any]
ORIENTATION = 0x0112
"""The EXIF tag."""


class Header(NamedTuple):
    """What a file says of its image before the pixels are read."""

    size: tuple[int, int]
    """(height, width) in pixels, turned by the EXIF orientation."""
    orientation: int
    """Of EXIF: 1 as stored, to 8."""


def load_image(row: Row) -> np.ndarray:
    """The image of a row: (H, W, 3) uint8 RGB, turned by its EXIF orientation.

    Raises:
        UserError: The file is missing, damaged, no image, or not displayable.
    """
    _one_thread_in_workers(os.getpid())
    entry = row["image"]
    with named(entry, row["name"]):
        return np.array(images.load_image(source_of(entry)))


def image_size(row: Row) -> tuple[int, int]:
    """(height, width) of the image of a row by its header, turned by its EXIF orientation.

    Raises:
        UserError: The file is missing or no image.
    """
    return file_header(row["image"], row["name"]).size


def file_header(entry: Row, name: str = "") -> Header:
    """Size and orientation of an entry, an image or a mask; `name` stands in messages where there is no path.

    Raises:
        UserError: The file is missing or no image.
    """
    with named(entry, name), images.open_image(source_of(entry)) as image:
        orientation = orientation_of(image)
        upright = image.size if orientation in (5, 6, 7, 8) else image.size[::-1]
        return Header((upright[0], upright[1]), orientation)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation of an opened image; 1 where it has none that can be read."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except images.READ_ERRORS:
        return 1
    return orientation if orientation in range(1, 9) else 1


def source_of(entry: Row) -> Any:
    """The path of an entry, or its bytes as an open file."""
    return io.BytesIO(entry["bytes"]) if entry["bytes"] else entry["path"]


@contextmanager
def named(entry: Row, name: str = "") -> Iterator[None]:
    """Messages about the bytes of an entry begin with its name; those about a file have its path already."""
    try:
        yield
    except UserError as error:
        if not entry["bytes"]:
            raise
        raise UserError(f"{file_name(entry, name)}: {error}") from error


def file_name(entry: Row, name: str = "") -> str:
    """How a message names the file of an entry."""
    return str(entry["path"] or name or "an image of the data set")


@functools.cache
def _one_thread_in_workers(pid: int) -> None:
    """A loader process computes on one core; OpenCV in the main process is left as it is."""
    if torch.utils.data.get_worker_info() is not None:
        cv2.setNumThreads(0)
        cv2.ocl.setUseOpenCL(False)
