"""Polygons and run-length codes -> masks, by pycocotools as in the REFER release; PNG -> masks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from papers_shared.entries import first_line, numbers_of, shown
from papers_shared.errors import UserError
from papers_shared.images import open_image

FAR = 10
"""Sides of the image that a corner of a polygon may be away."""
LONGEST_OUTLINE = 5_000_000
"""Pixels around all polygons of one mask: the library takes 20 bytes and more for each."""
SOFT = 0.25
"""Share of the range of values at both of its ends that counts as object or background."""
MANY = 16
"""Values in a mask image from which on those in the middle may be soft edges."""


def load_mask(row: dict[str, Any]) -> np.ndarray | None:
    """The mask of a row: (H, W) bool at the size of the image, or None.

    Raises:
        UserError: The bytes are not an image, or one of another size than the row's.
    """
    if row["mask"] is None:
        return None
    return decode_image(row["mask"], f"the mask of {row['name']!r}", (row["height"], row["width"]))


def encode_png(mask: np.ndarray) -> bytes:
    """(H, W) bool -> PNG of one bit per pixel, black and white."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(mask, dtype=bool)).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def decode_png(content: bytes, name: str) -> np.ndarray:
    """The mask of a row -> (H, W) bool; see `decode_image`.

    Raises:
        UserError: Not an image.
    """
    return decode_image(content, f"the mask of {name}")


