"""Polygons and run-length codes -> masks, by pycocotools as in the REFER release; PNG -> masks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from papers_shared.errors import UserError


def load_mask(row: dict[str, Any]) -> np.ndarray | None:
    """The mask of a row: (H, W) bool at the size of the image, or None.

    Raises:
        UserError: The bytes are not an image, or one of another size than the row's.
    """
    if row["mask"] is None:
        return None
    mask = decode_png(row["mask"], row["name"])
    if mask.shape != (row["height"], row["width"]):
        raise UserError(
            f"the mask of {row['name']!r} is {mask.shape[1]}x{mask.shape[0]} pixels and its image "
            f"{row['width']}x{row['height']}"
        )
    return mask


def encode_png(mask: np.ndarray) -> bytes:
    """(H, W) bool -> PNG of one bit per pixel, black and white."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(mask, dtype=bool)).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def decode_png(content: bytes, name: str) -> np.ndarray:
    """A black and white, grey, palette or colour image -> (H, W) bool: True where it is brighter than half of the
    maximum of its mode; in palette images where the index is not 0.

    Raises:
        UserError: Not an image.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode == "P":
                return np.array(image) > 0
            if image.mode.startswith(("I", "F")):
                values = np.array(image)
                return values > values.max(initial=0) / 2
            return np.array(image.convert("L")) > 127
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"the mask of {name!r} is not a readable image ({error})") from error


def decode_shape(shape: Any, height: int, width: int, where: str) -> np.ndarray | None:
    """(height, width) bool of a COCO `segmentation`; None where it is empty.

    Args:
        shape: polygons ([[x, y, x, y, ...], ...], or one of them), a run-length code {"size", "counts"} with counts
            as text, bytes or numbers, or a list of such codes. Parts are joined. A polygon can also be a list of
            points; those of fewer than three corners have no area and are left out.
        where: what messages begin with.

    Raises:
        UserError: None of these, or a run-length code of another size than the image.
    """
    if not shape:
        return None
    codes = []
    try:
        whole = isinstance(shape, dict) or _is_number(shape[0]) or _is_point(shape[0])
        parts: list[Any] = [shape] if whole else list(shape)
        polygons = [
            np.asarray(part, np.float64).ravel().tolist() for part in parts if not isinstance(part, dict)
        ]
        polygons = [polygon for polygon in polygons if len(polygon) >= 6]
        if any(len(polygon) % 2 for polygon in polygons):
            raise ValueError("a polygon has an odd number of coordinates")
        if polygons:
            codes += coco.frPyObjects(polygons, height, width)
        codes += [_code(part, height, width) for part in parts if isinstance(part, dict)]
        if not codes:
            return None
        return coco.decode(coco.merge(codes)).astype(bool)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise UserError(f"{where}: the mask is neither polygons nor a run-length code ({error})") from error


def encode_shape(mask: np.ndarray) -> dict[str, Any]:
    """(H, W) bool -> COCO's compressed run-length code, {"size": [H, W], "counts": text}."""
    code = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}


def box_of_mask(mask: np.ndarray) -> tuple[float, float, float, float] | None:
    """x0, y0, x1, y1 around all true pixels, outer edges; None of an empty mask."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not len(columns):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _code(part: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    size, counts = [int(side) for side in part["size"]], part["counts"]
    if size != [height, width]:
        raise ValueError(f"a run-length code of {size[1]}x{size[0]} in an image of {width}x{height}")
    if isinstance(counts, Sequence) and not isinstance(counts, str | bytes):
        if sum(counts) != height * width or min(counts) < 0:
            raise ValueError(f"its counts add up to {sum(counts)}, not to {height * width}")
        return coco.frPyObjects({"size": size, "counts": list(counts)}, height, width)
    content = counts.encode("ascii") if isinstance(counts, str) else bytes(counts)
    if not content or not all(48 <= byte < 112 for byte in content):
        raise ValueError("its counts are no text of COCO's kind")
    return {"size": size, "counts": content}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number)


def _is_point(value: Any) -> bool:
    """Of [[x, y], ...]; two numbers alone are no polygon."""
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))
