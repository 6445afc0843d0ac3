"""Rows -> pixels, through the cache of decoded frames; each mistake in a mask names the file."""

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

from fanet.cache import PixelCache
from papers_shared.errors import UserError
from papers_shared.images import load_image

Row = dict[str, Any]


def load_frame(row: Row, cache: PixelCache | None = None) -> np.ndarray:
    """The frame of a row: (H, W, 3) uint8 RGB, EXIF-rotated.

    Raises:
        UserError: the file is missing or no picture.
    """
    _one_thread_in_workers(os.getpid())
    image = row["image"]
    if cache is None:
        return decode_frame(image, row["name"])
    return cache.read(f"frame:{_identity(image)}", lambda: decode_frame(image, row["name"]))


def load_labels(
    row: Row, num_classes: int, ignore_index: int = 255, cache: PixelCache | None = None
) -> np.ndarray:
    """The mask of a row: class ids (H, W) uint8, as large as its frame.

    Raises:
        UserError: the file is missing or no index mask, has another size than the frame, or holds a value
            that is neither a class nor `ignore_index`.
    """
    if cache is None:
        labels = _matching_labels(row)
    else:
        key = f"labels:{_identity(row['mask'])}:{_identity(row['image'])}"
        labels = cache.read(key, lambda: _matching_labels(row))
    if labels.max(initial=0) >= num_classes:
        values = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=256))
        unknown = [int(value) for value in values if value >= num_classes and value != ignore_index]
        if unknown:
            raise UserError(
                f"{place(row['mask'], row['name'])} {unknown_values(unknown, values, num_classes)}"
            )
    return labels


def unknown_values(unknown: list[int], values: np.ndarray, num_classes: int) -> str:
    """The sentence about values that are no class."""
    if set(values.tolist()) <= {0, 255}:
        return "is a 0/255 mask: store class ids (0, 1, ...), not grey levels."
    listed = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
    return f"holds the value {listed}, but the classes are 0 to {num_classes - 1}."


def decode_frame(image: Row, name: str = "") -> np.ndarray:
    """(H, W, 3) uint8 RGB of an {"path", "bytes"} entry; `name` stands in messages where there is no path."""
    if not image["bytes"]:
        return np.array(load_image(image["path"]))
    try:
        return np.array(load_image(io.BytesIO(image["bytes"])))
    except UserError as error:
        raise UserError(f"{place(image, name)}: {error}") from error


def decode_labels(mask: Row, name: str) -> np.ndarray:
    """(H, W) uint8 values of an index mask: palette indices of a palette picture, grey levels of the others.

    Raises:
        UserError: unreadable, coloured, or values above 255.
    """
    where = place(mask, name)
    try:
        with Image.open(io.BytesIO(mask["bytes"]) if mask["bytes"] else mask["path"]) as picture:
            values = np.array(picture)
    except FileNotFoundError as error:
        raise UserError(f"{where} does not exist.") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{where} is not a readable picture ({error}).") from error
    if values.ndim == 3:
        if not (values[..., :3] == values[..., :1]).all():
            raise UserError(
                f"{where} is a colour picture, not a mask of class ids: store the ids as one channel."
            )
        values = values[..., 0]
    if values.dtype != np.uint8 and (values.min(initial=0) < 0 or values.max(initial=0) > 255):
        raise UserError(f"{where} holds values outside 0..255.")
    return values.astype(np.uint8, copy=False)


def frame_size(image: Row) -> tuple[int, int]:
    """(height, width) by the file's header, before any EXIF rotation.

    Raises:
        UserError: the file is missing or no picture.
    """
    try:
        with Image.open(io.BytesIO(image["bytes"]) if image["bytes"] else image["path"]) as picture:
            return picture.height, picture.width
    except FileNotFoundError as error:
        raise UserError(f"{place(image)} does not exist.") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{place(image)} is not a readable picture ({error}).") from error


def size_mismatch(row: Row, size: tuple[int, int]) -> str:
    """The sentence about a mask of `size` whose frame has another one; empty where both agree."""
    height, width = frame_size(row["image"])
    if size == (width, height) != (height, width):
        height, width = decode_frame(row["image"], row["name"]).shape[:2]
    if size == (height, width):
        return ""
    return f"is {size[1]}x{size[0]} pixels and its frame {width}x{height}: they must have the same size."


def place(entry: Row, name: str = "") -> str:
    """How a message names the file of an entry."""
    return str(entry["path"] or name or "a picture of the data set")


def _matching_labels(row: Row) -> np.ndarray:
    labels = decode_labels(row["mask"], row["name"])
    if problem := size_mismatch(row, (labels.shape[0], labels.shape[1])):
        raise UserError(f"{place(row['mask'], row['name'])} {problem}")
    return labels


def _identity(entry: Row) -> str:
    """Changes when the file does."""
    if entry["bytes"]:
        return hashlib.blake2b(entry["bytes"], digest_size=16).hexdigest()
    try:
        stat = os.stat(entry["path"])
    except OSError as error:
        raise UserError(f"{entry['path']} cannot be read ({error.strerror}).") from error
    return f"{entry['path']}:{stat.st_size}:{stat.st_mtime_ns}"


@functools.cache
def _one_thread_in_workers(pid: int) -> None:
    """A loader process computes on one core; OpenCV in the main process is left as it is."""
    if torch.utils.data.get_worker_info() is not None:
        cv2.setNumThreads(0)
        cv2.ocl.setUseOpenCL(False)
