"""Images named on a command line, and what their results are called."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from papers_shared.batches import Item
from papers_shared.dataset_rows import HUB, dataset_items, is_saved
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


def match_items(
    inputs: Sequence[str], others: Mapping[str, Callable[[Path], list[Item]]] | None = None
) -> list[Item]:
    """What the inputs stand for, without repeats, sorted within each input.

    - An image, or a glob of images.
    - A folder: the images in it and in the folders below it, known by their suffix; files with other suffixes are
      counted on stderr, and folders of predictions are left out.
    - A text file (.txt): an image, folder or glob in each line, relative to the list; its order is kept.
    - A folder that `datasets` has saved, or `hub:OWNER/NAME[:SPLIT]`: the images of its rows.

    Args:
        others: Suffix -> the items of files with it, such as the frames of a video.

    Raises:
        UserError: An input, or a line of a list, that stands for nothing.
    """
    others = others or {}
    suffixes = IMAGE_SUFFIXES | others.keys()
    items: list[Item] = []
    paths: dict[Path, None] = {}

    def take(found: Sequence[Path]) -> None:
        for path in found:
            if path not in paths:
                paths[path] = None
                items.extend(others.get(path.suffix.lower(), _image)(path))

    for text in inputs:
        if text.startswith(HUB):
            items += dataset_items(text)
            continue
        path = user_path(text)
        if path.is_dir() and is_saved(path):
            items += dataset_items(str(path))
        elif path.suffix.lower() == ".txt" and path.is_file():
            for number, line in enumerate(read_text(path).split("\n"), start=1):
                if line.strip():
                    name = line.strip().replace("\\", "/")
                    where = f"{path}, line {number}: {name!r}"
                    take(_matched(str(path.parent / name), where, suffixes))
        else:
            take(_matched(text, text, suffixes))
    if not items:
        raise UserError("no images given: name an image, a folder, a glob or a list (.txt)")
    return items


def match_images(inputs: Sequence[str]) -> list[Path]:
    """The image files that the inputs stand for, as `match_items` has them.

    Raises:
        UserError: What `match_items` raises, or a data set, whose images are no files.
    """
    items = match_items(inputs)
    rows = next((item.file for item in items if item.open is not None), "")
    if rows:
        raise UserError(f"{rows} is a data set: name image files here")
    return [item.path for item in items]


def _image(path: Path) -> list[Item]:
    return [Item(path)]


def _matched(text: str, shown: str, suffixes: Collection[str]) -> list[Path]:
    """The files that one input stands for, sorted."""
    path = user_path(text)
    if path.is_dir():
        return _below(path, suffixes)
    if path.is_file():
        return [path]
    found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
    if not found:
        raise UserError(f"{shown}: no such image or folder, and no file matches it as a glob")
    return found


def _below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    images: list[Path] = []
    others = 0
    for root, folders, files in os.walk(folder):
        if RECORDS in files:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not is_litter(name)]
        for name in files:
            if Path(name).suffix.lower() in suffixes and not is_litter(name):
                images.append(Path(root, name))
            else:
                others += not is_litter(name)
    if others:
        print(f"{folder}: {others} files without an image's suffix are left out", file=sys.stderr)
    if not images:
        raise UserError(f"{folder}: no image in this folder (known suffixes: {', '.join(sorted(suffixes))})")
    return sorted(images)
