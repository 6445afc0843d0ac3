"""What every source lists, and how it becomes a row: values checked, image found, mask decoded, box completed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from papers_shared.entries import is_text, numbers_of, one_line, shown, size_of
from papers_shared.errors import UserError
from plvl.config import BoxFormat, BoxUnit, DataConfig
from plvl.data.masks import (
    box_of_mask,
    decode_image,
    decode_shape,
    encode_png,
    encode_shape,
    polygons_without_area,
)
from plvl.data.pixels import Row, image_size

TEXTS = ("name", "sentence", "source", "image_id", "photo_id", "object_id")


@dataclass(frozen=True)
class Reading:
    """How values are meant whose form a file does not tell."""

    box_format: BoxFormat = "auto"
    box_unit: BoxUnit = "pixels"
    invert_masks: bool = False
    allow_outside: bool = False

    @classmethod
    def of(cls, data: DataConfig) -> Reading:
        """By the options of a data folder."""
        return cls(data.box_format, data.box_unit, data.invert_masks, data.allow_outside)


@dataclass(frozen=True)
class Item:
    """One sentence as a source has it; `RowMaker` checks its values."""

    name: str
    image: Row
    """{"path", "bytes"}, one of them None."""
    sentence: str
    source: str
    where: str = ""
    """What messages begin with: the file and the line or annotation; empty: the name."""
    width: Any = None
    """None: by the image's header."""
    height: Any = None
    box: Any = None
    """Four numbers in `box_format` and `box_unit`; None: around the mask."""
    box_format: BoxFormat = "xyxy"
    box_unit: BoxUnit = "pixels"
    shape: Any = None
    """Polygons, run-length code, a mask image (its path or its content), or None."""
    invert_mask: bool = False
    """In mask images black is the object."""
    image_id: str = ""
    """COCO's number where the image has one, else a name that begins with the source's."""
    photo_id: str = ""
    """Flickr's number of the photograph, where it is known."""
    object_id: str = ""
    """Equal for the sentences about one object of an image."""


Items = Iterator[tuple[str, Item]]
"""(split, item)."""


@dataclass
class Listing:
    """A data set about to be read."""

    name: str
    read: Callable[[], Items]
    files: list[Path] = field(default_factory=list)
    """The annotation files it is read from."""
    release: bool = False
    """Published files, which nobody corrects: sentences without an area are left out and counted. In other files
    they are mistakes."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason -> number of items that were left out for it; complete when all items are read."""
    remarks: dict[str, int] = field(default_factory=dict)
    """What was taken in part or not used -> how often."""
    broken: list[str] | None = None
    """What is wrong with entries that cannot be used, where reading goes on without them; None: the first is raised."""

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """A block about one entry, whose mistake is noted in `broken` where that is wanted."""
        try:
            yield
        except UserError as error:
            self.note(error)

    def note(self, error: UserError) -> None:
        """Note a mistake in `broken`, or raise it."""
        if self.broken is None:
            raise error
        self.broken.append(one_line(str(error)))

    def leave_out(self, reason: str) -> None:
        """Count one item that is left out."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def remark(self, what: str) -> None:
        """Count one thing that was not used, or taken in part."""
        self.remarks[what] = self.remarks.get(what, 0) + 1


@dataclass(frozen=True)
class _Mask:
    png: bytes
    code: dict[str, Any]
    """COCO's run-length code."""
    extent: tuple[float, ...] | None


class RowMaker:
    """Item -> (row, run-length code of its mask), for all sources by the same rules.

    Sentences that follow each other with the same image and the same shape share the decoded mask.
    """

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._mask: _Mask | None = None
        self._sizes: tuple[str, tuple[int, int]] = ("", (0, 0))

    def __call__(self, item: Item, listing: Listing) -> tuple[Row, dict[str, Any] | None] | None:
        """None where the listing is a release and the item has no area; it is counted there.

        Raises:
            UserError: A value is not text or not a number within bounds, the image is needed and missing, or
                box or mask make no sense.
        """
        where = item.where or repr(item.name)
        for key in TEXTS:
            value = getattr(item, key)
            if not isinstance(value, str) or not is_text(value):
                raise UserError(f"{where}: the {key} {shown(value)} is no text")
        height, width = self._size(item, where)
        mask = self._decoded(item, height, width, where, listing)
        box = _box_of(item, height, width, where)
        if box is None:
            box = mask.extent if mask else None
            problem = "neither a box nor a mask with an area"
        else:
            problem = f"the box {[round(value, 2) for value in box]} (x0, y0, x1, y1) is empty"
        if box is None or not (box[0] < box[2] and box[1] < box[3]):
            if listing.release:
                listing.leave_out(
                    "neither a box nor a mask with an area" if box is None else "the box is empty"
                )
                return None
            hint = (
                "" if item.box is None else "; boxes x, y, width, height are read with --data.box-format xywh"
            )
            raise UserError(f"{where}: {problem}{hint}")
        row = {
            "name": item.name,
            "image": item.image,
            "width": width,
            "height": height,
            "expression": item.sentence,
            "box_xyxy": list(box),
            "mask": mask.png if mask else None,
            "source": item.source,
            "image_id": item.image_id,
            "photo_id": item.photo_id,
        }
        return row, mask.code if mask else None

    def _size(self, item: Item, where: str) -> tuple[int, int]:
        if item.width is not None or item.height is not None:
            return size_of(item.width, item.height, where)
        path = item.image["path"]
        if path is None or path != self._sizes[0]:
            try:
                self._sizes = (path or "", image_size({"image": item.image, "name": item.name}))
            except UserError as error:
                raise UserError(f"{where}: {error}") from None
        return self._sizes[1]

    def _decoded(self, item: Item, height: int, width: int, where: str, listing: Listing) -> _Mask | None:
        key = (item.image["path"], item.shape, item.invert_mask, height, width)
        if item.image["path"] is None or key != self._key:
            self._key, self._mask = key, _mask_of(item, height, width, where, listing)
        return self._mask


def _mask_of(item: Item, height: int, width: int, where: str, listing: Listing) -> _Mask | None:
    mask: np.ndarray | None
    if isinstance(item.shape, str | Path | bytes):
        mask = decode_image(item.shape, f"{where}: the mask", (height, width))
        mask = ~mask if item.invert_mask else mask
    else:
        mask = decode_shape(item.shape, height, width, where)
        if polygons_without_area(item.shape):
            listing.remark("polygons of fewer than three corners are left out")
    if mask is None:
        return None
    return _Mask(encode_png(mask), encode_shape(mask), box_of_mask(mask))


def _box_of(item: Item, height: int, width: int, where: str) -> tuple[float, ...] | None:
    """x0, y0, x1, y1 in pixels."""
    if item.box is None:
        return None
    x, y, z, w = numbers_of(item.box, f"{where}: the box", count=4)
    if item.box_format == "xywh":
        z, w = x + z, y + w
    if item.box_unit == "pixels":
        return x, y, z, w
    sides = np.array([width, height] * 2) / (1 if item.box_unit == "unit" else 1000)
    return tuple(float(value) for value in np.array([x, y, z, w]) * sides)
