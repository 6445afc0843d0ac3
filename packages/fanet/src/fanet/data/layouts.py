"""Which layout a data folder has, and the list of its images. Nothing here decodes one."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fanet.config import ZEROWASTE_CLASSES, DataConfig
from fanet.data.hub import dataset_class_names, dataset_splits
from papers_shared.doctor import Finding
from papers_shared.errors import UserError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
CLASS_SUFFIXES = SUFFIXES | {".gif"}
MASK_FOLDERS = ("masks", "annotations", "labels", "sem_seg")
USUAL_SPLITS = ("train", "val", "test")
LISTING_FORMAT = 1


@dataclass(frozen=True)
class Source:
    """A data folder whose layout is known."""

    layout: str
    base: Path
    """The folder that holds the splits; may lie below the root the user gave."""


@dataclass(frozen=True)
class Item:
    """One image, with its mask or (class folders) its label."""

    name: str
    image: Path
    mask: Path | None = None
    label: int = -1


@dataclass(frozen=True)
class Listing:
    """The images of one split with their masks or labels, in the order of their names."""

    source: Source
    split: str
    items: tuple[Item, ...]
    findings: tuple[Finding, ...]
    """What is already wrong by the names of the files: missing pairs, two images of one name."""
    key: str
    """Changes with the names, sizes and modification times of the files."""
    polygons: Path | None = None
    """COCO file that the masks are drawn from, where there are no masks."""


def locate(data: DataConfig) -> Source:
    """Find the splits in or below `data.root` and recognise the layout.

    Raises:
        UserError: there is no such folder, or no layout fits.
    """
    if not data.root:
        raise UserError(
            "no data folder given: add --data.root FOLDER (`fanet data toy FOLDER` writes a toy one)"
        )
    root = Path(data.root).expanduser()
    if data.layout == "dataset":
        return Source("dataset", root)
    if not root.is_dir():
        hub = "; for a data set of the Hub add --data.layout dataset" if not root.is_absolute() else ""
        raise UserError(f"the data folder {root} does not exist: check --data.root{hub}")
    for base in _bases(root):
        layout = _recognise(base, data)
        if layout and data.layout in ("auto", layout, *_also(layout)):
            return Source(layout if data.layout == "auto" else data.layout, base.resolve())
    if data.layout != "auto":
        raise UserError(
            f"{root} does not have the layout {data.layout!r}: see `fanet train --help` for the layouts"
        )
    extra = "; it holds labels.json but no images" if (root / "labels.json").is_file() else ""
    raise UserError(
        f"{root} has none of the known layouts (SPLIT/data + sem_seg, images/SPLIT + annotations/SPLIT, "
        f"SPLIT/images + SPLIT/masks, SPLIT/CLASS, save_to_disk; SPLIT is train, val or test){extra}: "
        "point --data.root at the folder that holds the splits"
    )


def splits_of(data: DataConfig) -> tuple[str, ...]:
    """The splits that exist in the folder, of those configured and the usual three."""
    source = locate(data)
    names = dict.fromkeys((data.train_split, data.val_split, *USUAL_SPLITS))
    if source.layout == "dataset":
        present = dataset_splits(source.base, data.root)
        return tuple(name for name in names if name in present)
    return tuple(name for name in names if _split_exists(source, name))


def list_split(data: DataConfig, split: str) -> Listing:
    """The images of a split with their masks (or labels).

    Raises:
        UserError: the split does not exist or holds no image.
    """
    source = locate(data)
    if not _split_exists(source, split):
        present = ", ".join(splits_of(data)) or "none"
        raise UserError(f"{source.base} has no split {split!r} (there are: {present})")
    if source.layout == "class_folders":
        return _list_class_folders(data, source, split)
    image_folder, mask_folder = _folders(source, split)
    images = _images(image_folder)
    if split_list := _split_list(source, split):
        wanted = {line.strip() for line in split_list.read_text().splitlines() if line.strip()}
        images = {path: stat for path, stat in images.items() if {path.stem, path.name} & wanted}
    if not images:
        raise UserError(f"no image of the split {split!r} in {image_folder}")
    polygons = coco_file(source, split) if source.layout == "coco" else None
    masks = {} if polygons else _images(mask_folder)
    items, findings = _pair(images, masks, mask_folder, polygons is not None, complete=split_list is None)
    stamp: list[Any] = [LISTING_FORMAT, source.layout, str(source.base), split, images.items(), masks.items()]
    if polygons:
        stamp += [polygons, os.stat(polygons).st_size, os.stat(polygons).st_mtime_ns]
    return Listing(source, split, tuple(items), tuple(findings), _digest(stamp), polygons)


def class_names(data: DataConfig) -> tuple[str, ...]:
    """Names in id order: `data.class_names`, else classes.txt, else by the data set, else ZeroWaste's five.

    Raises:
        UserError: Nothing names them.
    """
    if data.class_names:
        return tuple(data.class_names)
    source = locate(data)
    if source.layout == "dataset":
        return dataset_class_names(data)
    if (source.base / "classes.txt").is_file():
        lines = (source.base / "classes.txt").read_text(encoding="utf-8").splitlines()
        return tuple(line.strip() for line in lines if line.strip())
    if source.layout == "class_folders":
        return _class_folder_names(
            source, data.train_split if _split_exists(source, data.train_split) else data.val_split
        )
    for split in splits_of(data):
        file = coco_file(source, split)
        if file is not None:
            return coco_names(file)
    if source.layout in ("zerowaste", "official"):
        return ZEROWASTE_CLASSES
    raise UserError(
        f"the names of the classes in {source.base} are unknown: write them to {source.base / 'classes.txt'}, "
        "one per line in id order (background first), or give --data.class-names"
    )


def coco_file(source: Source, split: str) -> Path | None:
    """The COCO file of a split, where there is one."""
    base = source.base
    candidates = (
        base / split / "labels.json",
        base / split / "_annotations.coco.json",
        base / "annotations" / f"instances_{split}.json",
        base / "annotations" / f"{split}.json",
    )
    return next((path for path in candidates if path.is_file()), None)


def coco_names(file: Path) -> tuple[str, ...]:
    """background, then the categories of a COCO file in the order of their ids.

    Raises:
        UserError: the file is no COCO file.
    """
    stat = os.stat(file)
    return _coco_names(file, stat.st_size, stat.st_mtime_ns)


@lru_cache
def _coco_names(file: Path, size: int, mtime: int) -> tuple[str, ...]:
    try:
        categories = json.loads(file.read_text(encoding="utf-8"))["categories"]
        ordered = sorted((int(category["id"]), str(category["name"])) for category in categories)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is not a COCO file with `categories` of `id` and `name` ({error})"
        ) from error
    return ("background", *(name for _, name in ordered if name != "background"))


def _bases(root: Path) -> Iterator[Path]:
    """The root, and where the ZeroWaste archive puts its splits below it."""
    yield root
    children = sorted(path for path in root.iterdir() if path.is_dir())
    for parent in (root, *children):
        if (parent / "splits_final_deblurred").is_dir():
            yield parent / "splits_final_deblurred"
    yield from (child for child in children if child.name.startswith("zerowaste"))


def _also(layout: str) -> tuple[str, ...]:
    """Layouts a user may ask for where `layout` was recognised: ZeroWaste's folders hold polygons as well."""
    return {
        "zerowaste": ("coco",),
        "coco": ("zerowaste",),
        "official": ("folders", "coco"),
        "folders": ("coco",),
    }.get(layout, ())


