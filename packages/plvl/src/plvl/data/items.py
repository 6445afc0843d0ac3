"""What every source lists, and how it becomes a row: image found, mask decoded once, box completed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from papers_shared.errors import UserError
from plvl.data.masks import box_of_mask, decode_png, decode_shape, encode_png, encode_shape
from plvl.data.pixels import Row, image_size


@dataclass(frozen=True)
class Item:
    """One sentence as a source has it."""

    name: str
    image: Row
    """{"path", "bytes"}, one of them None."""
    sentence: str
    source: str
    width: int = 0
    """0: by the image's header."""
    height: int = 0
    box_xyxy: tuple[float, ...] | None = None
    """In pixels; None: around the mask."""
    shape: Any = None
    """Polygons, run-length code, a mask image (its path or its content), or None."""
    image_id: str = ""
    """COCO's number where the image has one, else a name that begins with the source's."""
    photo_id: str = ""
    """Flickr's number of the photograph, where it is known."""
    object_id: str = ""
    """Equal for the sentences about one object, which follow each other."""


Items = Iterator[tuple[str, Item]]
"""(split, item)."""


@dataclass
class Listing:
    """A data set about to be read."""

    name: str
    read: Callable[[], Items]
    files: list[Path] = field(default_factory=list)
    """The annotation files it is read from."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason -> number of items that were left out for it; complete when all items are read."""

    def leave_out(self, reason: str) -> None:
        """Count one item that is left out."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1


class RowMaker:
    """Item -> (row, run-length code of its mask); the mask of an object is decoded once for its sentences."""

    def __init__(self) -> None:
        self._object = ""
        self._mask: tuple[bytes, dict[str, Any], tuple[float, ...] | None] | None = None
        self._sizes: tuple[str, tuple[int, int]] = ("", (0, 0))

    def __call__(self, item: Item) -> tuple[Row, dict[str, Any] | None]:
        """
        Raises:
            UserError: The image is needed and missing, or box or mask make no sense.
        """
        height, width = self._size(item)
        if not item.object_id or item.object_id != self._object:
            self._object, self._mask = item.object_id, _mask_of(item, height, width)
        png, code, around = self._mask or (None, None, None)
        box = around if item.box_xyxy is None else _checked(item)
        if box is None:
            raise UserError(f"{item.name!r} has neither a box nor a mask with an area")
        row = {
            "name": item.name,
            "image": item.image,
            "width": width,
            "height": height,
            "expression": item.sentence,
            "box_xyxy": list(box),
            "mask": png,
            "source": item.source,
            "image_id": item.image_id,
            "photo_id": item.photo_id,
        }
        return row, code

    def _size(self, item: Item) -> tuple[int, int]:
        if item.width > 0 and item.height > 0:
            return item.height, item.width
        path = item.image["path"]
        if path is None or path != self._sizes[0]:
            self._sizes = (path or "", image_size({"image": item.image, "name": item.name}))
        return self._sizes[1]


def _mask_of(
    item: Item, height: int, width: int
) -> tuple[bytes, dict[str, Any], tuple[float, ...] | None] | None:
    if isinstance(item.shape, str | Path):
        try:
            mask: np.ndarray | None = decode_png(Path(item.shape).read_bytes(), item.name)
        except OSError as error:
            raise UserError(
                f"{item.name!r}: its mask {item.shape} cannot be read ({error.strerror})"
            ) from error
    elif isinstance(item.shape, bytes):
        mask = decode_png(item.shape, item.name)
    else:
        mask = decode_shape(item.shape, height, width, repr(item.name))
    if mask is None:
        return None
    if mask.shape != (height, width):
        raise UserError(
            f"{item.name!r}: the mask is {mask.shape[1]}x{mask.shape[0]} pixels, its image {width}x{height}"
        )
    return encode_png(mask), encode_shape(mask), box_of_mask(mask)


def _checked(item: Item) -> tuple[float, ...]:
    box = item.box_xyxy or ()
    try:
        numbers = tuple(float(value) for value in box)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise UserError(f"{item.name!r}: the box {box!r} is not four numbers x0, y0, x1, y1")
    return numbers