def decode_image(source: bytes | str | Path, where: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """A mask image, a file or its content, -> (H, W) bool: True on the object.

    Of two values the greater one is the object: 0 and 255, 0 and 1, 0 and the id of a class, two grey levels, black
    and one colour. An image that is grey only on its edges is cut at half of its maximum. An alpha channel that
    varies over a plain colour is the mask.

    Args:
        size: (height, width) that it must have, seen before anything is decoded.

    Raises:
        UserError: Not an image, one of another size, or one of several objects.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with open_image(file) as image:
            found_size = (image.height, image.width)
            values = None if size not in (None, found_size) else _values(image)
    except UserError as error:
        raise UserError(f"{where} is not a readable image ({first_line(error, 300)})") from None
    if values is None and size is not None:
        turned = "; the image is turned by its EXIF block" if found_size == size[::-1] else ""
        raise UserError(
            f"{where} is {found_size[1]}x{found_size[0]} pixels, its image {size[1]}x{size[0]}{turned}"
        )
    assert values is not None
    if values.dtype == bool:
        return values
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UserError(f"{where} holds values that are no numbers")
    found = np.unique(values)
    if len(found) == 1:
        return np.full(values.shape, bool(found[0]))
    if len(found) == 2:
        return values == found[1]
    half = (found[0] + float(found[-1])) / 2
    reach = (float(found[-1]) - float(found[0])) * SOFT
    plain = (values <= found[0] + reach) | (values >= found[-1] - reach)
    if (len(found) > MANY and plain.mean() >= 0.9) or plain.all():
        return values > half
    listed = ", ".join(f"{value:g}" for value in found[:8].tolist())
    raise UserError(
        f"{where} holds {len(found)} values ({listed}{', ...' if len(found) > 8 else ''}): "
        "write the object as 255 and the rest as 0, one image for each object"
    )


def _values(image: Image.Image) -> np.ndarray:
    """One number per pixel; a colour is one number, black 0."""
    if image.mode == "1":
        return np.array(image.convert("L")) > 127
    if image.mode in ("L", "P") or image.mode.startswith(("I", "F")):
        return np.array(image)
    channels = np.array(image.convert("RGBA"))
    alpha, colours = channels[..., 3], channels[..., :3]
    if np.ptp(alpha):
        visible = colours[alpha > 0]
        if not len(visible) or not np.ptp(visible, axis=0).any():
            return alpha
        colours = colours * (alpha > 127)[..., None]
    if not np.ptp(colours, axis=-1).any():
        return colours[..., 0]
    red, green, blue = (colours[..., part].astype(np.int32) for part in range(3))
    coded = (red << 16) + (green << 8) + blue
    bright = colours.max(-1)
    if len(np.unique(coded)) > 2 and len(np.unique(bright)) > MANY:
        return bright  # one colour on black with soft edges, as JPEG leaves them
    return coded


def decode_shape(shape: Any, height: int, width: int, where: str) -> np.ndarray | None:
    """(height, width) bool of a COCO `segmentation`; None where it is empty.

    Args:
        shape: polygons ([[x, y, x, y, ...], ...], or one of them), a run-length code {"size", "counts"} with counts
            as text, bytes or numbers, or a list of such codes. Parts are joined. A polygon can also be a list of
            points; those of fewer than three corners have no area and are left out.
        where: what messages begin with.

    Raises:
        UserError: None of these, a number that is not finite or far outside the image, or a run-length code that
            does not fill the image.
    """
    if shape is None or (isinstance(shape, list | tuple | dict) and not shape):
        return None
    if not isinstance(shape, list | tuple | dict):
        raise UserError(f"{where}: the mask {shown(shape)} is neither polygons nor a run-length code")
    parts = _parts(shape)
    polygons = [_polygon(part, height, width, where) for part in parts if not isinstance(part, dict)]
    usable = [polygon for polygon in polygons if len(polygon) >= 6]
    if sum(map(_length, usable)) > LONGEST_OUTLINE:
        raise UserError(f"{where}: the outline of the mask is longer than {LONGEST_OUTLINE:,} pixels")
    try:
        codes = coco.frPyObjects(usable, height, width) if usable else []
        codes += [_code(part, height, width, where) for part in parts if isinstance(part, dict)]
        if not codes:
            return None
        return coco.decode(coco.merge(codes)).astype(bool)
    except UserError:
        raise
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


def _listed(shape: Any, where: str) -> Any:
    if not isinstance(shape, list | tuple | np.ndarray):
        raise UserError(f"{where}: the mask is neither polygons nor a run-length code: {shown(shape)}")
    return shape


def _coordinates(part: Any, height: int, width: int, where: str) -> list[float]:
    """A polygon as x, y, x, y, ..., each finite and near the image, before any code in C sees it."""
    part = _listed(part, where)
    flat = [value for point in part for value in point] if len(part) and _is_point(part[0]) else part
    found = numbers_of(flat, f"{where}: a polygon of the mask")
    if len(found) % 2:
        raise UserError(f"{where}: a polygon of the mask has an odd number of coordinates ({len(found)})")
    reach = FAR * max(height, width)
    far = next((value for value in found if abs(value) > reach), None)
    if far is not None:
        raise UserError(
            f"{where}: a polygon of the mask has the coordinate {far:g}, far outside the image of {width}x{height}"
        )
    return found


def polygons_without_area(shape: Any) -> int:
    """How many polygons of a shape that `decode_shape` takes have fewer than three corners."""
    if not isinstance(shape, list | tuple) or not shape:
        return 0
    return sum(
        len(part) < (3 if part and _is_point(part[0]) else 6) for part in _parts(shape) if _is_list(part)
    )


def _parts(shape: list[Any] | tuple[Any, ...] | dict[str, Any]) -> list[Any]:
    """Polygons and run-length codes."""
    whole = isinstance(shape, dict) or _is_number(shape[0]) or _is_point(shape[0])
    return [shape] if whole else list(shape)


def _is_list(part: Any) -> bool:
    return isinstance(part, list | tuple)


def _polygon(part: Any, height: int, width: int, where: str) -> list[float]:
    """x, y, x, y, ..."""
    part = part.tolist() if hasattr(part, "tolist") else part
    if isinstance(part, list | tuple) and part and all(map(_is_point, part)):
        part = [value for point in part for value in point]
    numbers = numbers_of(part, f"{where}: the mask's polygon")
    if len(numbers) % 2:
        raise UserError(f"{where}: a polygon of the mask has an odd number of coordinates")
    far = FAR * max(height, width)
    if wrong := next((value for value in numbers if abs(value) > far), None):
        raise UserError(
            f"{where}: a polygon of the mask has the coordinate {wrong:g}, far outside the image ({width}x{height})"
        )
    return numbers


def _length(polygon: Sequence[float]) -> float:
    """Of the outline, in pixels, as the longer of both directions counts."""
    points = np.reshape(polygon, (-1, 2))
    return float(np.abs(points - np.roll(points, 1, 0)).max(1).sum())


def _code(part: dict[str, Any], height: int, width: int, where: str) -> dict[str, Any]:
    """A run-length code as pycocotools takes it, known to fill the image."""
    if not {"size", "counts"} <= part.keys():
        raise UserError(f"{where}: the mask {shown(part)} is neither polygons nor a run-length code")
    size, counts = part["size"], part["counts"]
    sides = numbers_of(size, f"{where}: the size of the run-length code", count=2)
    if sides != [height, width]:
        raise UserError(
            f"{where}: a run-length code of {sides[1]:g}x{sides[0]:g} pixels in an image of {width}x{height}"
        )
    content: bytes | None = None
    if isinstance(counts, str | bytes):
        content = counts.encode("utf-8", "replace") if isinstance(counts, str) else counts
        runs = _runs(content, where)
    else:
        runs = counts.tolist() if hasattr(counts, "tolist") else counts
        if not isinstance(runs, list | tuple) or not all(type(run) is int for run in runs):
            raise UserError(f"{where}: the counts of the run-length code are no list of whole numbers")
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        total = sum(runs)
        raise UserError(
            f"{where}: the counts of the run-length code add up to {shown(total)}, not to {height * width}"
        )
    if content is None:
        return coco.frPyObjects({"size": [height, width], "counts": list(runs)}, height, width)
    return {"size": [height, width], "counts": content}


def _runs(content: bytes, where: str) -> list[int]:
    """The numbers that COCO's text stands for: six bits a letter, the third and later ones as differences."""
    runs: list[int] = []
    value = shift = 0
    for byte in content:
        letter = byte - 48
        if not 0 <= letter < 64 or shift > 30:
            raise UserError(f"{where}: the counts of the run-length code are no text of COCO's kind")
        value |= (letter & 31) << shift
        shift += 5
        if not letter & 32:
            if letter & 16:
                value -= 1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    if shift or not runs:
        raise UserError(f"{where}: the counts of the run-length code are cut off")
    return runs


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) or value is None


def _is_point(value: Any) -> bool:
    """Of [[x, y], ...]; two numbers alone are no polygon."""
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))
