"""What all boxes and masks of a split say together: a unit or a form that is not the one they were read in."""

from __future__ import annotations

from collections.abc import Iterator

import datasets
import numpy as np

from papers_shared.doctor import Finding
from papers_shared.errors import UserError
from plvl.data.masks import box_of_mask, decode_png
from plvl.data.pixels import orientation_of, values_of

ENOUGH = 8
"""Different boxes from which on their places in the images tell a form."""
LOOKED_AT = 200
"""Masks and images of a split that are looked at."""
COVERED = 0.6
"""Share of the image from which on most masks are suspected to show the background."""
TINY = 1.5
"""No coordinate of a box in fractions of the image is greater."""


def split_findings(rows: datasets.Dataset, split: str, built: bool) -> Iterator[Finding]:
    """Warnings about a whole split, each with the option that mends it.

    Args:
        built: The folder was built, so that it has to be built again with the option.
    """

    def remedy(option: str) -> str:
        return f"if so, build it again with --{option}" if built else f"if so, give --data.{option}"

    where = f"split {split}"
    listed = [
        (box, width, height, mask)
        for box, width, height, mask in values_of(rows, "box_xyxy", "width", "height", "mask")
        if box is not None
    ]
    if listed:
        boxes = np.array([box for box, *_ in listed], float)
        sizes = np.array([(width, height) for _, width, height, _ in listed], float)
        extents = _extents([mask for *_, mask in listed])
        yield from (
            Finding("warning", where, message, remedy(option))
            for message, option in _forms(boxes, sizes, extents)
        )
    shares = [share for share, _ in _masks([mask for *_, mask in listed])]
    if len(shares) >= 2 and float(np.median(shares)) > COVERED:
        message = f"half of the masks cover more than {COVERED:.0%} of their images: black may be the object"
        yield Finding("warning", where, message, remedy("invert-masks"))
    images = {entry["path"]: entry for (entry,) in values_of(rows, "image") if entry["path"]}
    turned = [
        path for path, entry in list(images.items())[:LOOKED_AT] if orientation_of({"image": entry}) != 1
    ]
    if turned:
        message = (
            "images that their EXIF block turns: they are read upright, and boxes and masks must be so too"
        )
        yield Finding("note", f"{where}: {len(turned):,} images, such as {turned[0]}", message)


def _forms(
    boxes: np.ndarray, sizes: np.ndarray, extents: list[tuple[float, ...] | None]
) -> Iterator[tuple[str, str]]:
    """(what is suspected, the option that says so)."""
    if boxes.max() <= TINY and sizes.min() > 4:
        yield (
            "all boxes lie in 0..1: they look like fractions of the image's sides, and were read as pixels",
            "box-unit unit",
        )
        return
    corners, ends = boxes[:, :2], boxes[:, 2:]
    read_as_size = np.concatenate([corners, corners + ends], 1)
    read_as_corners = np.concatenate([corners, ends - corners], 1)
    leaves = (ends > sizes + 1).any(1).mean()
    known = [(index, extent) for index, extent in enumerate(extents) if extent is not None]
    if known:
        agree = {
            name: float(np.median([_iou(form[index], extent) for index, extent in known]))
            for name, form in (("now", boxes), ("xywh", read_as_size), ("xyxy", read_as_corners))
        }
        best = max(("xywh", "xyxy"), key=lambda name: agree[name])
        if agree["now"] < 0.5 and agree[best] > 0.8:
            yield f"the boxes agree with their masks when they are read as {best}", f"box-format {best}"
            return
    usable = (read_as_corners[:, 2:] > corners).all() and (read_as_corners[:, 2:] <= sizes + 1).all()
    if leaves > 0.1 and usable and not known:
        yield "boxes leave their images, and none would if they were corners", "box-format xyxy"
    elif leaves > 0.1 and boxes.min() >= 0 and boxes.max() <= 1000:
        yield (
            "boxes leave their images and none is beyond 1000: they look like thousandths",
            "box-unit thousand",
        )
    elif len(np.unique(boxes, axis=0)) >= ENOUGH and (read_as_size[:, 2:] <= sizes + 1).all() and not known:
        yield (
            "the centres of all boxes are in the upper left quarter: x, y, width, height look like that",
            "box-format xywh",
        )


def _extents(masks: list[bytes | None]) -> list[tuple[float, ...] | None]:
    """The boxes around the first masks; None where there is none."""
    decoded = [_decoded(mask) if mask is not None else None for mask in masks[:LOOKED_AT]]
    extents: list[tuple[float, ...] | None] = [
        None if mask is None else box_of_mask(mask) for mask in decoded
    ]
    return extents + [None] * (len(masks) - len(extents))


def _masks(masks: list[bytes | None]) -> Iterator[tuple[float, np.ndarray]]:
    """(share of the image, mask) of the first masks."""
    for mask in [mask for mask in masks if mask is not None][:LOOKED_AT]:
        decoded = _decoded(mask)
        if decoded is not None:
            yield float(decoded.mean()), decoded


def _decoded(mask: bytes) -> np.ndarray | None:
    """A mask; None of one that cannot be read, which is told with its row."""
    try:
        return decode_png(mask, "a row")
    except UserError:
        return None


def _iou(one: np.ndarray, two: tuple[float, ...]) -> float:
    first, second = np.asarray(one, float), np.asarray(two, float)
    sides = np.clip(np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2]), 0, None)
    inner = sides.prod()
    areas = np.abs((first[2:] - first[:2]).prod()) + (second[2:] - second[:2]).prod()
    return float(inner / max(areas - inner, 1e-9))
