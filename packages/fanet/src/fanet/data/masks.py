"""Rows -> masks of class ids; each mistake names the file."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from fanet.data.cache import PixelCache
from fanet.data.codes import Codes
from fanet.data.pixels import Row, identity, image_size, open_entry, source_of
from papers_shared.errors import UserError

MODES = frozenset({"1", "L", "P", "LA", "RGB", "RGBA", "I", "I;16", "I;16B", "I;16L", "I;16N"})
"""Pillow's modes of images that can hold class ids; of several planes all colours must be equal, and opaque."""


def load_mask(
    row: Row,
    num_classes: int,
    ignore_index: int = 255,
    cache: PixelCache | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """The mask of a row: class ids (H, W) uint8, as large as its image.

    Args:
        size: (height, width) of the image where it is decoded already; None: by its file's headers.

    Raises:
        UserError: The file is missing or no index mask, has another size than the image, or holds a value
            that is neither a class nor `ignore_index`.
    """
    codes = row.get("codes") or ""

    def decode() -> np.ndarray:
        return decode_mask(row["mask"], row["name"], codes, ignore_index)

    if cache is None:
        mask = decode()
    else:
        mask = cache.read(f"mask:{identity(row['mask'])}:{codes}:{ignore_index if codes else ''}", decode)
    source = source_of(row["mask"], row["name"])
    if problem := mismatch(mask.shape, size or image_size(row)):
        raise UserError(f"{source} {problem}")
    if mask.max(initial=0) >= num_classes:
        values = np.flatnonzero(np.bincount(mask.reshape(-1), minlength=256))
        unknown = [int(value) for value in values if value >= num_classes and value != ignore_index]
        if unknown:
            if set(values.tolist()) <= {0, 255}:
                raise UserError(
                    f"{source} is a 0/255 mask: store class ids (0, 1, ...), not grey levels, or give "
                    "--data.mask-values 0 255"
                )
            listed = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
            raise UserError(f"{source} holds the value {listed}, but the classes are 0 to {num_classes - 1}")
    return mask


def decode_mask(entry: Row, name: str, codes: str = "", ignore_index: int = 255) -> np.ndarray:
    """(H, W) uint8 class ids of a mask, upright: what `codes` (`Codes.to_text`) makes of its values or colours.

    Without codes they are the palette indices of a palette image, the grey levels of the others.

    Raises:
        UserError: Unreadable, of several pages, in colour without a list of colours, or values above 255.
    """
    source = source_of(entry, name)
    meaning = Codes.from_text(codes) if codes else None
    with open_entry(entry, name) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise UserError(f"{source} holds several images (pages): store one mask a file")
        if image.mode not in MODES:
            raise UserError(
                f"{source} has the colour mode {image.mode}: store class ids as one channel of 8 bits (PNG)"
            )
        turned = ImageOps.exif_transpose(image)
        if meaning and meaning.colours and turned.mode in ("P", "RGB", "RGBA"):
            return meaning.of_colours(np.asarray(turned.convert("RGB")), ignore_index, source)
        values = _index_values(turned, source)
    return meaning.of_values(values, ignore_index, source) if meaning and meaning.values else values


def mismatch(mask: tuple[int, ...], image: tuple[int, ...]) -> str:
    """The sentence about a mask whose image has another (height, width); empty where both agree."""
    if mask == image:
        return ""
    return f"is {mask[1]}x{mask[0]} pixels and its image {image[1]}x{image[0]}: they must have the same size"


def _index_values(image: Image.Image, source: str) -> np.ndarray:
    values = np.array(image)
    if values.ndim == 3:
        if image.mode in ("LA", "RGBA"):
            if not (values[..., -1] == 255).all():
                raise UserError(f"{source} has transparent pixels: store class ids as one opaque channel")
            values = values[..., :-1]
        if not (values == values[..., :1]).all():
            raise UserError(
                f"{source} is a colour image, not a mask of class ids: store the ids as one channel, or put a list "
                "of the colours (labelmap.txt, class_dict.csv) into the data folder"
            )
        values = values[..., 0]
    if values.dtype not in (np.uint8, np.bool_) and (
        values.min(initial=0) < 0 or values.max(initial=0) > 255
    ):
        raise UserError(f"{source} holds values outside 0..255")
    return values.astype(np.uint8, copy=False)
