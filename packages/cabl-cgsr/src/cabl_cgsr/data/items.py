"""Images of a data set by the names of their files, before anything is decoded."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from papers_shared.doctor import Finding

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
MASK_ENDING = re.compile(r"(_gt\d*|_mask|_edgemask)$", re.IGNORECASE)
AUTHENTIC, MANIPULATED = 0, 1


@dataclass(frozen=True)
class Item:
    """One image."""

    name: str
    """Unique in its set."""
    image: Path
    label: int
    """0 authentic, 1 manipulated."""
    mask: Path | None = None
    origins: tuple[str, ...] = ()
    """What it was made from, by its name: images that share one of these stay in one split."""


@dataclass(frozen=True)
class Listing:
    """The images of one set, authentic ones first, in the order of their names."""

    dataset: str
    """casia2, casia1, casia1plus, columbia, coverage, imd2020, or the name of a list or folder."""
    base: Path
    items: tuple[Item, ...]
    findings: tuple[Finding, ...] = field(default=())
    """What the names alone tell; empty unless masks were looked for."""

    @property
    def counts(self) -> tuple[int, int]:
        """Authentic and manipulated images."""
        manipulated = sum(item.label for item in self.items)
        return len(self.items) - manipulated, manipulated


def images_in(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Images of a folder in the order of their names, hidden files left out; none if there is no folder."""
    if not folder.is_dir():
        return []
    found = []
    for parent, folders, names in os.walk(folder):
        if not recursive:
            folders.clear()
        found += [
            Path(parent, name) for name in names if suffix_of(name) in IMAGE_SUFFIXES and name[0] != "."
        ]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def suffix_of(name: str) -> str:
    """The ending after the last dot, lower case: CASIAv1 has a name with a dot in it."""
    return os.path.splitext(name)[1].lower()


def stem_of(path: Path) -> str:
    return os.path.splitext(path.name)[0]


def mask_index(folders: Iterable[Path]) -> dict[str, Path]:
    """Masks in and below folders, by the stem of their image: `x_gt.png`, `x_mask.png`, `x.png` are `x`'s."""
    index: dict[str, Path] = {}
    for folder in folders:
        for path in images_in(folder, recursive=True):
            index.setdefault(MASK_ENDING.sub("", stem_of(path)).lower(), path)
    return index


def mask_folders(*bases: Path, digit: str = "") -> list[Path]:
    """Folders directly in `bases` that hold masks by their names.

    Args:
        digit: One of those named after another version of the set (`CASIA 1.0 groundtruth`) is left out.
    """
    names = {"gt", "gts", "mask", "masks", "edgemask"}
    found = []
    for base in bases:
        for path in sorted(base.iterdir()) if base.is_dir() else []:
            plain = re.sub(r"[^a-z0-9]", "", path.name.lower())
            versions = re.findall(r"[12]", plain)
            fits = plain in names or "groundtruth" in plain
            if path.is_dir() and fits and not (digit and versions and versions[0] != digit):
                found.append(path)
    return found


def unique_names(items: Sequence[Item], base: Path) -> tuple[Item, ...]:
    """Items whose name occurs twice are named by their path below `base`."""
    counts = Counter(item.name for item in items)
    return tuple(
        item if counts[item.name] == 1 else replace(item, name=_below(item.image, base)) for item in items
    )


def mask_findings(items: Sequence[Item], unused: Iterable[Path] = ()) -> list[Finding]:
    """Manipulated images without a mask, masks without an image, and masks named `_gt3`."""
    lone = [item for item in items if item.label == MANIPULATED and item.mask is None]
    remedy = "get its mask; without one it is left out where pixels are scored"
    findings = [
        Finding("warning", str(item.image), "manipulated image without a mask", remedy) for item in lone
    ]
    findings += [
        Finding("warning", str(path), "mask without an image: not used", "add the image, or remove the mask")
        for path in unused
    ]
    findings += [
        Finding(
            "note", str(item.mask), "mask with a number after _gt: taken for its image", "rename it to _gt"
        )
        for item in items
        if item.mask is not None and re.search(r"_gt\d+$", stem_of(item.mask), re.IGNORECASE)
    ]
    return findings


def _below(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()
