"""Label Studio's own JSON: tasks with polygons, brush strokes and rectangles."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlparse

import numpy as np

from fanet.config import DataConfig
from fanet.data.objects import Object, Pixels
from fanet.data.sources.base import WHOLE, FileSource, Folder, Item, Listing, has_images, stamp_of, stem
from fanet.data.sources.catalogues import plain_name
from papers_shared.doctor import Finding, Severity
from papers_shared.entries import numbers_of, shown, size_of
from papers_shared.errors import UserError
from papers_shared.text import read_json

UPLOADED = re.compile(r"[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded image."""
KINDS = frozenset({"polygonlabels", "brushlabels", "rectanglelabels"})
"""Types of results that are read; the value of each holds its labels under the name of the type."""


@dataclass(frozen=True)
class LabelStudio(FileSource):
    """Masks drawn from the results of Label Studio's tasks; the file lies beside the images or their folder."""

    LAYOUT: ClassVar[str] = "label_studio"
    file: Path

    @classmethod
    def find(cls, base: Path, data: DataConfig) -> LabelStudio | None:
        if not has_images(base, deep=True):
            return None
        for path in sorted(base.glob("*.json")):
            try:
                tasks = _tasks(*stamp_of(path))
            except UserError:
                continue
            if tasks and all(
                isinstance(task, dict) and {"data", "annotations"} <= task.keys() for task in tasks
            ):
                return cls(base, data, path)
        return None

    @property
    def splits(self) -> tuple[str, ...]:
        return (WHOLE,)

    def class_names(self) -> tuple[str, ...]:
        results = (result for task in self.tasks for result in _results(task)[0] if result["type"] in KINDS)
        names = {name for result in results for name in _labels(result)}
        return ("background", *sorted(names - {"background"}))

    @property
    def tasks(self) -> list[Any]:
        return _tasks(*stamp_of(self.file))

    def read(self, split: str, names: Sequence[str]) -> Listing:
        ids = {name: number for number, name in enumerate(names)}
        found = Folder.scan(self.base)
        by_name: dict[str, list[str]] = {}
        for name in found.images:
            by_name.setdefault(name.rpartition("/")[2], []).append(name)
        items: dict[str, Item] = {}
        findings = list(found.findings)
        missing, several, undone = [], [], []
        unread: Counter[str] = Counter()
        for number, task in enumerate(self.tasks):
            where = f"{self.file}: task {task.get('id', number)}"
            image = _image_of(task)
            there = by_name.get(image) or by_name.get(UPLOADED.sub("", image, count=1)) or []
            results, annotations = _results(task)
            if len(there) != 1:
                missing.append(shown(image))
                continue
            if not annotations:
                undone.append(shown(image))
                continue
            if annotations > 1:
                several.append(shown(image))
            unread.update(result["type"] for result in results if result["type"] not in KINDS)
            try:
                item = _item(there[0], found.images[there[0]], results, where, ids)
                if item.name in items:
                    raise UserError(f"{where}: its image is that of another task")
                items[item.name] = item
            except UserError as error:
                message = str(error).removeprefix(where).lstrip(": ")
                remedy = "correct it, or take the task out of the file"
                findings.append(Finding("error", where, message, remedy))
        told = (
            (
                missing,
                "no single image has the name of the task's: left out",
                f"put the images below {self.base}",
            ),
            (undone, "task without an annotation: left out", "annotate it, or take it out of the file"),
            (several, "task with several annotations: the first is used", ""),
        )
        for names_of, message, remedy in told:
            if names_of:
                listed = ", ".join(names_of[:3]) + (", ..." if len(names_of) > 3 else "")
                where = f"{self.file} ({len(names_of):,} of {len(self.tasks):,} tasks: {listed})"
                worst: Severity = "error" if not items and names_of is not several else "warning"
                findings.append(Finding(worst, where, message, remedy))
        for kind, count in unread.items():
            message = f"result of the type {kind[:40]!r}: left out"
            findings.append(
                Finding("warning", f"{self.file} ({count:,} results)", message, "draw polygons or brushes")
            )
        ordered = tuple(items[name] for name in sorted(items))
        return Listing(ordered, tuple(findings), (self.file,), None, (stamp_of(self.file), *found.stamps))


@lru_cache(maxsize=4)
def _tasks(file: str, size: int, mtime: int) -> list[Any]:
    content = read_json(file)
    return content if isinstance(content, list) else []


