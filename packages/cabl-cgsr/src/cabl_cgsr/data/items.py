"""Images of a data set by the names of their files, before anything is decoded."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from papers_shared import inputs
from papers_shared.doctor import Finding
from papers_shared.files import is_litter

IMAGE_SUFFIXES = inputs.IMAGE_SUFFIXES | {".jfif", ".jp2", ".avif", ".ppm", ".pgm"}
MASK_ENDING = re.compile(r"[_-](gt\d*|mask|edgemask|groundtruth)$", re.IGNORECASE)
MASK_FOLDERS = frozenset({"gt", "gts", "mask", "masks", "edgemask"})
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
    doubt: str = ""
    """Why it has no mask although masks fit it by their names."""


@dataclass(frozen=True)
class Listing:
    """The images of one set, authentic ones first, in the order of their names."""

    dataset: str
    """casia2, casia1, casia1plus, columbia, coverage, imd2020, ..., or the name of a list or folder."""
    base: Path
    items: tuple[Item, ...]
    findings: tuple[Finding, ...] = field(default=())
    """What the names alone tell; of masks only if they were looked for."""
    layout: str = ""
    """How the folder was read; empty: by a list."""
    inverted: bool = False
    """Whether the release draws the manipulated part black."""
    passed_over: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    """Files that the release holds and that are not read, by the reason."""

    @property
    def counts(self) -> tuple[int, int]:
        """Authentic and manipulated images."""
        manipulated = sum(item.label for item in self.items)
        return len(self.items) - manipulated, manipulated

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]


class Found(NamedTuple):
    """A file, and where it lies below the folder in which it was looked for."""

    path: Path
    below: str
    """With slashes, and its suffix."""

    @property
    def stem(self) -> str:
        return stem_of(self.path)


def images_in(folder: Path, *, recursive: bool = False) -> list[Found]:
    """Images of a folder in the order of their names; hidden files and those of operating systems are left out.

    Folders that are links are entered, each folder once, but those that lead upwards. None if there is no folder.
    """
    found, entered, start = [], set(), os.path.realpath(folder)
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        upwards = real != start and start.startswith(os.path.join(real, ""))
        if real in entered or upwards or not recursive:
            folders.clear()
        if real in entered or upwards:
            continue
        entered.add(real)
        folders[:] = [name for name in folders if not _hidden(name)]
        for name in names:
            if suffix_of(name) in IMAGE_SUFFIXES and not _hidden(name):
                path = Path(parent, name)
                found.append(Found(path, path.relative_to(folder).as_posix()))
    return sorted(found, key=lambda one: one.below)


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, but hidden ones and those of operating systems; links to folders are not entered."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        found += [Path(parent, name) for name in names if not _hidden(name)]
    return sorted(found)


def subfolders(base: Path) -> list[Path]:
    """Folders directly in a folder, in the order of their names, hidden ones left out."""
    return sorted(path for path in base.iterdir() if path.is_dir() and not _hidden(path.name))


def folder_in(base: Path, *names: str) -> Path | None:
    """The folder in `base` that has one of these names, whatever the case; the first of the names that is there."""
    there = {path.name.lower(): path for path in subfolders(base)} if base.is_dir() else {}
    return next((there[name.lower()] for name in names if name.lower() in there), None)


def mask_folders(*bases: Path, digit: str = "") -> list[Path]:
    """Folders directly in `bases` that hold masks by their names.

    Args:
        digit: One of those named after another version of the set (`CASIA 1.0 groundtruth`) is left out.
    """
    found = []
    for base in bases:
        for path in subfolders(base) if base.is_dir() else []:
            versions = re.findall(r"[12]", path.name)
            if holds_masks(path.name) and not (digit and versions and versions[0] != digit):
                found.append(path)
    return found


def masks_in(folders: Iterable[Path]) -> list[Found]:
    """The masks in and below folders."""
    return [one for folder in folders for one in images_in(folder, recursive=True)]


def without_masks(found: Sequence[Found]) -> tuple[list[Found], list[Found]]:
    """Images, and the masks among them: those in subfolders of masks, and `x_mask.png` beside `x.jpg`."""
    stems = {(one.path.parent, one.stem.lower()) for one in found}
    images: list[Found] = []
    masks: list[Found] = []
    for one in found:
        plain = MASK_ENDING.sub("", one.stem)
        beside = plain != one.stem and (one.path.parent, plain.lower()) in stems
        within = any(map(holds_masks, one.below.split("/")[:-1]))
        (masks if beside or within else images).append(one)
    return images, masks


def holds_masks(folder: str) -> bool:
    """Whether the name of a folder says that it holds masks."""
    plain = re.sub(r"[^a-z0-9]", "", folder.lower())
    return plain in MASK_FOLDERS or "groundtruth" in plain


def suffix_of(name: str) -> str:
    """The ending after the last dot, lower case: CASIAv1 has a name with a dot in it."""
    return os.path.splitext(name)[1].lower()


def stem_of(path: Path) -> str:
    return os.path.splitext(path.name)[0]


def unique_names(items: Sequence[Item], base: Path) -> tuple[Item, ...]:
    """Items whose name occurs twice are named by their path below `base`."""
    counts = Counter(item.name for item in items)
    return tuple(
        item if counts[item.name] == 1 else replace(item, name=below(item.image, base)) for item in items
    )


def below(path: Path, base: Path) -> str:
    """The path below `base` with slashes, or all of it where it lies elsewhere."""
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()


def mask_findings(items: Sequence[Item], unused: Iterable[Path] = ()) -> list[Finding]:
    """Manipulated images without a mask or with several, masks without an image, and masks named `_gt3`."""
    lone = [item for item in items if item.label == MANIPULATED and item.mask is None]
    remedy = "get its mask; without one it is left out where pixels are scored"
    findings = [
        Finding("error", f"{item.image} ({item.doubt})", "no mask was taken, as several files fit by their names",
                "leave one mask for each image, in the same subfolder as the image")
        for item in lone
        if item.doubt
    ]  # fmt: skip
    findings += [
        Finding("warning", str(item.image), "manipulated image without a mask", remedy)
        for item in lone
        if not item.doubt
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


def _hidden(name: str) -> bool:
    return name.startswith(".") or is_litter(name)
