"""Images named on a command line, and what their results are called."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from papers_shared.errors import UserError
from papers_shared.files import is_litter
from papers_shared.paths import free_name, safe_name, user_path
from papers_shared.results import RECORDS
from papers_shared.text import read_text

IMAGE_SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".avif", ".avifs"}
)
"""Names of files that `papers_shared.images` reads, in the formats of its list."""


def unique_names(paths: Sequence[Path]) -> list[str]:
    """One output name per image: its safe stem, with -2, -3, ... where an earlier one has it (case ignored)."""
    taken: set[str] = set()
    return [free_name(safe_name(path.stem), taken) for path in paths]


def match_images(inputs: Sequence[str]) -> list[Path]:
    """Files that the inputs (images, folders, globs, lists) stand for, without repeats, sorted within each input.

    A folder stands for the images in it and in the folders below it, known by their suffix; files with other suffixes
    are counted on stderr, and folders of predictions are left out. A text file (.txt) is a list: an image, folder or
    glob in each line, relative to the list; its order is kept.

    Raises:
        UserError: An input, or a line of a list, that stands for nothing.
    """
    found: dict[Path, None] = {}
    for text in inputs:
        path = user_path(text)
        if path.suffix.lower() == ".txt" and path.is_file():
            for number, line in enumerate(read_text(path).split("\n"), start=1):
                if line.strip():
                    name = line.strip().replace("\\", "/")
                    found.update(
                        dict.fromkeys(_matched(str(path.parent / name), f"{path}, line {number}: {name!r}"))
                    )
        else:
            found.update(dict.fromkeys(_matched(text, text)))
    if not found:
        raise UserError("no images given: name an image, a folder, a glob or a list (.txt)")
    return list(found)


def _matched(text: str, shown: str) -> list[Path]:
    """The images that one input stands for, sorted."""
    path = user_path(text)
    if path.is_dir():
        return _below(path)
    if path.is_file():
        return [path]
    found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
    if not found:
        raise UserError(f"{shown}: no such image or folder, and no file matches it as a glob")
    return found


def _below(folder: Path) -> list[Path]:
    images: list[Path] = []
    others = 0
    for root, folders, files in os.walk(folder):
        if RECORDS in files:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not is_litter(name)]
        for name in files:
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not is_litter(name):
                images.append(Path(root, name))
            else:
                others += not is_litter(name)
    if others:
        print(f"{folder}: {others} files without an image's suffix are left out", file=sys.stderr)
    if not images:
        raise UserError(
            f"{folder}: no image in this folder (known suffixes: {', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    return sorted(images)
