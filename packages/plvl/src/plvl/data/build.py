"""`plvl data build`: sources -> one folder.

    OUTPUT/plvl-data.json   what it was made of: format, files with their hashes, counts, the hash of each split
    OUTPUT/SPLIT/           a `datasets.Dataset` saved to disk: the columns of `plvl.data`, `image` as a path that
                            starts from the folder `images` of the manifest
    OUTPUT/images/          images that lay inside the data set, if any
    OUTPUT/SPLIT.jsonl      the same sentences as JSON lines (`plvl.data.sources.json_lines`), masks as COCO's
                            run-length codes

The hash of a split covers names, file names of the images (not their folders), sizes, sentences, boxes and
masks in their order: two people with the same annotations get the same one.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TextIO

import datasets
from datasets import Features, Value
from datasets.arrow_writer import ArrowWriter

from papers_shared.entries import shown
from papers_shared.errors import UserError
from papers_shared.files import file_digest, write_json, writing_folder
from papers_shared.images import open_image
from plvl.data.items import Item, Listing, RowMaker
from plvl.data.layouts import FORMAT, MANIFEST, read_manifest
from plvl.data.pixels import FEATURES, Row, file_entry, image_size
from plvl.data.readers import quiet

STORED = Features({**FEATURES, "image": Value("string")})
"""Columns on disk: an image is its path."""
SAY_EVERY = 20_000
IMAGES = "images"
"""Folder of images that lay inside a data set."""
DIGITS = 24
"""Of the digest that names each of them."""
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
SPLIT_NAME = re.compile(r"\w[\w .+-]{0,99}")
Missing = Literal["error", "drop", "keep"]
Plan = Callable[[Listing, str, Item], Sequence[str]]
"""(listing, its split, item) -> the splits of the output that take it; none: it is left out."""


@dataclass
class Counts:
    """Of one split."""

    images: set[str] = field(default_factory=set)
    objects: set[str] = field(default_factory=set)
    unnamed: int = 0
    """Sentences whose object has no name, each about an object of its own: kept out of the set, of Visual
    Genome there are millions."""
    expressions: int = 0
    masks: int = 0

    def add(self, item: Item, row: Row) -> None:
        self.images.add(item.image_id or str(item.image["path"]))
        if item.object_id:
            self.objects.add(f"{item.image_id or item.image['path']}\0{item.object_id}")
        self.unnamed += not item.object_id
        self.expressions += 1
        self.masks += row["mask"] is not None

    def to_json(self) -> dict[str, int]:
        return {
            "images": len(self.images),
            "objects": len(self.objects) + self.unnamed,
            "expressions": self.expressions,
            "masks": self.masks,
        }


def same_splits(listing: Listing, split: str, item: Item) -> Sequence[str]:
    """The plan of a single data set: its own splits."""
    return (split,)


def build(
    output: str | Path,
    dataset: str,
    listings: Sequence[Listing],
    *,
    images: str | Path = "",
    plan: Plan = same_splits,
    missing: Missing = "error",
    progress: bool = True,
) -> dict[str, Any]:
    """Read all sources and write the folder `output`, replacing what `plvl data build` wrote there before.

    Args:
        dataset: name of the result in its manifest.
        images: folder that image paths become relative to, where they lie below it; empty: the folder that
            all images have in common.
        missing: what to do about an image that is not there: stop, leave its sentences out, or keep them.

    Returns:
        The manifest.

    Raises:
        UserError: A source cannot be read, no sentence is left, or `output` is some other folder.
    """
    output = Path(output).expanduser()
    with writing_folder(output, _own_files(output)) as folder:
        writers: dict[str, _SplitWriter] = {}
        make, absent = RowMaker(), _Absent(missing)
        for listing in listings:
            for number, (split, item) in enumerate(listing.read(), start=1):
                if progress and number % SAY_EVERY == 0:
                    print(f"{listing.name}: {number:,} sentences", file=sys.stderr, flush=True)
                targets = plan(listing, split, item)
                item = _with_file(item, folder, output)
                if not targets or absent.leaves_out(item, listing, folder, output):
                    continue
                made = make(item, listing)
                if made is None:
                    continue
                row, code = made
                for target in targets:
                    if target not in writers:
                        writers[target] = _SplitWriter(folder, target)
                    writers[target].write(item, row, code)
        if not writers:
            raise UserError(
                f"no sentence of {dataset} is left to write: {absent.summary() or 'the sources are empty'}"
            )
        base = _base(images, writers)
        splits = {name: writer.close(base) for name, writer in writers.items()}
        manifest = {
            "format": FORMAT,
            "dataset": dataset,
            "images": str(base),
            "images_from_here": os.path.relpath(base, output.resolve()),
            "splits": splits,
            "sha256": _digest(json.dumps([[name, splits[name]["sha256"]] for name in sorted(splits)])),
            "missing_images": absent.count,
            "sources": [
                {
                    "name": listing.name,
                    "files": [{"path": str(file), "sha256": file_digest(file)} for file in listing.files],
                    "left_out": listing.left_out,
                    "remarks": listing.remarks,
                }
                for listing in listings
            ],
        }
        write_json(folder / MANIFEST, manifest)
    return manifest


def _own_files(folder: Path) -> list[str]:
    """Patterns of the files that `build` wrote into a folder; none where it was not built."""
    if not (folder / MANIFEST).is_file():
        return []
    splits = read_manifest(folder)["splits"]
    names = ("{}.jsonl", "{}/*.arrow", "{}/dataset_info.json", "{}/state.json")
    images = [f"{IMAGES}/{'[0-9a-f]' * DIGITS}{suffix}" for suffix in SUFFIXES.values()]
    return [MANIFEST, *images, *(name.format(glob.escape(split)) for split in splits for name in names)]


def _with_file(item: Item, folder: Path, output: Path) -> Item:
    """An item whose image lies inside the data set, with the image as a file of the new folder."""
    content = item.image["bytes"]
    if content is None:
        return item
    with open_image(io.BytesIO(content)) as image:
        suffix = SUFFIXES.get(image.format or "", "")
    if not suffix:
        raise UserError(f"{item.where or repr(item.name)}: its image is no PNG, JPEG or WebP")
    name = f"{hashlib.sha256(content).hexdigest()[:DIGITS]}{suffix}"
    file = folder / IMAGES / name
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    if item.width is None and item.height is None:
        height, width = image_size({"image": item.image, "name": item.name})
        item = replace(item, width=width, height=height)
    return replace(item, image=file_entry(output.resolve() / IMAGES / name))


class _Absent:
    """Looks whether images are there, each once."""

    def __init__(self, missing: Missing) -> None:
        self.missing = missing
        self.count = 0
        self._last = ("", True)

    def leaves_out(self, item: Item, listing: Listing, folder: Path, output: Path) -> bool:
        path = item.image["path"]
        if path is None:
            raise UserError(f"{item.where or repr(item.name)}: it has no image")
        if Path(path).parent == output.resolve() / IMAGES:
            path = str(folder / IMAGES / Path(path).name)
        if path != self._last[0]:
            self._last = (path, os.path.isfile(path))
            self.count += not self._last[1]
        if self._last[1] or self.missing == "keep":
            return False
        if self.missing == "drop":
            listing.leave_out("the image is missing")
            return True
        raise UserError(
            f"{path}: no such image ({item.name!r}); name the folder of the images with --images, or "
            "choose --missing drop or keep"
        )

    def summary(self) -> str:
        return f"{self.count} images are missing" if self.count else ""


class _SplitWriter:
    """One split: a growing Arrow file and a growing JSON lines file with absolute paths, made relative at the end."""

    def __init__(self, folder: Path, split: str) -> None:
        if not SPLIT_NAME.fullmatch(split) or split == IMAGES:
            raise UserError(f"{shown(split)} cannot be the name of a split")
        self.folder, self.split = folder, split
        self.counts = Counts()
        self._digest = hashlib.sha256()
        self._arrow = folder / f".{split}.arrow"
        self._lines = folder / f".{split}.jsonl"
        self._writer = ArrowWriter(path=str(self._arrow), features=STORED, writer_batch_size=1000)
        self._file: TextIO = open(self._lines, "w", encoding="utf-8")  # noqa: SIM115
        self.common = ""

    def write(self, item: Item, row: Row, code: dict[str, Any] | None) -> None:
        path = os.path.abspath(row["image"]["path"])
        self._writer.write({**row, "image": path})
        line = {
            "name": row["name"], "image": path, "width": row["width"], "height": row["height"],
            "expression": row["expression"], "box": row["box_xyxy"], "mask": code, "source": row["source"],
            "image_id": row["image_id"], "photo_id": row["photo_id"], "object_id": item.object_id,
        }  # fmt: skip
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
        stable = {**line, "image": os.path.basename(path)}
        self._digest.update(json.dumps(stable, sort_keys=True).encode() + b"\n")
        self.counts.add(item, row)
        parent = os.path.dirname(path)
        self.common = os.path.commonpath([self.common, parent]) if self.common else parent

    def close(self, base: Path) -> dict[str, Any]:
        """Write the split with paths relative to `base`; its entry in the manifest."""
        self._writer.finalize()
        self._file.close()
        with (
            open(self._lines, encoding="utf-8") as absolute,
            open(self.folder / f"{self.split}.jsonl", "w", encoding="utf-8") as relative,
        ):
            for line in absolute:
                entry = json.loads(line)
                entry["image"] = _relative(entry["image"], base)
                relative.write(json.dumps(entry, ensure_ascii=False) + "\n")
        with quiet():
            rows = datasets.Dataset.from_file(str(self._arrow))
            paths = [_relative(path, base) for path in rows["image"]]
            rows = rows.remove_columns("image").add_column("image", paths)
            rows.select_columns(list(STORED)).save_to_disk(str(self.folder / self.split))
        self._arrow.unlink()
        self._lines.unlink()
        return {**self.counts.to_json(), "sha256": self._digest.hexdigest()}


def _base(images: str | Path, writers: dict[str, _SplitWriter]) -> Path:
    common = Path(os.path.commonpath([writer.common for writer in writers.values()]))
    given = Path(images).expanduser().resolve() if images else common
    return given if common.is_relative_to(given) else common


def _relative(path: str, base: Path) -> str:
    """`path` from `base` on where it lies below it, else as it is."""
    try:
        return Path(path).relative_to(base).as_posix()
    except ValueError:
        return path


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
