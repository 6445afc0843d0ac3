"""Which layout a data folder has, and its splits."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from papers_shared.dataset_rows import is_saved
from papers_shared.entries import shown
from papers_shared.errors import UserError
from papers_shared.paths import user_path
from papers_shared.text import read_json
from plvl.config import DataConfig

MANIFEST = "plvl-data.json"
FORMAT = 1
COUNTED = ("images", "objects", "expressions")
"""What the manifest has a number of for each split."""
TABLES = (".csv", ".tsv")
ENTRIES = (".jsonl", *TABLES)
"""Suffixes of files with one entry in each line."""
ROBOFLOW = "_annotations.coco.json"
COCO_FILES = ("*.json", "annotations/*.json", f"*/{ROBOFLOW}")
REFS = ("refs(*).p", "*/refs(*).p", "data/*/refs(*).p")
"""Where a REFER release has its references."""
RELEASES = ("refer", "labels", "visual-genome", "flickr30k")
"""Layouts that `plvl data build` reads as well; which splits they have shows when they are read."""
NO_COCO = frozenset({"config.json", "image_data.json", "region_descriptions.json"})


def locate(data: DataConfig) -> tuple[str, Path]:
    """The layout of a data folder, and its path; of REFER that of the file with the references.

    Raises:
        UserError: There is none, no layout fits, or a REFER release has several sets.
    """
    if not data.root:
        raise UserError(
            "no data folder given: add --data.root FOLDER (`plvl data toy FOLDER` writes a toy one)"
        )
    root = user_path(data.root)
    if data.layout == "dataset":
        return "dataset", root
    if not root.exists():
        hint = "" if root.is_absolute() else " (for a data set of the Hub add --data.layout dataset)"
        raise UserError(f"the data folder {root} does not exist: check --data.root{hint}")
    found = _recognise(root)
    if not found or data.layout not in ("auto", found):
        wanted = "any of the known layouts" if data.layout == "auto" else f"the layout {data.layout!r}"
        raise UserError(
            f"{root} does not have {wanted} (a folder of `plvl data build`, SPLIT.jsonl or .csv, COCO files with "
            "sentences, a saved data set, REFER's refs(...).p and instances.json, label lists, Visual Genome, "
            "Flickr30k Entities)"
        )
    return found, _references(root) if found == "refer" else root


def _references(root: Path) -> Path:
    """The file with the references of a REFER release that holds one set."""
    files = refs_files(root)
    if len(files) > 1:
        listed = ", ".join(str(file.relative_to(root)) for file in files[:8])
        raise UserError(f"{root} holds several sets ({listed}): name one of these files as --data.root")
    return files[0]


def refs_files(root: Path) -> list[Path]:
    """The files with references in a REFER release, or the one that was named."""
    if root.is_file():
        return [root] if root.match("refs(*).p") else []
    return [file for pattern in REFS for file in sorted(root.glob(pattern)) if file.is_file()]


def read_manifest(root: Path) -> dict[str, Any]:
    """What `plvl data build` wrote about its folder.

    Raises:
        UserError: It is missing, damaged, or of a newer version.
    """
    manifest = read_json(root / MANIFEST)
    splits = manifest.get("splits") if isinstance(manifest, dict) else None
    sound = isinstance(splits, dict) and all(
        isinstance(counts, dict) and all(type(counts.get(key)) is int for key in COUNTED)
        for counts in splits.values()
    )
    if not sound or not all(
        isinstance(manifest.get(key), str) for key in ("dataset", "images", "images_from_here")
    ):
        raise UserError(f"{root / MANIFEST} is not as `plvl data build` wrote it: build the folder again")
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"{root / MANIFEST} has format {shown(manifest.get('format'))}, this version reads {FORMAT}: build it again"
        )
    return manifest


def image_base(data: DataConfig, root: Path) -> Path:
    """The folder that the relative image paths of a built folder start from."""
    if data.images:
        return user_path(data.images)
    manifest = read_manifest(root)
    recorded, relative = user_path(manifest["images"]), user_path(root / manifest["images_from_here"])
    return recorded if recorded.is_dir() or not relative.is_dir() else relative


def folder_splits(layout: str, root: Path) -> tuple[str, ...]:
    """The splits of a folder with the layout built, jsonl or coco."""
    if layout == "built":
        return tuple(read_manifest(root)["splits"])
    names = split_of_coco if layout == "coco" else _stem
    return tuple(names(file) for file in split_files(layout, root))


def split_files(layout: str, root: Path) -> list[Path]:
    """The files of a folder with the layout jsonl or coco, or the one that was named."""
    if root.is_file():
        return [root]
    return coco_files(root) if layout == "coco" else entry_files(root)


def entry_files(root: Path) -> list[Path]:
    """SPLIT.jsonl, .csv and .tsv in a folder.

    Raises:
        UserError: A split has two of them.
    """
    files = sorted(file for file in root.iterdir() if file.suffix.lower() in ENTRIES and file.name[0] != ".")
    return _distinct(files, _stem)


def coco_files(root: Path) -> list[Path]:
    """COCO files with sentences in a folder, in its folder annotations, or one in the folder of each split.

    Raises:
        UserError: A split has two of them.
    """
    found = [file for pattern in COCO_FILES for file in sorted(root.glob(pattern)) if file.is_file()]
    return _distinct([file for file in found if file.name not in NO_COCO], split_of_coco)


def split_of_coco(file: Path) -> str:
    """The split of a COCO file: its folder's name, the last part of its name, or all of it."""
    if file.name == ROBOFLOW:
        return "val" if file.parent.name == "valid" else file.parent.name
    return re.sub(r"(20\d\d)$", "", re.split(r"[_\-.]", file.stem)[-1]) or file.stem


def base_of(file: Path) -> Path:
    """What relative paths in a file of entries start from: its folder, or what was recorded in a built one."""
    built = file.parent / MANIFEST
    return image_base(DataConfig(), file.parent) if built.is_file() else file.parent


def _stem(file: Path) -> str:
    return file.stem


def _distinct(files: list[Path], name_of: Callable[[Path], str]) -> list[Path]:
    names: dict[str, Path] = {}
    for file in files:
        other = names.setdefault(name_of(file), file)
        if other != file:
            raise UserError(
                f"{other} and {file} are both of split {name_of(file)!r}: name one, or move one away"
            )
    return files


def _recognise(root: Path) -> str:
    if (root / MANIFEST).is_file():
        return "built"
    if is_saved(root):
        return "dataset"
    if (root / "region_descriptions.json").is_file():
        return "visual-genome"
    if (root / "Sentences").is_dir() and (root / "Annotations").is_dir():
        return "flickr30k"
    if refs_files(root):
        return "refer"
    if any(root.glob(f"{glob.escape(root.name)}_*.pth")):
        return "labels"
    if root.suffix.lower() in ENTRIES or (root.is_dir() and entry_files(root)):
        return "jsonl"
    if root.suffix.lower() == ".json" or (root.is_dir() and coco_files(root)):
        return "coco"
    return ""
