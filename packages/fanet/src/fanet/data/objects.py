"""Annotated objects, as polygons or run lengths -> a mask of class ids."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from fanet.data.codes import IGNORED
from papers_shared.entries import numbers_of, shown
from papers_shared.errors import UserError

MAX_CROSSINGS = 4_000_000
"""Crossings of edges with rows that are worked on at a time."""


@dataclass(frozen=True)
class Runs:
    """A mask as lengths of runs of 0, 1, 0, 1, ... down the columns, from left to right."""

    lengths: np.ndarray
    """int64; their sum is height * width."""
    size: tuple[int, int]
    """(height, width)"""


@dataclass(frozen=True)
class Pixels:
    """A mask as it is."""

    inside: np.ndarray
    """(height, width) bool."""


@dataclass(frozen=True)
class Shares:
    """A polygon in shares of the image's width and height."""

    corners: np.ndarray
    """(N, 2) float64 x, y."""


@dataclass(frozen=True)
class Object:
    """One object of an image: its parts are joined."""

    class_id: int
    """Or `IGNORED`."""
    parts: tuple[np.ndarray | Shares | Runs | Pixels, ...]
    """Polygons (N, 2) float64 x, y in pixels from the upper left corner, and masks as large as the image."""


def draw(
    objects: Sequence[Object],
    size: tuple[int, int],
    *,
    overlap: Literal["class", "order", "area"] = "class",
    ignore_index: int = 255,
) -> tuple[np.ndarray, int]:
    """The mask (height, width) uint8 of an image, 0 where there is no object, and how many objects are not seen in it.

    Args:
        overlap: Which object wins where several lie: the one of the highest class id, the last one, the smallest.

    Raises:
        UserError: A run-length code of another size, or pixels to ignore without an `ignore_index`.
    """
    order = list(range(len(objects)))
    if overlap == "class":
        order.sort(key=lambda index: objects[index].class_id)
    elif overlap == "area":
        order.sort(key=lambda index: -int(_inside(objects[index], size).sum()))
    number = np.zeros(size, np.int32)
    for index in order:
        number[_inside(objects[index], size)] = index + 1
    ids = [0]
    for one in objects:
        if one.class_id == IGNORED and not 0 <= ignore_index < 256:
            raise UserError("an object says `ignore`: give --data.ignore-index 0 to 255")
        ids.append(ignore_index if one.class_id == IGNORED else one.class_id)
    seen = np.bincount(number.reshape(-1), minlength=len(ids))[1:]
    return np.array(ids, np.uint8)[number], int((seen == 0).sum())


def as_png(labels: np.ndarray) -> bytes:
    """A mask (H, W) uint8 as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def polygon_of(values: Any, where: str) -> np.ndarray | None:
    """x, y, x, y, ... as (N, 2); None for fewer than three points.

    Raises:
        UserError: Not an even number of finite coordinates; the message begins with `where`.
    """
    numbers = numbers_of(values, where)
    if len(numbers) % 2:
        raise UserError(f"{where}: a polygon of {len(numbers)} coordinates, x and y must come in pairs")
    return np.array(numbers, np.float64).reshape(-1, 2) if len(numbers) >= 6 else None


def runs_of(code: Any, where: str) -> Runs:
    """COCO's run-length code: {"size": [height, width], "counts": lengths, or their compressed form as text}.

    Raises:
        UserError: It is none; the message begins with `where`.
    """
    if not isinstance(code, dict) or not {"size", "counts"} <= code.keys():
        raise UserError(f"{where}: a run-length code has `size` and `counts`, this is {shown(code)}")
    size = numbers_of(code["size"], f"{where}: `size`", count=2)
    height, width = (int(side) for side in size)
    if [height, width] != size or min(height, width) < 1:
        raise UserError(f"{where}: the size {shown(code['size'])} is no height and width")
    counts = code["counts"]
    if isinstance(counts, str | bytes):
        lengths = _decompressed(counts, where)
    elif isinstance(counts, list) and all(type(count) is int and 0 <= count < 2**40 for count in counts):
        lengths = np.array(counts, np.int64)
    else:
        raise UserError(f"{where}: `counts` must be whole numbers or text, and is {shown(counts)}")
    if lengths.min(initial=0) < 0 or lengths.sum() != height * width:
        raise UserError(
            f"{where}: the run lengths cover {int(lengths.sum())} pixels, and {height} x {width} are "
            f"{height * width}"
        )
    return Runs(lengths, (height, width))


def _decompressed(text: str | bytes, where: str) -> np.ndarray:
    """Lengths of COCO's text form: six bits a letter, the lowest first; from the fourth on as differences."""
    stored = np.frombuffer(text.encode(errors="replace") if isinstance(text, str) else text, np.uint8)
    letters = stored.astype(np.int64) - 48
    if letters.size == 0 or letters.min() < 0 or letters.max() > 63:
        raise UserError(f"{where}: `counts` is no compressed run-length code: {shown(text)}")
    lengths: list[int] = []
    value = shift = 0
    for letter in letters.tolist():
        value |= (letter & 31) << shift
        shift += 5
        if shift > 50:
            raise UserError(f"{where}: `counts` is no compressed run-length code: {shown(text)}")
        if letter & 32:
            continue
        if letter & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    if shift:
        raise UserError(f"{where}: the compressed run-length code is cut off")
    return np.array(lengths, np.int64)


