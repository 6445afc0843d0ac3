"""What a row holds, and how its image is decoded."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
from datasets import Features, Value
from PIL import Image

from papers_shared import images
from papers_shared.errors import UserError

Row = dict[str, Any]
RAW = datasets.Image(decode=False)
FEATURES = Features(
    {
        "name": Value("string"),
        "image": RAW,
        "width": Value("int32"),
        "height": Value("int32"),
        "expression": Value("string"),
        "box_xyxy": datasets.List(Value("float64")),
        "mask": Value("binary"),
        "source": Value("string"),
        "image_id": Value("string"),
        "photo_id": Value("string"),
    }
)
_PIECE = 2000
_TURNED = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


def values_of(rows: datasets.Dataset, *names: str) -> Iterator[tuple[Any, ...]]:
    """The values of some columns, row by row; read in large pieces, which single rows are slow at."""
    columns = rows.select_columns(list(names))
    for start in range(0, len(rows), _PIECE):
        piece = columns[start : start + _PIECE]
        yield from zip(*(piece[name] for name in names), strict=True)


def load_image(row: Row) -> np.ndarray:
    """The image of a row: (H, W, 3) uint8 RGB, upright as viewers show it.

    Raises:
        UserError: The file is missing or not an image, or its size is not the one recorded with the box and mask.
    """
    entry, where = row["image"], source_of(row)
    try:
        image = images.load_image(io.BytesIO(entry["bytes"]) if entry["bytes"] else entry["path"])
    except UserError as error:
        raise UserError(f"{where}: {error}" if entry["bytes"] else str(error)) from error
    if problem := size_problem((image.height, image.width), (row["height"], row["width"])):
        raise UserError(f"{where} {problem}")
    return np.array(image)


def size_problem(found: tuple[int, int], expected: tuple[int, int]) -> str:
    """What is wrong with an image of another (height, width) than its box and mask are for."""
    if found == expected:
        return ""
    return (
        f"is {found[1]}x{found[0]} pixels, and its box and mask were made for {expected[1]}x{expected[0]}: "
        "they do not fit"
    )


def image_size(row: Row) -> tuple[int, int]:
    """(height, width) by the header of the file, as viewers show it (EXIF).

    Args:
        row: Only `image` is needed, and `name` for messages.

    Raises:
        UserError: The file is missing or not an image.
    """
    entry = row["image"]
    try:
        with open_entry(entry) as image:
            return (image.width, image.height) if _is_turned(image) else (image.height, image.width)
    except UserError as error:
        raise UserError(f"{source_of(row)}: {error}" if entry["bytes"] else str(error)) from None


def orientation_of(row: Row) -> int:
    """The EXIF orientation, 1 to 8, of an image that can be opened; 1: none."""
    try:
        with open_entry(row["image"]) as image:
            return int(image.getexif().get(0x0112, 1))
    except (UserError, *images.READ_ERRORS):
        return 1


def open_entry(entry: Row) -> contextlib.AbstractContextManager[Image.Image]:
    """The image of a row as `papers_shared.images.open_image` opens it."""
    return images.open_image(io.BytesIO(entry["bytes"]) if entry["bytes"] else entry["path"])


def _is_turned(image: Image.Image) -> bool:
    """Whether the EXIF block swaps width and height; one that cannot be read does not."""
    try:
        return image.getexif().get(0x0112, 1) in _TURNED
    except images.READ_ERRORS:
        return False


def source_of(row: Row) -> str:
    """How a message names the image of a row: its path, or the row's name where it has none."""
    return str(row["image"]["path"] or row.get("name") or "an image of the data set")


def file_entry(path: str | os.PathLike[str]) -> Row:
    """The `image` of a row whose image is a file."""
    return {"path": str(path), "bytes": None}