def _results(task: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """The results of a task's first annotation that was not cancelled, and how many annotations there are."""
    entries = task.get("annotations")
    annotations = [
        one
        for one in (entries if isinstance(entries, list) else ())
        if isinstance(one, dict) and not one.get("was_cancelled") and isinstance(one.get("result"), list)
    ]
    first = annotations[0]["result"] if annotations else []
    results = [result for result in first if isinstance(result, dict) and isinstance(result.get("type"), str)]
    return results, len(annotations)


def _item(name: str, image: Path, results: Sequence[dict[str, Any]], where: str, ids: dict[str, int]) -> Item:
    """An image with its objects."""
    parts = [_object(result, where, ids) for result in results if result["type"] in KINDS]
    sizes = {size for _, size in parts}
    if len(sizes) > 1:
        raise UserError(f"{where}: its results are of images of several sizes: {sorted(sizes)[:3]}")
    return Item(stem(name), image, objects=tuple(one for one, _ in parts), size=next(iter(sizes), None))


def _labels(result: dict[str, Any]) -> Iterator[str]:
    value = result.get("value")
    labels = value.get(result["type"]) if isinstance(value, dict) else None
    for label in labels if isinstance(labels, list) else ():
        if isinstance(label, str):
            yield plain_name(label)


def _image_of(task: dict[str, Any]) -> str:
    """The bare name of a task's image: the end of an address, or of the path in its query."""
    data = task.get("data")
    values = data.values() if isinstance(data, dict) else ()
    for value in values:
        if isinstance(value, str) and ("/" in value or "." in value):
            address = urlparse(value)
            path = parse_qs(address.query).get("d", [address.path])[0]
            return unquote(path).replace("\\", "/").rpartition("/")[2]
    return ""


def _object(result: dict[str, Any], where: str, ids: dict[str, int]) -> tuple[Object, tuple[int, int]]:
    """An object, and the (height, width) of its image."""
    size = size_of(result.get("original_width"), result.get("original_height"), where)
    labels = list(_labels(result))
    if len(labels) != 1 or labels[0] not in ids:
        raise UserError(f"{where}: one label of {shown(list(ids))} is expected, not {shown(labels)}")
    value = result["value"]
    if result["type"] == "brushlabels":
        return Object(ids[labels[0]], (Pixels(_brush(value.get("rle"), size, where)),)), size
    if result["type"] == "rectanglelabels":
        x, y, width, height = numbers_of(
            [value.get(key) for key in ("x", "y", "width", "height")], where, count=4
        )
        if value.get("rotation"):
            raise UserError(f"{where}: turned rectangles are not read: draw a polygon")
        points = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
    else:
        corners = value.get("points")
        if not isinstance(corners, list) or len(corners) < 3:
            raise UserError(f"{where}: a polygon has three points or more, not {shown(corners)}")
        points = np.array([numbers_of(corner, where, count=2) for corner in corners])
    return Object(ids[labels[0]], (points * np.array(size[::-1]) / 100,)), size


def _brush(code: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """(height, width) bool: the pixels of a brush stroke whose opacity is not 0.

    The code is a stream of bits: 32 for the number of values, 5 for the bits of a value less one, 4 times 4 for the
    bits of a length less one; then runs: a bit that says whether the values are equal, 2 bits that choose the bits of
    the length, the length less one, and one value or as many as the length says. The values are red, green, blue and
    opacity of each pixel.
    """
    if not isinstance(code, list) or not all(type(byte) is int and 0 <= byte < 256 for byte in code):
        raise UserError(f"{where}: a brush stroke is a list of bytes, not {shown(code)}")
    bits = "".join(f"{byte:08b}" for byte in code)
    position = 0

    def take(count: int) -> int:
        nonlocal position
        if position + count > len(bits):
            raise UserError(f"{where}: the code of a brush stroke is cut off")
        number = int(bits[position : position + count], 2)
        position += count
        return number

    total, word = take(32), take(5) + 1
    widths = [take(4) + 1 for _ in range(4)]
    if total != 4 * size[0] * size[1]:
        raise UserError(
            f"{where}: a brush stroke of {total} values on an image of {size[1]}x{size[0]} pixels"
        )
    values = np.zeros(total, np.uint8)
    filled = 0
    while filled < total:
        equal = take(1)
        length = take(widths[take(2)]) + 1
        if filled + length > total:
            raise UserError(f"{where}: the code of a brush stroke is longer than its image")
        if equal:
            values[filled : filled + length] = take(word) > 0
        else:
            values[filled : filled + length] = [take(word) > 0 for _ in range(length)]
        filled += length
    return values.reshape(*size, 4)[..., 3] > 0
