"""COCO files: images, categories, and annotations with polygons or run-length codes.

SPLIT/labels.json + SPLIT/data                     ZeroWaste-f, FiftyOne
SPLIT/_annotations.coco.json beside the images     Roboflow
annotations/instances_SPLIT.json + images/SPLIT    COCO, CVAT
SPLIT.json, or one file for all (result.json)      Label Studio and others
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fanet.config import DataConfig
from fanet.data.codes import IGNORED
from fanet.data.objects import Object, Runs, polygon_of, runs_of
from fanet.data.sources.base import (
    WHOLE,
    FileSource,
    Item,
    Listing,
    has_images,
    is_file,
    stamp_of,
    stem,
    subfolders,
)
from fanet.data.sources.catalogues import VOID_NAMES, plain_name
from fanet.data.sources.splits import matching, usual
from papers_shared.doctor import Finding
from papers_shared.entries import shown, size_of, text_of
from papers_shared.errors import UserError
from papers_shared.paths import inside
from papers_shared.text import read_json

IN_SPLIT = ("labels.json", "_annotations.coco.json", "annotations.json", "instances.json", "coco.json")
FOR_ALL = ("result.json", "annotations.json", "labels.json", "_annotations.coco.json", "coco.json")


@dataclass(frozen=True)
class Category:
    key: str
    """Its id as text."""
    name: str
    group: str
    """Its supercategory."""


@dataclass(frozen=True)
class Image:
    key: str
    """Its id as text."""
    file: str
    size: tuple[int, int] | None
    """(height, width), where it is given."""


@dataclass(frozen=True)
class Annotation:
    where: str
    """The file and the annotation, for messages."""
    category: str
    parts: tuple[np.ndarray | Runs, ...]


@dataclass(frozen=True)
class Content:
    """What a COCO file says, in our types."""

    categories: tuple[Category, ...]
    images: tuple[Image, ...]
    annotations: Mapping[str, tuple[Annotation, ...]]
    """By the id of the image."""
    broken: frozenset[str]
    """Ids of images that an annotation of cannot be read."""
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Coco(FileSource):
    """Masks drawn from the objects of COCO files."""

    LAYOUT: ClassVar[str] = "coco"
    files: Mapping[str, Path]
    """The COCO file of each split."""

    @classmethod
    def find(cls, base: Path, data: DataConfig) -> Coco | None:
        files = annotation_files(base, {data.train_split, data.val_split})
        return cls(base, data, files) if files and has_images(base, deep=True) else None

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.files)

    def class_names(self) -> tuple[str, ...]:
        first = (matching(self.data.train_split, self.splits) or list(self.splits))[0]
        return classes_of(read_coco(self.files[first]))

    def read(self, split: str, names: Sequence[str]) -> Listing:
        file = self.files[split]
        content = read_coco(file)
        ids = _class_ids(content, names, file)
        findings = list(content.findings)
        groups = grouping(content)
        findings += [
            Finding("note", str(file), f"the category {name!r} only groups others and is no class")
            for name in sorted(groups)
        ]
        folders = [folder for folder in self._image_folders(split) if folder.is_dir()]
        items, files, missing = [], [file], []
        for image in content.images:
            try:
                found = _find_image(folders, image.file, str(file), self.data.allow_outside)
            except UserError as error:
                findings.append(Finding("error", str(file), str(error).removeprefix(f"{file}: ")))
                continue
            if found is None:
                missing.append(image.file)
                continue
            path, name = found
            if image.key in content.broken:
                files.append(path)
                continue
            objects = tuple(Object(ids[a.category], a.parts) for a in content.annotations.get(image.key, ()))
            items.append(Item(stem(name), path, objects=objects, size=image.size))
        findings += _missing(file, missing, len(content.images), folders)
        stamps = (stamp_of(file), *(stamp_of(item.image) for item in items))
        return Listing(
            tuple(sorted(items, key=lambda i: i.name)), tuple(findings), tuple(files), None, stamps
        )

    def _image_folders(self, split: str) -> list[Path]:
        base = self.base
        own = matching(split, list(subfolders(base)))
        inner = matching(split, list(subfolders(base / "images")))
        return [
            *(base / name / part for name in own for part in ("data", "images", "")),
            *(base / "images" / name for name in inner),
            *(base / part for part in ("images", "images/default", "data", "JPEGImages", "")),
        ]


def annotation_files(base: Path, asked: Collection[str] = ()) -> dict[str, Path]:
    """The COCO file of each split in a folder; of `WHOLE` where one file is for all."""
    files: dict[str, Path] = {}
    for name, folder in subfolders(base).items():
        found = next((folder / file for file in IN_SPLIT if (folder / file).is_file()), None)
        if found and (usual(name) or name in asked):
            files[name] = found
    for folder in (base / "annotations", base):
        for path in sorted(folder.glob("*.json")):
            name = path.stem.removeprefix("instances_")
            if usual(name) or name in asked:
                files.setdefault(name, path)
    if files:
        return files
    whole = [base / "annotations" / "instances_default.json", *(base / name for name in FOR_ALL)]
    return next(({WHOLE: path} for path in whole if path.is_file() and _is_coco(path)), {})


def read_coco(file: Path) -> Content:
    """A COCO file in our types, with what is wrong with it.

    Raises:
        UserError: It is no COCO file.
    """
    return _read(*stamp_of(file))


def classes_of(content: Content) -> tuple[str, ...]:
    """background, then the categories in the order of their ids, without those that group others."""
    groups = grouping(content)
    ordered = sorted(
        content.categories, key=lambda c: (not c.key.isdigit(), int(c.key) if c.key.isdigit() else 0, c.key)
    )
    names = [plain_name(category.name) for category in ordered]
    return tuple(
        dict.fromkeys(["background", *(n for n in names if n not in groups and n not in VOID_NAMES)])
    )


def grouping(content: Content) -> set[str]:
    """Names of categories that others name as their supercategory and that no annotation has."""
    used = {one.category for several in content.annotations.values() for one in several}
    parents = {category.group for category in content.categories if category.group != category.name}
    return {c.name for c in content.categories if c.name in parents and c.key not in used}


@lru_cache(maxsize=4)
def _read(file: str, size: int, mtime: int) -> Content:
    content = read_json(file)
    lists = [
        content.get(key) if isinstance(content, dict) else None
        for key in ("images", "categories", "annotations")
    ]
    if not all(isinstance(entries, list) for entries in lists):
        raise UserError(
            f"{file} is no COCO file: it lacks the lists `images`, `categories` and `annotations`"
        )
    findings: list[Finding] = []
    categories = tuple(
        _category(entry, f"{file}: category {number}") for number, entry in enumerate(lists[1] or ())
    )
    twice = [key for key, count in Counter(category.key for category in categories).items() if count > 1]
    if twice:
        raise UserError(f"{file}: several categories have the id {twice[0]}")
    images: dict[str, Image] = {}
    for number, entry in enumerate(lists[0] or ()):
        where = f"{file}: image {_id_of(entry, number)}"
        try:
            image = _image(entry, where)
            if image.key in images:
                raise UserError(f"{where}: several images have this id")
            images[image.key] = image
        except UserError as error:
            findings.append(_named(where, error))
    names = Counter(image.file for image in images.values())
    findings += [
        Finding("error", file, f"the image {shown(name)} is listed {n} times")
        for name, n in names.items()
        if n > 1
    ]
    annotations, broken = _annotations(file, lists[2] or [], images, {c.key for c in categories}, findings)
    return Content(categories, tuple(images.values()), annotations, frozenset(broken), tuple(findings))


def _annotations(
    file: str, entries: list[Any], images: Mapping[str, Image], categories: set[str], findings: list[Finding]
) -> tuple[dict[str, tuple[Annotation, ...]], set[str]]:
    found: dict[str, list[Annotation]] = defaultdict(list)
    broken: set[str] = set()
    left_out: dict[str, list[str]] = defaultdict(list)
    if not entries:
        findings.append(Finding("error", file, "no annotation at all", "export the annotations again"))
    for number, entry in enumerate(entries):
        name = _id_of(entry, number)
        where = f"{file}: annotation {name}"
        key = ""
        try:
            if not isinstance(entry, dict):
                raise UserError(f"{where}: an object is expected, not {shown(entry)}")
            key = _key(entry, "image_id", where)
            category = _key(entry, "category_id", where)
            if category not in categories:
                raise UserError(f"{where}: no category has the id {shown(category)}")
            if key not in images:
                left_out["annotation of an image that is not listed: left out"].append(name)
                continue
            parts = _parts(entry.get("segmentation"), where, images[key].size)
        except UserError as error:
            broken.add(key)
            findings.append(_named(where, error))
            continue
        if parts is None:
            left_out["annotation without a shape (a box alone): left out"].append(name)
        elif not parts:
            left_out["annotation of fewer than three points: left out"].append(name)
        else:
            found[key].append(Annotation(where, category, parts))
    for message, names in left_out.items():
        listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        findings.append(Finding("warning", f"{file} ({len(names):,} annotations: {listed})", message))
    findings += _out_of_place(file, found, images)
    return {key: tuple(several) for key, several in found.items()}, broken


def _out_of_place(
    file: str, found: Mapping[str, Sequence[Annotation]], images: Mapping[str, Image]
) -> list[Finding]:
    """Coordinates that are no pixels, by all annotations together."""
    largest, beyond, total = 0.0, [], 0
    for key, several in found.items():
        for annotation in several:
            polygons = [part for part in annotation.parts if isinstance(part, np.ndarray)]
            if not polygons:
                return []
            total += 1
            corners = np.concatenate(polygons)
            largest = max(largest, float(corners.max()))
            size = images[key].size
            if size and (corners.max(0) > np.array(size[::-1]) * 1.02 + 1).any():
                beyond.append(annotation.where.rpartition(" ")[2])
    if total and largest <= 1:
        message = "all coordinates lie in 0..1: pixels are expected"
        return [Finding("error", file, message, "export them in pixels")]
    if beyond:
        listed = ", ".join(beyond[:5]) + (", ..." if len(beyond) > 5 else "")
        message = "annotation reaches beyond its image: what lies outside is left out"
        return [Finding("warning", f"{file} ({len(beyond):,} of {total:,} annotations: {listed})", message)]
    return []


def _parts(shape: Any, where: str, size: tuple[int, int] | None) -> tuple[np.ndarray | Runs, ...] | None:
    """The polygons or the run-length code of an annotation; None where it has no shape."""
    if shape is None or shape in ([], {}):
        return None
    if isinstance(shape, dict):
        runs = runs_of(shape, where)
        if size and runs.size != size:
            raise UserError(
                f"{where}: a run-length code of {runs.size[1]}x{runs.size[0]} pixels, and its image is "
                f"{size[1]}x{size[0]}"
            )
        return (runs,)
    if not isinstance(shape, list):
        raise UserError(
            f"{where}: `segmentation` must be polygons or a run-length code, and is {shown(shape)}"
        )
    polygons = shape if isinstance(shape[0], list) else [shape]
    return tuple(polygon for one in polygons if (polygon := polygon_of(one, where)) is not None)


def _category(entry: Any, where: str) -> Category:
    if not isinstance(entry, dict):
        raise UserError(f"{where}: an object with `id` and `name` is expected, not {shown(entry)}")
    name = text_of(entry, "name", where).strip()
    group = entry.get("supercategory")
    return Category(_key(entry, "id", where), name, group if isinstance(group, str) else "")


def _image(entry: Any, where: str) -> Image:
    if not isinstance(entry, dict):
        raise UserError(f"{where}: an object with `id` and `file_name` is expected, not {shown(entry)}")
    size = None
    if entry.get("width") is not None or entry.get("height") is not None:
        size = size_of(entry.get("width"), entry.get("height"), where)
    return Image(_key(entry, "id", where), text_of(entry, "file_name", where), size)


def _key(entry: dict[str, Any], key: str, where: str) -> str:
    """An id as text, whether it is written as 7, 7.0 or "7".

    Raises:
        UserError: It is missing or none of these.
    """
    value = entry.get(key)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return text_of(entry, key, where)


def _class_ids(content: Content, names: Sequence[str], file: Path) -> dict[str, int]:
    """Class id by the id of the category."""
    ids = {name: number for number, name in enumerate(names)}
    used = {one.category for several in content.annotations.values() for one in several}
    found, unknown = {}, []
    for category in content.categories:
        name = plain_name(category.name)
        if name in VOID_NAMES:
            found[category.key] = IGNORED
        elif name in ids:
            found[category.key] = ids[name]
        elif category.key in used:
            unknown.append(category.name)
    if unknown:
        raise UserError(
            f"{file} uses the categories {shown(sorted(unknown))}, which are not among the classes "
            f"{shown(list(names))}: name all classes with --data.class-names"
        )
    return found


def _find_image(folders: list[Path], name: str, where: str, allow_outside: bool) -> tuple[Path, str] | None:
    """An image's path and its name below its folder; the folder that had it is asked first the next time."""
    for position, folder in enumerate(folders):
        path = inside(folder, name, where, allow_outside=allow_outside)
        for candidate in (path, folder / path.name):
            if is_file(candidate):
                folders.insert(0, folders.pop(position))
                below = (
                    candidate.relative_to(folder)
                    if candidate.is_relative_to(folder)
                    else Path(candidate.name)
                )
                return candidate, below.as_posix()
    return None


def _missing(file: Path, missing: Sequence[str], listed: int, folders: Sequence[Path]) -> list[Finding]:
    if not missing:
        return []
    named = ", ".join(missing[:3])[:200] + (", ..." if len(missing) > 3 else "")
    where = f"{file} ({len(missing):,} of {listed:,} images: {named})"
    remedy = f"put the images into {folders[0]}" if folders else "put the images beside it"
    return [
        Finding(
            "error" if len(missing) == listed else "warning",
            where,
            "listed image is not there: left out",
            remedy,
        )
    ]


def _is_coco(file: Path) -> bool:
    try:
        read_coco(file)
    except UserError:
        return False
    return True


def _id_of(entry: Any, number: int) -> str:
    """How a message names an entry: by its id, else by its position."""
    key = entry.get("id") if isinstance(entry, dict) else None
    return (
        shown(key)[:40].strip("'\"")
        if isinstance(key, int | str) and not isinstance(key, bool)
        else f"at position {number}"
    )


def _named(where: str, error: UserError) -> Finding:
    """What is wrong with an entry."""
    return Finding(
        "error", where, str(error).removeprefix(where).lstrip(": "), "correct it, or take it out of the file"
    )
