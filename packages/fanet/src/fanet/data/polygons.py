"""COCO polygons -> index masks."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from papers_shared.errors import UserError


def fill_polygon(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width) bool: pixels whose centre (x + 0.5, y + 0.5) lies in the polygon by the even-odd rule.

    Args:
        corners: (N, 2) x, y in pixels from the upper left corner of the picture; may lie outside of it.
    """
    start, end = np.asarray(corners, np.float64), np.roll(corners, -1, axis=0).astype(np.float64)
    upper = np.where((start[:, 1] <= end[:, 1])[:, None], start, end)
    lower = np.where((start[:, 1] <= end[:, 1])[:, None], end, start)
    first = np.clip(np.ceil(upper[:, 1] - 0.5), 0, height).astype(int)
    last = np.clip(np.ceil(lower[:, 1] - 0.5), 0, height).astype(int)
    count = np.maximum(last - first, 0)
    edge = np.repeat(np.arange(len(count)), count)
    row = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count) + first[edge]
    slope = (lower[edge, 0] - upper[edge, 0]) / (lower[edge, 1] - upper[edge, 1])
    crossing = upper[edge, 0] + (row + 0.5 - upper[edge, 1]) * slope
    column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
    toggles = np.zeros((height, width + 1), np.uint8)
    np.bitwise_xor.at(toggles, (row, column), 1)
    return np.bitwise_xor.accumulate(toggles[:, :-1], axis=1).astype(bool)


def mask_drawer(file: Path, class_names: Sequence[str]) -> Callable[[str], bytes | None]:
    """A function: file name of a picture -> its mask as PNG bytes, None for a picture that is not listed.

    Where objects overlap the highest class id wins, as ZeroWaste's authors have it. Several polygons of one
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
        raise UserError(f"{file} is not a COCO file: {type(error).__name__} {error}.") from error
    ids = {name: number for number, name in enumerate(class_names)}
    unknown = sorted(
        {names.get(a["category_id"], a["category_id"]) for a in content["annotations"]} - set(ids), key=str
    )
    if unknown:
        raise UserError(
            f"{file} uses the categories {unknown}, which are not among the classes {list(class_names)}."
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


def _polygons(file: Path, annotation: dict[str, Any]) -> list[np.ndarray]:
    shapes = annotation.get("segmentation")
    if not isinstance(shapes, list) or any(not isinstance(shape, list) or len(shape) < 6 for shape in shapes):
        raise UserError(
            f"{file}: annotation {annotation.get('id')} has no polygons in `segmentation` "
            "(run-length codes are not read)."
        )
    return [np.asarray(shape, np.float64).reshape(-1, 2) for shape in shapes]
