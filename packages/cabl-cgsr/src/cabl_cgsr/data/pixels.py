"""Rows -> images: upright RGB, and their sizes by the files' headers."""

from __future__ import annotations

import functools
import io
import os
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from papers_shared import images
from papers_shared.errors import UserError

Row = dict[str, Any]


def load_image(row: Row) -> np.ndarray:
    """The image of a row: (H, W, 3) uint8 RGB, turned by its EXIF orientation.

    Raises:
        UserError: The file is missing, damaged, no image, or not displayable.
    """
    _one_thread_in_workers(os.getpid())
    entry = row["image"]
    if not entry["bytes"]:
        return np.array(images.load_image(entry["path"]))
    try:
        return np.array(images.load_image(io.BytesIO(entry["bytes"])))
    except UserError as error:
        raise UserError(f"{file_name(entry, row['name'])}: {error}") from error


def image_size(row: Row) -> tuple[int, int]:
    """(height, width) of the image of a row by its header, turned by its EXIF orientation.

    Raises:
        UserError: The file is missing or no image.
    """
    return file_size(row["image"], row["name"])


def file_size(entry: Row, name: str = "") -> tuple[int, int]:
    """(height, width) of an entry, an image or a mask; `name` stands in messages where there is no path.

    Raises:
        UserError: The file is missing or no image.
    """
    source = file_name(entry, name)
    try:
        with Image.open(io.BytesIO(entry["bytes"]) if entry["bytes"] else entry["path"]) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except FileNotFoundError as error:
        raise UserError(f"{source} does not exist") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{source} is not a readable image ({error})") from error


def file_name(entry: Row, name: str = "") -> str:
    """How a message names the file of an entry."""
    return str(entry["path"] or name or "an image of the data set")


@functools.cache
def _one_thread_in_workers(pid: int) -> None:
    """A loader process computes on one core; OpenCV in the main process is left as it is."""
    if torch.utils.data.get_worker_info() is not None:
        cv2.setNumThreads(0)
        cv2.ocl.setUseOpenCL(False)
