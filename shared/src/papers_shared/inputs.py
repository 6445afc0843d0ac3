"""Images named on a command line, and what their results are called."""

from __future__ import annotations

import glob
import sys
from collections.abc import Sequence
from pathlib import Path

from papers_shared.errors import UserError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"})


def unique_names(paths: Sequence[Path]) -> list[str]:
    """One output name per image: its stem, with -2, -3, ... where an earlier one has it (case ignored)."""
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        name, number = path.stem, 2
        while name.lower() in taken:
            name, number = f"{path.stem}-{number}", number + 1
        taken.add(name.lower())
        names.append(name)
    return names


def match_images(inputs: Sequence[str]) -> list[Path]:
    """Files that the inputs (images, folders, globs) stand for, without repeats, sorted within each input.

    A folder stands for the images directly in it, known by their suffix; files with other suffixes are
    counted on stderr. Raises UserError for an input that stands for nothing.
    """
    found: dict[Path, None] = {}
    for text in inputs:
        path = Path(text).expanduser()
        if path.is_dir():
            files = [entry for entry in path.iterdir() if entry.is_file()]
            matched = [entry for entry in files if entry.suffix.lower() in IMAGE_SUFFIXES]
            if others := len(files) - len(matched):
                print(f"{path}: {others} files without an image's suffix are left out", file=sys.stderr)
            if not matched:
                raise UserError(
                    f"{path}: no image directly in this folder; for deeper ones give '{path}/**/*.png'"
                )
        elif path.is_file():
            matched = [path]
        else:
            matched = [Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file()]
            if not matched:
                raise UserError(f"{text}: no such image or folder, and no file matches it as a glob")
        found.update(dict.fromkeys(sorted(matched)))
    if not found:
        raise UserError("no images given: name an image, a folder or a glob")
    return list(found)
