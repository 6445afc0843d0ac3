"""Rows -> masks, by the conventions of each release."""

from __future__ import annotations

import io
import os

import cv2
import numpy as np
from PIL import Image, ImageOps

from cabl_cgsr.data.pixels import Row, file_name, file_size, image_size
from papers_shared.errors import UserError

LOSSY = (".jpg", ".jpeg", ".webp")
TURNED = {"Sp_D_CNN_A_sec0012_ani0007_0275": Image.Transpose.ROTATE_90}
"""Masks that lie on their side in the published archives, with the turn that lays them on their images."""
CAMERA_SEPARATION = 60
"""Difference of red and green, in grey levels, from which a pixel of a mask counts as coloured."""
PASTED_GREEN = 120
"""Columbia's coloured masks: red and green are the two cameras, brighter at the seam; green is the pasted part."""


def load_mask(row: Row, size: tuple[int, int] | None = None) -> np.ndarray:
    """Where the image of a row is manipulated: (H, W) bool, as large as the image.

    An authentic image gives an empty mask. Any grey level above 0 counts as manipulated (`load_levels`
    keeps the levels); see there for colours and sizes.

    Args:
        size: (H, W) of the image, where the caller knows it already.

    Raises:
        UserError: a manipulated image has no mask, or the mask is unreadable or lies on its side.
    """
    return load_levels(row, size) > 0


def load_levels(row: Row, size: tuple[int, int] | None = None) -> np.ndarray:
    """The mask of a row as grey levels: (H, W) uint8, 0 authentic to 255 manipulated, as large as the image.

    Masks are read by what they hold: grey ones as they are, 0/1 ones and palettes of two colours times 255,
    those of a lossy format cut at 127, Columbia's red and green ones where green exceeds 120. A mask of another size
    is resized to the nearest pixel, as for COVERAGE; one that lies on its side is refused, but for the one
    whose right turn is known.

    Raises:
        UserError: as in `load_mask`.
    """
    size = size or image_size(row)
    if row["label"] == 0:
        return np.zeros(size, np.uint8)
    if row.get("mask") is None:
        raise UserError(f"{row['name']} is labelled manipulated and has no mask: its pixels cannot be scored")
    levels = decode_mask(row["mask"], row["name"])
    if levels.shape == size:
        return levels
    if sideways(size, levels.shape):
        raise UserError(f"{file_name(row['mask'], row['name'])} {describe(size, levels.shape)}")
    return cv2.resize(levels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def decode_mask(entry: Row, name: str = "") -> np.ndarray:
    """(H, W) uint8 levels 0..255 of a mask file; `name` stands in messages where there is no path.

    Raises:
        UserError: it cannot be read, or its colours are not those of Columbia's masks.
    """
    source = file_name(entry, name)
    try:
        with Image.open(io.BytesIO(entry["bytes"]) if entry["bytes"] else entry["path"]) as opened:
            opened.load()
            mask: Image.Image = opened
            turn = TURNED.get(_stem(source).removesuffix("_gt"))
            if turn is not None and mask.height > mask.width:
                mask = mask.transpose(turn)
            levels = _plain(ImageOps.exif_transpose(mask))
    except FileNotFoundError as error:
        raise UserError(f"{source} does not exist") from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"{source} is not a readable image ({error})") from error
    if levels.ndim == 3:
        return _camera_mask(levels, source)
    if levels.max(initial=0) == 1:
        return levels * np.uint8(255)
    if source.lower().endswith(LOSSY):
        return np.where(levels > 127, 255, 0).astype(np.uint8)
    return levels


def mask_problem(image: Row, mask: Row) -> str:
    """Why a mask cannot be used with its image, by the headers of both files; empty if it can.

    Raises:
        UserError: one of the files is missing or no image.
    """
    size, drawn = file_size(image), file_size(mask)
    turned = _stem(file_name(mask)).removesuffix("_gt") in TURNED
    return describe(size, drawn) if sideways(size, drawn) and not turned else ""


def sideways(size: tuple[int, int], mask: tuple[int, ...]) -> bool:
    """Whether a mask (height, width) has the shape of the image on its side; a square never has."""
    upright = abs(np.log(size[0] / size[1] * mask[1] / mask[0]))
    on_its_side = abs(np.log(size[0] / size[1] * mask[0] / mask[1]))
    return bool(on_its_side < upright and upright > 0.2)


def describe(size: tuple[int, int], mask: tuple[int, ...]) -> str:
    return (
        f"mask of {mask[1]}x{mask[0]} lies on its side, the image is {size[1]}x{size[0]}: "
        "which way to turn it is not recorded, use the corrected masks"
    )


def _plain(image: Image.Image) -> np.ndarray:
    """(H, W) uint8 of a grey image, also one stored as RGB(A) or palette; (H, W, 3) of a coloured one."""
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8) * np.uint8(255)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        top = 65535 if values.max(initial=0) > 255 else 255
        return np.round(values * (255 / top)).clip(0, 255).astype(np.uint8)
    if image.mode in ("L", "LA"):
        return np.asarray(image.getchannel("L"))
    colours = np.asarray(image.convert("RGB"))
    spread = colours.max(axis=-1).astype(int) - colours.min(axis=-1)
    return (
        colours
        if (spread > CAMERA_SEPARATION).mean() > 0.01
        else np.asarray(Image.fromarray(colours).convert("L"))
    )


def _camera_mask(colours: np.ndarray, source: str) -> np.ndarray:
    """The green part of a red and green mask."""
    red, green, blue = (colours[..., channel].astype(int) for channel in range(3))
    if ((np.maximum(red, green) - blue) < CAMERA_SEPARATION).mean() > 0.05:
        raise UserError(
            f"{source} is a coloured mask, but not one in red and green like Columbia's: store it as grey"
        )
    return np.where(green > PASTED_GREEN, 255, 0).astype(np.uint8)


def _stem(source: str) -> str:
    return os.path.splitext(os.path.basename(source))[0]
