"""Rows -> masks, by the conventions of each release."""

from __future__ import annotations

import os
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps

from cabl_cgsr.data.pixels import (
    Header,
    Row,
    file_header,
    file_name,
    image_size,
    named,
    orientation_of,
    source_of,
)
from papers_shared.errors import UserError
from papers_shared.images import open_image

LOSSY = (".jpg", ".jpeg", ".jfif", ".webp")
TURNED = {"Sp_D_CNN_A_sec0012_ani0007_0275": Image.Transpose.ROTATE_90}
"""Masks that lie on their side in the published archives, with the turn that lays them on their images."""
AS_STORED = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation of an image -> the turn of a mask that was drawn on the image as it is stored."""
CAMERA_SEPARATION = 60
"""Difference of red and green, in grey levels, from which a pixel of a mask counts as coloured."""
PASTED_GREEN = 120
"""Columbia's coloured masks: red and green are the two cameras, brighter at the seam; green is the pasted part."""
WHITE = 7
"""Red, green and blue together, as bits."""
SHAPE_FACTOR, SIZE_FACTOR = 1.5, 8
"""A mask whose shape or side differs from its image's by more was not made for it."""


class Decoded(NamedTuple):
    """A mask as its file holds it."""

    levels: np.ndarray
    """(H, W) uint8, 0 to 255, upright."""
    how: str
    """How the file was read, where it is no plain grey image; empty for one that is."""
    turned: bool
    """Whether the mask has an EXIF orientation of its own, or was turned because its release is known to need it."""


def load_mask(row: Row, size: tuple[int, int] | None = None) -> np.ndarray:
    """Where the image of a row is manipulated: (H, W) bool, as large as the image.

    An authentic image gives an empty mask. Any grey level above 0 counts as manipulated (`load_levels`
    keeps the levels); see there for colours and sizes.

    Args:
        size: (H, W) of the image, where the caller knows it already.

    Raises:
        UserError: a manipulated image has no mask, or the mask is unreadable, lies on its side or has another shape.
    """
    return load_levels(row, size) > 0


