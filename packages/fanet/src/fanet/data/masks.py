"""Rows -> masks of class ids, stored or drawn from COCO polygons; each mistake names the file."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fanet.data.cache import PixelCache
from fanet.data.pixels import Row, decode_image, identity, image_size, open_entry, source_of
from papers_shared.errors import UserError


def load_mask(
    row: Row, num_classes: int, ignore_index: int = 255, cache: PixelCache | None = None
) -> np.ndarray:
    """The mask of a row: class ids (H, W) uint8, as large as its image.

    Raises:
        UserError: The file is missing or no index mask, has another size than the image, or holds a value
            that is neither a class nor `ignore_index`.
    """
    if cache is None:
        mask = _matching_mask(row)
    else:
        key = f"mask:{identity(row['mask'])}:{identity(row['image'])}"
        mask = cache.read(key, lambda: _matching_mask(row))
    if mask.max(initial=0) >= num_classes:
        values = np.flatnonzero(np.bincount(mask.reshape(-1), minlength=256))
        unknown = [int(value) for value in values if value >= num_classes and value != ignore_index]
        if unknown:
            source = source_of(row["mask"], row["name"])
            if set(values.tolist()) <= {0, 255}:
                raise UserError(f"{source} is a 0/255 mask: store class ids (0, 1, ...), not grey levels")
            listed = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
            raise UserError(f"{source} holds the value {listed}, but the classes are 0 to {num_classes - 1}")
    return mask


def decode_mask(entry: Row, name: str) -> np.ndarray:
    """(H, W) uint8 values of an index mask: palette indices of a palette image, grey levels of the others.

    Raises:
        UserError: Unreadable, coloured, or values above 255.
    """
    source = source_of(entry, name)
    with open_entry(entry, name) as image:
        try:
            values = np.array(image)
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"{source} is not a readable image ({error})") from error
    if values.ndim == 3:
        if not (values[..., :3] == values[..., :1]).all():
            raise UserError(
                f"{source} is a colour image, not a mask of class ids: store the ids as one channel"
            )
        values = values[..., 0]
    if values.dtype != np.uint8 and (values.min(initial=0) < 0 or values.max(initial=0) > 255):
        raise UserError(f"{source} holds values outside 0..255")
    return values.astype(np.uint8, copy=False)


def mask_size(row: Row) -> tuple[int, int]:
    """(height, width) of the mask of a row by its file's header.

    Raises:
        UserError: The file is missing or no image.
    """
    with open_entry(row["mask"], row["name"]) as image:
        return image.height, image.width


def size_mismatch(row: Row, size: tuple[int, int]) -> str:
    """The sentence about a mask of `size` (height, width) whose image has another one; empty where both agree."""
    height, width = image_size(row)
    if size == (width, height) != (height, width):  # turned by an EXIF block that stands behind the pixels?
        height, width = decode_image(row["image"], row["name"]).shape[:2]
    if size == (height, width):
        return ""
    return f"is {size[1]}x{size[0]} pixels and its image {width}x{height}: they must have the same size"


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
    # one entry for each crossing of an edge with the centre line of a row, and the column where it crosses
    edge = np.repeat(np.arange(len(count)), count)
    row = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count) + first[edge]
    slope = (lower[edge, 0] - upper[edge, 0]) / (lower[edge, 1] - upper[edge, 1])
    crossing = upper[edge, 0] + (row + 0.5 - upper[edge, 1]) * slope
    column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
    # a pixel is inside where an odd number of crossings lie left of its centre
    toggles = np.zeros((height, width + 1), np.uint8)
    np.bitwise_xor.at(toggles, (row, column), 1)
    return np.bitwise_xor.accumulate(toggles[:, :-1], axis=1).astype(bool)


def mask_drawer(file: Path, class_names: Sequence[str]) -> Callable[[str], bytes | None]:
    """A function: file name of an image -> its mask as PNG bytes, None for an image that is not listed.

    Where objects overlap the highest class id wins, as in the official ZeroWaste masks. Several polygons of one
    object are joined.

    Raises:
        UserError: the file is no COCO file, or a category is not among `class_names`.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        images = {Path(image["file_name"]).name: image for image in content["images"]}
        names = {category["id"]: category["name"] for category in content["categories"]}
        objects = defaultdict(list)
        for annotation in content["annotations"]:
            objects[annotation["image_id"]].append(annotation)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not a COCO file: {type(error).__name__} {error}") from error
    ids = {name: number for number, name in enumerate(class_names)}
    unknown = sorted(
        {names.get(a["category_id"], a["category_id"]) for a in content["annotations"]} - set(ids), key=str
    )
    if unknown:
        raise UserError(
            f"{file} uses the categories {unknown}, which are not among the classes {list(class_names)}"
        )

    def draw(file_name: str) -> bytes | None:
        image = images.get(file_name)
        if image is None:
            return None
        labels = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in objects[image["id"]]:
            number = ids[names[annotation["category_id"]]]
            for corners in _polygons(file, annotation):
                inside = fill_polygon(corners, *labels.shape)
                labels[inside] = np.maximum(labels[inside], number)
        buffer = io.BytesIO()
        Image.fromarray(labels).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    return draw


def _matching_mask(row: Row) -> np.ndarray:
    mask = decode_mask(row["mask"], row["name"])
    if problem := size_mismatch(row, (mask.shape[0], mask.shape[1])):
        raise UserError(f"{source_of(row['mask'], row['name'])} {problem}")
    return mask


def _polygons(file: Path, annotation: dict[str, Any]) -> list[np.ndarray]:
    shapes = annotation.get("segmentation")
    if not isinstance(shapes, list) or any(not isinstance(shape, list) or len(shape) < 6 for shape in shapes):
        raise UserError(
            f"{file}: annotation {annotation.get('id')} has no polygons in `segmentation` "
            "(run-length codes are not read)"
        )
    return [np.asarray(shape, np.float64).reshape(-1, 2) for shape in shapes]