def _recognise(base: Path, data: DataConfig) -> str:
    if (base / "dataset_dict.json").is_file() or (base / "state.json").is_file():
        return "dataset"
    for split in dict.fromkeys((data.train_split, data.val_split, *USUAL_SPLITS)):
        folder = base / split
        polygons = coco_file(Source("", base), split)
        if (folder / "data").is_dir():
            return "coco" if polygons and not _has_files(folder / "sem_seg") else "zerowaste"
        if (base / "images" / split).is_dir() and any(
            (base / name / split).is_dir() for name in MASK_FOLDERS
        ):
            return "official"
        if (folder / "images").is_dir() and any((folder / name).is_dir() for name in MASK_FOLDERS):
            return "folders"
        if polygons and _coco_images(base, split) is not None:
            return "coco"
        if (base / "images").is_dir() and (base / f"{split}.txt").is_file():
            return "folders"
        classes = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
        if any(_has_files(path) for path in classes if path.name not in (*MASK_FOLDERS, "data", "images")):
            return "class_folders"
    return ""


def _folders(source: Source, split: str) -> tuple[Path, Path]:
    """Folders of the images and of the masks."""
    base = source.base
    if source.layout == "zerowaste":
        return base / split / "data", base / split / "sem_seg"
    if source.layout == "coco":
        return _coco_images(base, split) or base / split, base / split / "sem_seg"
    if (base / "images" / split).is_dir():
        pairs = [(base / "images" / split, base / name / split) for name in MASK_FOLDERS]
    elif (base / split).is_dir():
        pairs = [(base / split / "images", base / split / name) for name in MASK_FOLDERS]
    else:
        pairs = [(base / "images", base / name) for name in MASK_FOLDERS]
    return next((pair for pair in pairs if pair[1].is_dir()), pairs[0])


