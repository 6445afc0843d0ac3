"""What every source yields, and how it becomes a row: picture found, mask decoded once, box completed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from papers_shared.errors import UserError
from plvl.data.masks import box_of_mask, decode_shape, encode_shape
from plvl.data.rows import Row, decode_png, encode_png, picture_size


@dataclass(frozen=True)
class Record:
    """One expression as a source has it."""

    name: str
    image: Row
    """{"path", "bytes"}, one of them None."""
    expression: str
    source: str
    width: int = 0
    """0: by the picture's header."""
    height: int = 0
    box_xyxy: tuple[float, ...] | None = None
    """In pixels; None: around the mask."""
    shape: Any = None
    """Polygons, run-length code, a mask picture (its path or its content), or None."""
    image_id: str = ""
    """COCO's number where the picture has one, else a name that begins with the source's."""
    photo_id: str = ""
    """Flickr's number of the photograph, where it is known."""
    object_id: str = ""
    """Equal for the expressions about one object, which follow each other."""


Records = Iterator[tuple[str, Record]]
"""(split, record)."""


@dataclass
class Source:
    """A data set about to be read."""

    name: str
    read: Callable[[], Records]
    files: list[Path] = field(default_factory=list)
    """The annotation files it is read from."""
    remarks: dict[str, int] = field(default_factory=dict)
    """What was left out, and how often; complete when all records are read."""

    def remark(self, what: str) -> None:
        """Count one thing that is left out."""
        self.remarks[what] = self.remarks.get(what, 0) + 1


class RowMaker:
    """Record -> (row, run-length code of its mask); the mask of an object is decoded once for its expressions."""

    def __init__(self) -> None:
        self._object = ""
        self._mask: tuple[bytes, dict[str, Any], tuple[float, ...] | None] | None = None
        self._sizes: tuple[str, tuple[int, int]] = ("", (0, 0))

    def __call__(self, record: Record) -> tuple[Row, dict[str, Any] | None]:
        """
        Raises:
            UserError: the picture is needed and missing, or box or mask make no sense.
        """
        width, height = self._size(record)
        if not record.object_id or record.object_id != self._object:
            self._object, self._mask = record.object_id, _mask_of(record, width, height)
        png, code, around = self._mask or (None, None, None)
        box = around if record.box_xyxy is None else _checked(record)
        if box is None:
            raise UserError(f"'{record.name}' has neither a box nor a mask with an area")
        row = {
            "name": record.name,
            "image": record.image,
            "width": width,
            "height": height,
            "expression": record.expression,
            "box_xyxy": list(box),
            "mask": png,
            "source": record.source,
            "image_id": record.image_id,
            "photo_id": record.photo_id,
        }
        return row, code

    def _size(self, record: Record) -> tuple[int, int]:
        if record.width > 0 and record.height > 0:
            return record.width, record.height
        path = record.image["path"]
        if path is None or path != self._sizes[0]:
            self._sizes = (path or "", picture_size(record.image, record.name))
        return self._sizes[1]


def _mask_of(
    record: Record, width: int, height: int
) -> tuple[bytes, dict[str, Any], tuple[float, ...] | None] | None:
    if isinstance(record.shape, str | Path):
        try:
            mask: np.ndarray | None = decode_png(Path(record.shape).read_bytes(), record.name)
        except OSError as error:
            raise UserError(
                f"'{record.name}': its mask {record.shape} cannot be read ({error.strerror})"
            ) from error
    elif isinstance(record.shape, bytes):
        mask = decode_png(record.shape, record.name)
    else:
        mask = decode_shape(record.shape, height, width, f"'{record.name}'")
    if mask is None:
        return None
    if mask.shape != (height, width):
        raise UserError(
            f"'{record.name}': the mask is {mask.shape[1]}x{mask.shape[0]} pixels, its picture {width}x{height}"
        )
    return encode_png(mask), encode_shape(mask), box_of_mask(mask)


def _checked(record: Record) -> tuple[float, ...]:
    box = record.box_xyxy or ()
    try:
        numbers = tuple(float(value) for value in box)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise UserError(f"'{record.name}': the box {box!r} is not four numbers x0, y0, x1, y1")
    return numbers