def _inside(one: Object, size: tuple[int, int]) -> np.ndarray:
    """(height, width) bool: the union of an object's parts."""
    inside = np.zeros(size, bool)
    for part in one.parts:
        if isinstance(part, np.ndarray | Shares):
            corners = part.corners * size[::-1] if isinstance(part, Shares) else part
            inside |= fill_polygon(corners, *size)
            continue
        own = part.size if isinstance(part, Runs) else part.inside.shape
        if own != size:
            raise UserError(
                f"a run-length code of {own[1]}x{own[0]} pixels on an image of {size[1]}x{size[0]}"
            )
        if isinstance(part, Pixels):
            inside |= part.inside
        else:
            values = np.arange(len(part.lengths)) % 2 == 1
            inside |= np.repeat(values, part.lengths).reshape(size[::-1]).T
    return inside


def fill_polygon(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width) bool: pixels whose centre (x + 0.5, y + 0.5) lies in the polygon by the even-odd rule.

    Args:
        corners: (N, 2) x, y in pixels from the upper left corner of the image; may lie outside of it.
    """
    start, end = np.asarray(corners, np.float64), np.roll(corners, -1, axis=0).astype(np.float64)
    # every edge from its upper to its lower end, and the rows whose centre lies between the two
    upper = np.where((start[:, 1] <= end[:, 1])[:, None], start, end)
    lower = np.where((start[:, 1] <= end[:, 1])[:, None], end, start)
    first = np.clip(np.ceil(upper[:, 1] - 0.5), 0, height).astype(int)
    last = np.clip(np.ceil(lower[:, 1] - 0.5), 0, height).astype(int)
    count = np.maximum(last - first, 0)
    toggles = np.zeros((height, width + 1), np.uint8)
    part = np.cumsum(count) // MAX_CROSSINGS
    for edges in np.split(np.arange(len(count)), np.flatnonzero(np.diff(part)) + 1):
        # one entry for each crossing of an edge with the centre line of a row, and the column where it crosses
        edge = np.repeat(edges, count[edges])
        row = np.arange(len(edge)) - np.repeat(count[edges].cumsum() - count[edges], count[edges])
        row += first[edge]
        slope = (lower[edge, 0] - upper[edge, 0]) / (lower[edge, 1] - upper[edge, 1])
        crossing = upper[edge, 0] + (row + 0.5 - upper[edge, 1]) * slope
        column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
        # a pixel is inside where an odd number of crossings lie left of its centre
        np.bitwise_xor.at(toggles, (row, column), 1)
    return np.bitwise_xor.accumulate(toggles[:, :-1], axis=1).astype(bool)
