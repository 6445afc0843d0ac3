"""What every module of this folder gives: a source with splits, class names, and the items of a split."""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from fanet.config import DataConfig
from fanet.data.codes import Codes
from fanet.data.objects import Object
from papers_shared.doctor import Finding
from papers_shared.errors import UserError
from papers_shared.files import is_litter
from papers_shared.inputs import IMAGE_SUFFIXES

WHOLE = "all"
"""The name of the only split of a folder that has none."""


@dataclass(frozen=True)
class Item:
    """One image, with its mask, its objects, or (class folders) its label."""

    name: str
    """The image's path below its folder, without suffix."""
    image: Path
    mask: Path | None = None
    label: int = -1
    objects: tuple[Object, ...] | None = None
    """What a mask is drawn from; None: the mask is a file."""
    size: tuple[int, int] | None = None
    """(height, width) of the image as the file of the objects declares it."""


@dataclass(frozen=True)
class Listing:
    """The images of one split with their truth, in the order of their names."""

    items: tuple[Item, ...]
    findings: tuple[Finding, ...] = ()
    """What is wrong already: missing pairs, two images of one name, annotations that cannot be read."""
    files: tuple[Path, ...] = ()
    """Files that were read beside images and masks: annotations, lists."""
    codes: Codes | None = None
    """What the stored values of the masks mean; None: class ids."""
    stamps: tuple[object, ...] = ()
    """Names, sizes and times of change of all files."""


@dataclass(frozen=True)
class Source(ABC):
    """A data folder whose layout is known."""

    base: Path
    """The folder that holds the splits; may lie below the root the user gave."""
    data: DataConfig
    LAYOUT: ClassVar[str]

    @property
    def layout(self) -> str:
        """How `--data.layout` calls it."""
        return self.LAYOUT

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The splits as the folder names them; `WHOLE` alone where it has none."""

    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """Names in id order as the folder gives them; empty: it does not.

        Raises:
            UserError: A list of classes that cannot be read.
        """


class FileSource(Source):
    """One whose images are files."""

    @classmethod
    @abstractmethod
    def find(cls, base: Path, data: DataConfig) -> FileSource | None:
        """The source in the folder `base`; None where it has another layout."""

    @abstractmethod
    def read(self, split: str, names: Sequence[str]) -> Listing:
        """The images of one of `splits`.

        Args:
            names: The names of the classes in id order.

        Raises:
            UserError: A file that lists or annotates the images cannot be read.
        """


@dataclass(frozen=True)
class Folder:
    """The files below a folder, by their path below it."""

    path: Path
    images: dict[str, Path] = field(default_factory=dict)
    """Those with an image's suffix."""
    others: dict[str, Path] = field(default_factory=dict)
    stamps: tuple[object, ...] = ()
    findings: tuple[Finding, ...] = ()
    """Links to nothing and what is no regular file."""

    @classmethod
    def scan(cls, path: Path, *, deep: bool = True) -> Folder:
        """List a folder; a missing one is empty. Hidden files and those of operating systems are left out."""
        images: dict[str, Path] = {}
        others: dict[str, Path] = {}
        stamps: list[object] = []
        findings: list[Finding] = []
        for name, entry in sorted(_entries(path, "", deep, set())):
            file = path / name
            try:
                status = entry.stat()
            except OSError as error:
                message = "a link to nothing" if entry.is_symlink() else f"cannot be read ({error.strerror})"
                findings.append(Finding("error", str(file), message, "get the file, or remove its name"))
                continue
            if not stat.S_ISREG(status.st_mode):
                findings.append(Finding("error", str(file), "no regular file", "remove it"))
                continue
            stamps.append((str(file), status.st_size, status.st_mtime_ns))
            (images if is_image(name) else others)[name] = file
        return cls(path, images, others, tuple(stamps), tuple(findings))


def is_image(name: str) -> bool:
    """Whether a file is called like an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def has_images(folder: Path, *, deep: bool = False) -> bool:
    """Whether an image lies in a folder."""
    return any(is_image(name) for name, _ in _entries(folder, "", deep, set()))


def subfolders(folder: Path) -> dict[str, Path]:
    """Folders in a folder by name, sorted; hidden ones and those of operating systems left out."""
    try:
        entries = [entry for entry in os.scandir(folder) if _is_folder(entry) and not _hidden(entry.name)]
    except OSError:
        return {}
    return {entry.name: folder / entry.name for entry in sorted(entries, key=lambda entry: entry.name)}


def stamp_of(file: Path) -> tuple[str, int, int]:
    """A file's name, size and time of change.

    Raises:
        UserError: It cannot be looked at.
    """
    try:
        status = file.stat()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror})") from None
    return str(file), status.st_size, status.st_mtime_ns


def stem(name: str) -> str:
    """A path below a folder without its last suffix."""
    return name.rsplit(".", 1)[0] if "." in name.rpartition("/")[2] else name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _hidden(name: str) -> bool:
    return name.startswith(".") or is_litter(name)


def _entries(folder: Path, prefix: str, deep: bool, seen: set[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if not _hidden(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror})") from None
    for entry in entries:
        if not _is_folder(entry):
            yield prefix + entry.name, entry
            continue
        real = os.path.realpath(entry.path)
        if deep and real not in seen:
            yield from _entries(Path(entry.path), f"{prefix}{entry.name}/", deep, seen | {real})