def _coco_images(base: Path, split: str) -> Path | None:
    folders = (base / split / "data", base / split / "images", base / "images" / split, base / split)
    return next((folder for folder in folders if _has_files(folder)), None)


def _split_list(source: Source, split: str) -> Path | None:
    """SPLIT.txt with the names of a split, where all images lie in one folder."""
    if (
        source.layout != "folders"
        or (source.base / split).is_dir()
        or (source.base / "images" / split).is_dir()
    ):
        return None
    return source.base / f"{split}.txt"


def _split_exists(source: Source, split: str) -> bool:
    if source.layout == "class_folders":
        return (source.base / split).is_dir()
    if source.layout == "coco":
        return coco_file(source, split) is not None
    split_list = _split_list(source, split)
    return split_list.is_file() if split_list else _folders(source, split)[0].is_dir()


def _pair(
    images: dict[Path, tuple[int, int]],
    masks: dict[Path, tuple[int, int]],
    mask_folder: Path,
    drawn: bool,
    complete: bool,
) -> tuple[list[Item], list[Finding]]:
    """Match images and masks by the name without its suffix."""
    by_stem = {path.stem: path for path in masks}
    findings = [
        Finding("error", stem, "several images share this name", "keep one of them, or rename image and mask")
        for stem, count in Counter(path.stem for path in images).items()
        if count > 1
    ]
    findings += [
        Finding("error", stem, f"several masks share this name in {mask_folder}", "keep one of them")
        for stem, count in Counter(path.stem for path in masks).items()
        if count > 1
    ]
    items = [Item(path.stem, path, by_stem.get(path.stem)) for path in images]
    if drawn:
        return items, findings
    remedy = f"put the mask of the same name into {mask_folder}, or remove the image"
    findings += [
        Finding("error", str(f.image), "image without a mask", remedy) for f in items if f.mask is None
    ]
    if complete:
        names = {item.name for item in items}
        findings += [
            Finding(
                "warning",
                str(path),
                "mask without an image: not used",
                "add the image, or remove the mask",
            )
            for stem, path in by_stem.items()
            if stem not in names
        ]
    return items, findings


def _list_class_folders(data: DataConfig, source: Source, split: str) -> Listing:
    names = class_names(data)
    folders = sorted(path for path in (source.base / split).iterdir() if path.is_dir())
    unknown = [folder.name for folder in folders if folder.name not in names]
    if unknown:
        raise UserError(
            f"{source.base / split} has class folders that are no known class: {', '.join(unknown[:5])}"
        )
    ids = {name: number for number, name in enumerate(names)}
    items = [
        Item(f"{folder.name}/{name.rsplit('.', 1)[0]}", folder / name, label=ids[folder.name])
        for folder in folders
        for name in sorted(
            entry.name for entry in os.scandir(folder) if _suffix(entry.name) in CLASS_SUFFIXES
        )
    ]
    if not items:
        raise UserError(f"no image in the class folders of {source.base / split}")
    stamp = [
        LISTING_FORMAT,
        source.layout,
        str(source.base),
        split,
        names,
        [str(item.image) for item in items],
    ]
    return Listing(source, split, tuple(items), (), _digest(stamp))


def _class_folder_names(source: Source, split: str) -> tuple[str, ...]:
    folder = source.base / split
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir())) if folder.is_dir() else ()


def _images(folder: Path) -> dict[Path, tuple[int, int]]:
    """Images of a folder in the order of their names, with size in bytes and modification time in ns."""
    if not folder.is_dir():
        return {}
    entries = sorted((e for e in os.scandir(folder) if _suffix(e.name) in SUFFIXES), key=lambda e: e.name)
    return {
        folder / e.name: (e.stat().st_size, e.stat().st_mtime_ns)
        for e in entries
        if not e.name.startswith(".")
    }


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(_suffix(entry.name) in CLASS_SUFFIXES for entry in os.scandir(folder))


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _digest(stamp: list[Any]) -> str:
    text = json.dumps(
        [list(part) if hasattr(part, "__iter__") and not isinstance(part, str) else part for part in stamp],
        default=str,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]
