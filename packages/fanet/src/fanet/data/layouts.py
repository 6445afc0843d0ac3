"""Which layout a data folder has, and the list of its frames. Nothing here decodes a picture."""

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
from papers_shared.doctor import Finding
from papers_shared.errors import UserError

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
CLASS_PICTURES = PICTURES | {".gif"}
MASK_FOLDERS = ("masks", "annotations", "labels", "sem_seg")
USUAL_SPLITS = ("train", "val", "test")
LISTING_FORMAT = 1


@dataclass(frozen=True)
class Place:
    """A data folder whose layout is known."""

    layout: str
    base: Path
    """The folder that holds the splits; may lie below the root the user gave."""


@dataclass(frozen=True)
class Frame:
    name: str
    image: Path
    mask: Path | None = None
    label: int = -1


@dataclass(frozen=True)
class Listing:
    """The frames of one split, in the order of their names."""

    place: Place
    split: str
    frames: tuple[Frame, ...]
    findings: tuple[Finding, ...]
    """What is already wrong by the names of the files: missing pairs, two pictures of one name."""
    key: str
    """Changes with the names, sizes and modification times of the files."""
    polygons: Path | None = None
    """COCO file that the masks are drawn from, where there are no masks."""


def locate(data: DataConfig) -> Place:
    """Find the splits in or below `data.root` and recognise the layout.

    Raises:
        UserError: there is no such folder, or no layout fits.
    """
    if not data.root:
        raise UserError(
            "no data folder given: add --data.root FOLDER (`fanet data toy FOLDER` writes a toy one)."
        )
    root = Path(data.root).expanduser()
    if data.layout == "dataset":
        return Place("dataset", root)
    if not root.is_dir():
        hub = " For a data set of the Hub add --data.layout dataset." if not root.is_absolute() else ""
        raise UserError(f"the data folder {root} does not exist: check --data.root.{hub}")
    for base in _bases(root):
        layout = _recognise(base, data)
        if layout and data.layout in ("auto", layout, *_also(layout)):
            return Place(layout if data.layout == "auto" else data.layout, base.resolve())
    if data.layout != "auto":
        raise UserError(
            f"{root} does not have the layout {data.layout!r}: see `fanet train --help` for the layouts."
        )
    extra = " It holds labels.json but no pictures." if (root / "labels.json").is_file() else ""
    raise UserError(
        f"{root} has none of the known layouts (SPLIT/data + sem_seg, images/SPLIT + annotations/SPLIT, "
        "SPLIT/images + SPLIT/masks, SPLIT/CLASS, save_to_disk; SPLIT is train, val or test)."
        f"{extra} "
        "Point --data.root at the folder that holds the splits."
    )


def splits_of(data: DataConfig) -> tuple[str, ...]:
    """The splits that exist in the folder, of those configured and the usual three."""
    place = locate(data)
    names = dict.fromkeys((data.train_split, data.val_split, *USUAL_SPLITS))
    if place.layout == "dataset":
        from fanet.data.readers import dataset_splits

        present = dataset_splits(place.base, data.root)
        return tuple(name for name in names if name in present)
    return tuple(name for name in names if _split_exists(place, name))


def list_split(data: DataConfig, split: str) -> Listing:
    """The frames of a split with their masks (or labels).

    Raises:
        UserError: the split does not exist or holds no picture.
    """
    place = locate(data)
    if not _split_exists(place, split):
        present = ", ".join(splits_of(data)) or "none"
        raise UserError(f"{place.base} has no split {split!r} (there are: {present}).")
    if place.layout == "class_folders":
        return _list_class_folders(data, place, split)
    image_folder, mask_folder = _folders(place, split)
    pictures = _pictures(image_folder)
    if split_list := _split_list(place, split):
        wanted = {line.strip() for line in split_list.read_text().splitlines() if line.strip()}
        pictures = {path: stat for path, stat in pictures.items() if {path.stem, path.name} & wanted}
    if not pictures:
        raise UserError(f"no picture of the split {split!r} in {image_folder}.")
    polygons = coco_file(place, split) if place.layout == "coco" else None
    masks = {} if polygons else _pictures(mask_folder)
    frames, findings = _pair(pictures, masks, mask_folder, polygons is not None, complete=split_list is None)
    stamp: list[Any] = [LISTING_FORMAT, place.layout, str(place.base), split, pictures.items(), masks.items()]
    if polygons:
        stamp += [polygons, os.stat(polygons).st_size, os.stat(polygons).st_mtime_ns]
    return Listing(place, split, tuple(frames), tuple(findings), _digest(stamp), polygons)


def class_names(data: DataConfig) -> tuple[str, ...]:
    """Names in id order: `data.class_names`, else classes.txt, else by the data set, else ZeroWaste's five.

    Raises:
        UserError: nobody knows them.
    """
    if data.class_names:
        return tuple(data.class_names)
    place = locate(data)
    if place.layout == "dataset":
        from fanet.data.readers import dataset_class_names

        return dataset_class_names(data)
    if (place.base / "classes.txt").is_file():
        lines = (place.base / "classes.txt").read_text(encoding="utf-8").splitlines()
        return tuple(line.strip() for line in lines if line.strip())
    if place.layout == "class_folders":
        return _class_folder_names(
            place, data.train_split if _split_exists(place, data.train_split) else data.val_split
        )
    for split in splits_of(data):
        file = coco_file(place, split)
        if file is not None:
            return coco_names(file)
    if place.layout in ("zerowaste", "authors"):
        return ZEROWASTE_CLASSES
    raise UserError(
        f"the names of the classes in {place.base} are unknown: write them to {place.base / 'classes.txt'}, "
        "one per line in id order (background first), or give --data.class-names."
    )


