"""Which mask belongs to which image, by the names of their files.

In this order: the same path below their folders (`cam1/0001.png` and `cam1/0001_gt.png`), the same name, the running
number where a release is known to have corrected the rest of its names, and the sorted order, with a warning, where no
name tells anything. What fits twice is left to a person: nothing is taken.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cabl_cgsr.data.items import MASK_ENDING, Found, suffix_of
from papers_shared.doctor import Finding

MASK_START = re.compile(r"(^|/)(?:gt|mask|groundtruth)[_-](?=[^/]+$)")
TRAILING_NUMBER = re.compile(r"(\d+)\D*$")


class Numbered(NamedTuple):
    """What a release codes in a name."""

    number: int
    shape: str
    """Of the region, where images of one number differ in it alone."""
    kind: str
    ids: frozenset[str]
    """Of the source images."""


@dataclass
class Pairs:
    """The masks of images."""

    masks: dict[Path, Path] = field(default_factory=dict)
    """Image -> mask."""
    doubts: dict[Path, str] = field(default_factory=dict)
    """Image -> which files fit, where none was taken."""
    unused: list[Path] = field(default_factory=list)
    """Masks that fit no image."""
    findings: list[Finding] = field(default_factory=list)


def pair(
    images: Sequence[Found],
    masks: Sequence[Found],
    *,
    numbered: Callable[[str], Numbered | None] | None = None,
    by_order: bool = False,
) -> Pairs:
    """Find the mask of each image.

    Args:
        numbered: Reads a stem of a release that corrected names; what equal names leave over is then paired by its
            running number, if that is unique and a source image agrees too.
        by_order: Where no name tells anything, pair by a number in the names, or else in sorted order.
    """
    pairs = Pairs()
    spare = list(masks)
    for level in (_relative, _name):
        spare = _pair_by(level, images, spare, pairs)
    lone = [one for one in images if one.path not in pairs.masks and one.path not in pairs.doubts]
    if numbered is not None:
        spare = _pair_by_number(lone, spare, numbered, pairs)
    if by_order and not pairs.masks and not pairs.doubts and lone and len(lone) == len(spare):
        spare = _pair_by_order(lone, spare, pairs)
    pairs.unused = [one.path for one in spare]
    return pairs


def _plain(below: str) -> str:
    """A path without its suffix."""
    return below[: len(below) - len(suffix_of(below))]


def _relative(below: str) -> str:
    return below.lower()


def _name(below: str) -> str:
    return below.rpartition("/")[2].lower()


def _pair_by(
    level: Callable[[str], str], images: Sequence[Found], masks: list[Found], pairs: Pairs
) -> list[Found]:
    """Pair what has one key; returns the masks that are left.

    A mask has the name of its image, with or without the image's suffix, and maybe an ending such as `_gt` or a
    beginning such as `mask_`.
    """
    known = {level(name) for image in images for name in (image.below, _plain(image.below))}
    fitting: dict[str, list[Found]] = defaultdict(list)
    for mask in masks:
        exact = level(_plain(mask.below))
        forms = (exact, MASK_ENDING.sub("", exact), MASK_START.sub(r"\1", exact))
        fitting[next((form for form in forms if form in known), forms[1])].append(mask)
    owners: dict[str, list[Found]] = defaultdict(list)
    for image in images:
        full = level(image.below)
        owners[full if full in fitting else _plain(full)].append(image)
    used: set[Path] = set()
    for key, found in fitting.items():
        wanted = [
            one for one in owners.get(key, []) if one.path not in pairs.masks and one.path not in pairs.doubts
        ]
        if not wanted:
            continue
        used |= {mask.path for mask in found}
        if len(found) == 1 and len(owners[key]) == 1:
            pairs.masks[wanted[0].path] = found[0].path
            continue
        for image in wanted:
            others = [one for one in owners[key] if one is not image]
            fit = (
                f"{len(found)} masks: {_some(found)}"
                if len(found) > 1
                else f"{_some(found)}, as do {_some(others)}"
            )
            pairs.doubts[image.path] = f"fits {fit}"
    return [mask for mask in masks if mask.path not in used]


def _pair_by_number(
    images: Sequence[Found], masks: list[Found], numbered: Callable[[str], Numbered | None], pairs: Pairs
) -> list[Found]:
    """By the running number and the region's shape, or else the kind too, where each occurs once on both sides."""
    left, spare = list(images), list(masks)
    for by_kind in (False, True):
        owners_of, masks_of = (_grouped(some, numbered, by_kind) for some in (left, spare))
        for number, owners in owners_of.items():
            found = masks_of.get(number, [])
            if len(owners) == len(found) == 1 and owners[0][1].ids & found[0][1].ids:
                (image, _), (mask, _) = owners[0], found[0]
                pairs.masks[image.path] = mask.path
                message = "image and mask agree in their running number only: taken for a pair"
                pairs.findings.append(Finding("note", f"{image.path.name}, {mask.path.name}", message))
        taken = set(pairs.masks.values())
        left = [one for one in left if one.path not in pairs.masks]
        spare = [one for one in spare if one.path not in taken]
    return spare


def _grouped(
    some: Sequence[Found], numbered: Callable[[str], Numbered | None], by_kind: bool
) -> dict[tuple[int, str, str], list[tuple[Found, Numbered]]]:
    grouped: dict[tuple[int, str, str], list[tuple[Found, Numbered]]] = defaultdict(list)
    for one in some:
        code = numbered(MASK_ENDING.sub("", one.stem))
        if code is not None:
            grouped[code.number, code.shape, code.kind if by_kind else ""].append((one, code))
    return grouped


def _pair_by_order(images: Sequence[Found], masks: list[Found], pairs: Pairs) -> list[Found]:
    numbers = [[_number(one.stem) for one in some] for some in (images, masks)]
    told = (
        None not in numbers[0] and len(set(numbers[0])) == len(images) and set(numbers[0]) == set(numbers[1])
    )
    if told:
        by_number = dict(zip(numbers[1], masks, strict=True))
        couples = [(one, by_number[number]) for one, number in zip(images, numbers[0], strict=True)]
        message = "image and mask agree in a number of their names only: taken for a pair"
        severity = "note"
    else:
        couples = list(zip(images, masks, strict=True))
        message = "images and masks have no names in common: paired in sorted order"
        severity = "warning"
    for image, mask in couples:
        pairs.masks[image.path] = mask.path
        remedy = "" if told else "look at some pairs, and give each mask the name of its image"
        pairs.findings.append(Finding(severity, f"{image.below}, {mask.below}", message, remedy))  # type: ignore[arg-type]
    return []


def _number(stem: str) -> int | None:
    match = TRAILING_NUMBER.search(MASK_ENDING.sub("", stem))
    return int(match[1]) if match and len(match[1]) < 19 else None


def _some(found: Sequence[Found]) -> str:
    """Files with their folders, as a message names them."""
    names = [f"{one.path.parent.name}/{one.path.name}" for one in found[:3]]
    return ", ".join(names) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
