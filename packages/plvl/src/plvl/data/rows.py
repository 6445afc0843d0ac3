"""What a row holds, and how its picture and mask are decoded."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
from datasets import Features, Value
from PIL import Image

from papers_shared.errors import UserError
from papers_shared.images import load_image

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


def load_picture(row: Row) -> np.ndarray:
    """The picture of a row: (H, W, 3) uint8 RGB, turned as viewers show it.

    Raises:
        UserError: the file is missing or no picture, or its size is not the one recorded with the box and mask.
    """
    return np.array(open_picture(row))


def open_picture(row: Row) -> Image.Image:
    """`load_picture` as a Pillow RGB image."""
    entry = row["image"]
    where = place(entry, row["name"])
    try:
        picture = load_image(io.BytesIO(entry["bytes"]) if entry["bytes"] else entry["path"])
    except UserError as error:
        raise UserError(f"{where}: {error}" if entry["bytes"] else str(error)) from error
    if picture.size != (row["width"], row["height"]):
        raise UserError(
            f"{where} is {picture.width}x{picture.height} pixels, but '{row['name']}' was made for "
            f"{row['width']}x{row['height']}: its box and mask do not fit"
        )
    return picture


def load_mask(row: Row) -> np.ndarray | None:
    """The mask of a row: (H, W) bool at the size of the picture, or None.

    Raises:
        UserError: the bytes are no picture or have another size than the picture.
    """
    if row["mask"] is None:
        return None
    mask = decode_png(row["mask"], row["name"])
    if mask.shape != (row["height"], row["width"]):
        raise UserError(
            f"the mask of '{row['name']}' is {mask.shape[1]}x{mask.shape[0]} pixels and its picture "
            f"{row['width']}x{row['height']}"
        )
    return mask


def encode_png(mask: np.ndarray) -> bytes:
    """(H, W) bool -> PNG of one bit per pixel, black and white."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(mask, dtype=bool)).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def decode_png(content: bytes, name: str) -> np.ndarray:
    """A black and white, grey, palette or coloured picture -> (H, W) bool: True where it is brighter than half
    of what its kind can show; palette pictures: where the index is not 0.

    Raises:
        UserError: not a picture.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.mode == "P":
                return np.array(picture) > 0
            if picture.mode.startswith(("I", "F")):
                values = np.array(picture)
                return values > values.max(initial=0) / 2
            return np.array(picture.convert("L")) > 127
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"the mask of '{name}' is not a readable picture ({error})") from error


def picture_size(entry: Row, name: str = "") -> tuple[int, int]:
    """(width, height) by the header of the file, as viewers show it (EXIF).

    Raises:
        UserError: the file is missing or no picture.
    """
    try:
        with Image.open(io.BytesIO(entry["bytes"]) if entry["bytes"] else entry["path"]) as picture:
            turned = picture.getexif().get(0x0112, 1) in _TURNED
            return (picture.height, picture.width) if turned else (picture.width, picture.height)
    except FileNotFoundError as error:
        raise UserError(f"{place(entry, name)}: no such file") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{place(entry, name)} is not a readable picture ({error})") from error


def place(entry: Row, name: str = "") -> str:
    """How a message names the picture of an entry."""
    return str(entry["path"] or name or "a picture of the data set")


def file_entry(path: str | os.PathLike[str]) -> Row:
    """The `image` of a row whose picture is a file."""
    return {"path": str(path), "bytes": None}