def coco_file(place: Place, split: str) -> Path | None:
    """The COCO file of a split, where there is one."""
    base = place.base
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
            f"{file} is not a COCO file with `categories` of `id` and `name` ({error})."
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
        "authors": ("folders", "coco"),
        "folders": ("coco",),
    }.get(layout, ())


def _recognise(base: Path, data: DataConfig) -> str:
    if (base / "dataset_dict.json").is_file() or (base / "state.json").is_file():
        return "dataset"
    for split in dict.fromkeys((data.train_split, data.val_split, *USUAL_SPLITS)):
        folder = base / split
        polygons = coco_file(Place("", base), split)
        if (folder / "data").is_dir():
            return "coco" if polygons and not _has_files(folder / "sem_seg") else "zerowaste"
        if (base / "images" / split).is_dir() and any(
            (base / name / split).is_dir() for name in MASK_FOLDERS
        ):
            return "authors"
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


def _folders(place: Place, split: str) -> tuple[Path, Path]:
    """Folders of the pictures and of the masks."""
    base = place.base
    if place.layout == "zerowaste":
        return base / split / "data", base / split / "sem_seg"
    if place.layout == "coco":
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


def _split_list(place: Place, split: str) -> Path | None:
    """SPLIT.txt with the names of a split, where all pictures lie in one folder."""
    if place.layout != "folders" or (place.base / split).is_dir() or (place.base / "images" / split).is_dir():
        return None
    return place.base / f"{split}.txt"


def _split_exists(place: Place, split: str) -> bool:
    if place.layout == "class_folders":
        return (place.base / split).is_dir()
    if place.layout == "coco":
        return coco_file(place, split) is not None
    split_list = _split_list(place, split)
    return split_list.is_file() if split_list else _folders(place, split)[0].is_dir()


def _pair(
    pictures: dict[Path, tuple[int, int]],
    masks: dict[Path, tuple[int, int]],
    mask_folder: Path,
    drawn: bool,
    complete: bool,
) -> tuple[list[Frame], list[Finding]]:
    """Match pictures and masks by the name without its suffix."""
    by_stem = {path.stem: path for path in masks}
    findings = [
        Finding(
            "error", stem, "several pictures share this name", "keep one of them, or rename picture and mask"
        )
        for stem, count in Counter(path.stem for path in pictures).items()
        if count > 1
    ]
    findings += [
        Finding("error", stem, f"several masks share this name in {mask_folder}", "keep one of them")
        for stem, count in Counter(path.stem for path in masks).items()
        if count > 1
    ]
    frames = [Frame(path.stem, path, by_stem.get(path.stem)) for path in pictures]
    if drawn:
        return frames, findings
    remedy = f"put the mask of the same name into {mask_folder}, or remove the picture"
    findings += [
        Finding("error", str(f.image), "picture without a mask", remedy) for f in frames if f.mask is None
    ]
    if complete:
        names = {frame.name for frame in frames}
        findings += [
            Finding(
                "warning",
                str(path),
                "mask without a picture: not used",
                "add the picture, or remove the mask",
            )
            for stem, path in by_stem.items()
            if stem not in names
        ]
    return frames, findings


def _list_class_folders(data: DataConfig, place: Place, split: str) -> Listing:
    names = class_names(data)
    folders = sorted(path for path in (place.base / split).iterdir() if path.is_dir())
    unknown = [folder.name for folder in folders if folder.name not in names]
    if unknown:
        raise UserError(
            f"{place.base / split} has class folders that are no known class: {', '.join(unknown[:5])}."
        )
    ids = {name: number for number, name in enumerate(names)}
    frames = [
        Frame(f"{folder.name}/{name.rsplit('.', 1)[0]}", folder / name, label=ids[folder.name])
        for folder in folders
        for name in sorted(
            entry.name for entry in os.scandir(folder) if _suffix(entry.name) in CLASS_PICTURES
        )
    ]
    if not frames:
        raise UserError(f"no picture in the class folders of {place.base / split}.")
    stamp = [
        LISTING_FORMAT,
        place.layout,
        str(place.base),
        split,
        names,
        [str(frame.image) for frame in frames],
    ]
    return Listing(place, split, tuple(frames), (), _digest(stamp))


def _class_folder_names(place: Place, split: str) -> tuple[str, ...]:
    folder = place.base / split
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir())) if folder.is_dir() else ()


def _pictures(folder: Path) -> dict[Path, tuple[int, int]]:
    """Pictures of a folder in the order of their names, with size in bytes and modification time in ns."""
    if not folder.is_dir():
        return {}
    entries = sorted((e for e in os.scandir(folder) if _suffix(e.name) in PICTURES), key=lambda e: e.name)
    return {
        folder / e.name: (e.stat().st_size, e.stat().st_mtime_ns)
        for e in entries
        if not e.name.startswith(".")
    }


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(_suffix(entry.name) in CLASS_PICTURES for entry in os.scandir(folder))


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _digest(stamp: list[Any]) -> str:
    text = json.dumps(
        [list(part) if hasattr(part, "__iter__") and not isinstance(part, str) else part for part in stamp],
        default=str,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]
