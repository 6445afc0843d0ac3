"""Polygons and run-length codes -> masks, by pycocotools: the decoder of the REFER release and of the authors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco

from papers_shared.errors import UserError


def decode_shape(shape: Any, height: int, width: int, where: str) -> np.ndarray | None:
    """(height, width) bool of a COCO `segmentation`; None where it is empty.

    Args:
        shape: polygons ([[x, y, x, y, ...], ...], or one of them), a run-length code {"size", "counts"} with counts
            as text, bytes or numbers, or a list of such codes. Parts are joined. A polygon can also be a list of
            points; those of fewer than three corners have no area and are left out.
        where: what messages begin with.

    Raises:
        UserError: none of these, or a run-length code of another size than the picture.
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
        raise ValueError(f"a run-length code of {size[1]}x{size[0]} in a picture of {width}x{height}")
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