def load_levels(row: Row, size: tuple[int, int] | None = None) -> np.ndarray:
    """The mask of a row as grey levels: (H, W) uint8, 0 authentic to 255 manipulated, as large as the image.

    Masks are read by what they hold: grey ones as they are, 0/1 ones and palettes of two colours times 255, those of a
    lossy format cut at 127, one colour on black as 255, Columbia's red and green ones where green exceeds 120, and
    those whose colours are all the same by their transparency. Then levels up to the row's `mask_threshold` become 0
    and the others 255, and those of an `inverted` one are turned round.

    A mask of another size is resized to the nearest pixel, as for COVERAGE; one that lies on its side is turned where
    its image's EXIF orientation or the release tells how, and refused otherwise, as is one of another shape.

    Raises:
        UserError: as in `load_mask`.
    """
    size = size or image_size(row)
    if row["label"] == 0:
        return np.zeros(size, np.uint8)
    if row.get("mask") is None:
        raise UserError(f"{row['name']} is labelled manipulated and has no mask: its pixels cannot be scored")
    decoded = decode_mask(row["mask"], row["name"])
    levels = stated(decoded.levels, bool(row.get("inverted")), row.get("mask_threshold") or 0)
    if levels.shape == size:
        return levels
    header = file_header(row["image"], row["name"])
    if problem := _misfit(header._replace(size=size), levels.shape, decoded.turned):
        raise UserError(f"{file_name(row['mask'], row['name'])} {problem}")
    if sideways(size, levels.shape):
        levels = np.asarray(Image.fromarray(levels).transpose(AS_STORED[header.orientation]))
    return cv2.resize(levels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def stated(levels: np.ndarray, inverted: bool, threshold: int) -> np.ndarray:
    """(H, W) uint8 levels as a row says that they are meant."""
    if threshold:
        levels = np.where(levels > threshold, 255, 0).astype(np.uint8)
    return 255 - levels if inverted else levels


def decode_mask(entry: Row, name: str = "") -> Decoded:
    """A mask file; `name` stands in messages where there is no path.

    Raises:
        UserError: it cannot be read, holds floating values that are no levels, or its colours say nothing.
    """
    source = file_name(entry, name)
    with named(entry, name), open_image(source_of(entry)) as opened:
        opened.load()
        turned = orientation_of(opened) != 1
        mask: Image.Image = ImageOps.exif_transpose(opened) if turned else opened.copy()
    turn = TURNED.get(_stem(source).removesuffix("_gt"))
    if turn is not None and mask.height > mask.width:
        mask, turned = mask.transpose(turn), True
    levels, how = _plain(mask, source)
    if levels.ndim == 3:
        levels, how = _coloured(levels, source)
    elif levels.max(initial=0) == 1:
        levels, how = levels * np.uint8(255), how or "levels 0 and 1: read as 0 and 255"
    elif source.lower().endswith(LOSSY):
        levels = np.where(levels > 127, 255, 0).astype(np.uint8)
    return Decoded(levels, how, turned)


def mask_problem(image: Row, mask: Row) -> str:
    """Why a mask cannot be used with its image, by the headers of both files; empty if it can.

    Raises:
        UserError: one of the files is missing or no image.
    """
    drawn = file_header(mask)
    known = _stem(file_name(mask)).removesuffix("_gt") in TURNED
    return "" if known else _misfit(file_header(image), drawn.size, drawn.orientation != 1)


def sideways(size: tuple[int, int], mask: tuple[int, ...]) -> bool:
    """Whether a mask (height, width) has the shape of the image on its side; a square never has."""
    upright = abs(np.log(size[0] / size[1] * mask[1] / mask[0]))
    on_its_side = abs(np.log(size[0] / size[1] * mask[0] / mask[1]))
    return bool(on_its_side < upright and upright > 0.2)


def _misfit(image: Header, mask: tuple[int, ...], turned: bool) -> str:
    """Why a mask of this size cannot be laid on an image; empty if it can, perhaps resized or turned."""
    size = image.size
    sizes = f"mask of {mask[1]}x{mask[0]}", f"the image is {size[1]}x{size[0]}"
    if sideways(size, mask):
        if image.orientation in AS_STORED and not turned:
            return ""
        return f"{sizes[0]} lies on its side, {sizes[1]}: which way to turn it is not recorded, use a corrected mask"
    ratios = size[0] / mask[0], size[1] / mask[1]
    if max(ratios) > SHAPE_FACTOR * min(ratios) or max(ratios) > SIZE_FACTOR or min(ratios) * SIZE_FACTOR < 1:
        return f"{sizes[0]} was not made for its image, {sizes[1]}: use the right mask"
    return ""


def _plain(image: Image.Image, source: str) -> tuple[np.ndarray, str]:
    """(H, W) uint8 of a grey image, also one stored as RGB(A) or palette; (H, W, 3) of a coloured one."""
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8) * np.uint8(255), ""
    if image.mode == "F":
        return _of_floats(np.asarray(image), source)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        top = 65535 if values.max(initial=0) > 255 else 255
        return np.round(values * (255 / top)).clip(0, 255).astype(np.uint8), ""
    if image.mode in ("RGBA", "LA", "PA") or (image.mode == "P" and "transparency" in image.info):
        layers = np.asarray(image.convert("RGBA"))
        alpha = layers[..., 3]
        flat = bool((layers[..., :3] == layers[0, 0, :3]).all())
        if flat and alpha.min() < alpha.max():
            return alpha, "one colour of varying transparency: the opaque part is read as manipulated"
    if image.mode in ("L", "LA"):
        return np.asarray(image.getchannel("L")), ""
    colours = np.asarray(image.convert("RGB"))
    spread = colours.max(axis=-1).astype(int) - colours.min(axis=-1)
    coloured = (spread > CAMERA_SEPARATION).mean() > 0.001
    return (colours if coloured else np.asarray(Image.fromarray(colours).convert("L"))), ""


def _of_floats(values: np.ndarray, source: str) -> tuple[np.ndarray, str]:
    """Floating levels, 0 to 1 or 0 to 255."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (low >= 0 and high <= 255):  # NaN too
        raise UserError(
            f"{source} holds floating levels from {low:g} to {high:g}: save the mask as 8-bit grey"
        )
    factor = 255 if high <= 1 else 1
    how = f"floating levels: read as 0 to {1 if factor == 255 else 255}"
    return np.round(values.astype(np.float64) * factor).astype(np.uint8), how


def _coloured(colours: np.ndarray, source: str) -> tuple[np.ndarray, str]:
    """The green part of a red and green mask, or what is not black of a mask in one colour on black."""
    red, green, blue = (colours[..., channel].astype(int) for channel in range(3))
    dark = colours.max(axis=-1) < CAMERA_SEPARATION
    if ((np.maximum(red, green) - blue) < CAMERA_SEPARATION).mean() <= 0.05 and dark.mean() < 0.02:
        return np.where(green > PASTED_GREEN, 255, 0).astype(np.uint8), ""
    bright = colours[~dark]
    strong = bright > bright.max(axis=-1, keepdims=True) // 2
    hues, counts = np.unique(strong @ np.array([1, 2, 4]), return_counts=True)
    told = len(hues) > 0 and counts.max() > 0.95 * counts.sum()
    if told and hues[counts.argmax()] == WHITE:
        return np.asarray(Image.fromarray(colours).convert("L")), ""
    if told and dark.any():
        return np.where(dark, 0, 255).astype(np.uint8), "one colour on black: read as manipulated"
    raise UserError(
        f"{source} is a coloured mask, neither one colour on black nor red and green like Columbia's: store it as grey"
    )


def _stem(source: str) -> str:
    return os.path.splitext(os.path.basename(source))[0]
