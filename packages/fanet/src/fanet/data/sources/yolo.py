"""YOLO's text files of polygons: a line `class x y x y ...` for each object, in shares of the image's width and height.

data.yaml + SPLIT/images + SPLIT/labels        Roboflow, Ultralytics
data.yaml + images/SPLIT + labels/SPLIT        Ultralytics
classes.txt + images + labels                  Label Studio; without data.yaml the folder has no splits
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml

from fanet.config import DataConfig
from fanet.data.objects import Object, Shares
from fanet.data.sources.base import WHOLE, FileSource, Folder, Item, Listing, has_images, stamp_of, stem
from fanet.data.sources.catalogues import plain_name, read_names
from papers_shared.doctor import Finding
from papers_shared.entries import first_line, shown
from papers_shared.errors import UserError
from papers_shared.paths import inside
from papers_shared.text import read_text

SPLITS = ("train", "val", "test")
MAX_DESCRIPTION = 1_000_000
"""Bytes of a data.yaml."""


@dataclass(frozen=True)
class Yolo(FileSource):
    """Masks drawn from YOLO's polygons; class 0 of the files comes after the background."""

    LAYOUT: ClassVar[str] = "yolo"
    description: Path | None
    """data.yaml."""

    @classmethod
    def find(cls, base: Path, data: DataConfig) -> Yolo | None:
        for path in (base / "data.yaml", base / "data.yml", *sorted(base.glob("*.y*ml"))):
            if path.is_file() and {"names", "train"} <= _described(path).keys():
                return cls(base, data, path)
        labels = base / "labels"
        if (
            (base / "images").is_dir()
            and labels.is_dir()
            and any(labels.rglob("*.txt"))
            and not has_images(labels)
        ):
            return cls(base, data, None)
        return None

    @cached_property
    def entries(self) -> dict[str, Any]:
        """What data.yaml says."""
        return _described(self.description) if self.description else {}

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if self.entries.get(split)) if self.description else (WHOLE,)

    @cached_property
    def own_names(self) -> tuple[str, ...]:
        """The names of the files' classes 0, 1, 2, ..."""
        if self.description is None:
            file = self.base / "classes.txt"
            if not file.is_file():
                raise UserError(
                    f"{self.base} has no data.yaml and no classes.txt: write one with a class a line"
                )
            return tuple(map(plain_name, read_names(file)))
        names = self.entries["names"]
        if isinstance(names, dict) and sorted(map(str, names)) == sorted(map(str, range(len(names)))):
            names = [names.get(number, names.get(str(number))) for number in range(len(names))]
        if not isinstance(names, list) or not names or not all(isinstance(n, str | int) for n in names):
            raise UserError(
                f"{self.description}: `names` must list the classes 0, 1, 2, ..., and is {shown(names)}"
            )
        return tuple(plain_name(str(name)) for name in names)

    def class_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(["background", *self.own_names]))

    def read(self, split: str, names: Sequence[str]) -> Listing:
        ids = {name: number for number, name in enumerate(names)}
        unknown = [name for name in self.own_names if name not in ids]
        if unknown:
            raise UserError(
                f"{self.description or self.base} names the classes {shown(unknown)}, which are not among "
                f"{shown(list(names))}: name all classes with --data.class-names"
            )
        classes = [ids[name] for name in self.own_names]
        found, files, findings = self._images(split)
        stamps: list[object] = []
        items, without = [], []
        for name, path in found.items():
            stamps.append(stamp_of(path))
            labels = _labels_of(path)
            if not labels.is_file():
                without.append(name)
                items.append(Item(stem(name), path, objects=()))
                continue
            files.append(labels)
            objects, told = _objects(labels, classes)
            findings += told
            if not any(finding.severity == "error" for finding in told):
                items.append(Item(stem(name), path, objects=tuple(objects)))
        if without:
            message = "image without a file of labels: taken as background"
            listed = ", ".join(without[:3])[:200] + (", ..." if len(without) > 3 else "")
            where = f"{self.base}, split {split} ({len(without):,} images: {listed})"
            findings.append(Finding("warning", where, message))
        stamps += map(stamp_of, files)
        return Listing(tuple(items), tuple(findings), tuple(files), None, tuple(stamps))

    def _images(self, split: str) -> tuple[dict[str, Path], list[Path], list[Finding]]:
        """The images of a split by name, the files that list them, and what is wrong with these."""
        if self.description is None:
            found = Folder.scan(self.base / "images")
            return found.images, [self.base / "classes.txt"], list(found.findings)
        where = f"{self.description}: `{split}`"
        values = self.entries[split]
        images: dict[str, Path] = {}
        files = [self.description]
        findings: list[Finding] = []
        for value in values if isinstance(values, list) else [values]:
            if not isinstance(value, str):
                raise UserError(
                    f"{where} must name folders of images or lists of them, and is {shown(value)}"
                )
            place = self._there(value, where)
            if place is None:
                raise UserError(f"{where} is {value!r}, and there is no such folder or list in {self.base}")
            if place.is_dir():
                found = Folder.scan(place)
                images |= found.images
                findings += found.findings
                continue
            files.append(place)
            for number, line in enumerate(read_text(place).split("\n"), start=1):
                if not line.strip():
                    continue
                path = self._there(line.strip(), f"{place}, line {number}")
                if path is None:
                    message = f"{line.strip()[:200]!r} is listed, and there is no such image"
                    findings.append(Finding("error", f"{place}, line {number}", message, "correct the list"))
                else:
                    images[os.path.relpath(path, self.base).replace(os.sep, "/")] = path
        return images, files, findings

    def _there(self, value: str, where: str) -> Path | None:
        """A folder or file below the base: some tools write it as seen from another folder."""
        plain = value.replace("\\", "/")
        while plain.startswith(("../", "./")):
            plain = plain.partition("/")[2]
        start = self.entries.get("path")
        tries = [
            plain,
            plain.removeprefix("data/"),
            *([f"{start}/{value}"] if isinstance(start, str) else []),
            value,
        ]
        refused: UserError | None = None
        for name in dict.fromkeys(tries):
            try:
                path = inside(self.base, name, where, allow_outside=self.data.allow_outside)
                if path.is_dir() or path.is_file():
                    return path
            except UserError as error:
                refused = error
            except OSError:  # a name that no file can have
                continue
        if refused:
            raise refused
        return None


def _described(path: Path) -> dict[str, Any]:
    text = read_text(path)
    if len(text) > MAX_DESCRIPTION:
        return {}
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{path} is not YAML ({first_line(error)})") from None
    return content if isinstance(content, dict) else {}


def _labels_of(image: Path) -> Path:
    """The text file of an image: in the folder `labels` where the image lies in `images`, else beside it."""
    parts = list(image.parts)
    last = len(parts) - 1 - next((i for i, part in enumerate(reversed(parts)) if part == "images"), -1)
    if last < len(parts):
        parts[last] = "labels"
    return Path(*parts).with_suffix(".txt")


def _objects(file: Path, classes: Sequence[int]) -> tuple[list[Object], list[Finding]]:
    """The objects of one image."""
    objects: list[Object] = []
    findings: list[Finding] = []
    boxes = 0
    remedy = "export polygons again, or take the line out"
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        values = line.split()
        if not values:
            continue
        where = f"{file}, line {number}"
        try:
            numbers = [float(value) for value in values]
        except ValueError:
            findings.append(Finding("error", where, f"{line[:60]!r} holds what is no number", remedy))
            continue
        class_id, corners = numbers[0], np.array(numbers[1:], np.float64)
        if class_id not in range(len(classes)):
            message = f"the class {values[0][:20]} is none of 0 to {len(classes) - 1}"
            findings.append(Finding("error", where, message, "correct it, or name all classes"))
        elif len(corners) == 4:
            boxes += 1
        elif len(corners) % 2 or len(corners) < 6:
            message = f"{len(corners)} coordinates are no polygon"
            findings.append(Finding("error", where, message, remedy))
        elif not (np.abs(corners) <= 2).all():
            message = "coordinates are shares of the image in 0..1, and these are not"
            findings.append(Finding("error", where, message, remedy))
        else:
            objects.append(Object(classes[int(class_id)], (Shares(corners.reshape(-1, 2)),)))
    if boxes:
        findings.append(Finding("warning", f"{file} ({boxes})", "box without a polygon: left out", remedy))
    return objects, findings
