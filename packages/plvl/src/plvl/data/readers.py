"""A data folder -> a `datasets.Dataset` with one row per expression."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from papers_shared.dataclass_json import read_json
from papers_shared.errors import UserError
from plvl.config import DataConfig
from plvl.data.records import RowMaker, Source
from plvl.data.rows import FEATURES, file_entry
from plvl.data.sources.hub import hub, hub_splits, load_hub
from plvl.data.sources.json_lines import json_lines

MANIFEST = "plvl-data.json"
FORMAT = 1


def open_split(data: DataConfig, split: str) -> datasets.Dataset:
    """The rows of a split, see `plvl.data`; those of a built folder are memory-mapped.

    Raises:
        UserError: no such folder or split, or its content is not understood.
    """
    layout, root = locate(data)
    present = splits_of(data)
    if split not in present:
        raise UserError(f"{root} has no split '{split}' (there are: {', '.join(present) or 'none'})")
    if layout == "built":
        return _open_built(data, root, split)
    if layout == "jsonl":
        return rows_of(json_lines(root if root.is_file() else root / f"{split}.jsonl", data.images), split)
    with quiet():
        loaded = load_hub(data.root)
        if split in loaded and set(FEATURES) <= set(loaded[split].column_names):
            return loaded[split].select_columns(list(FEATURES)).cast(FEATURES)
        return rows_of(hub(data.root, data.images), split)


def splits_of(data: DataConfig) -> tuple[str, ...]:
    """The splits that a data folder has.

    Raises:
        UserError: no such folder, or its content is not understood.
    """
    layout, root = locate(data)
    if layout == "built":
        return tuple(read_manifest(root)["splits"])
    if layout == "jsonl":
        return (root.stem,) if root.is_file() else tuple(sorted(file.stem for file in root.glob("*.jsonl")))
    with quiet():
        return hub_splits(data.root)


def locate(data: DataConfig) -> tuple[str, Path]:
    """The layout (built, jsonl or dataset) and the path of a data folder.

    Raises:
        UserError: there is none, or no layout fits.
    """
    if not data.root:
        raise UserError(
            "no data folder given: add --data.root FOLDER (`plvl data toy FOLDER` writes a toy one)"
        )
    root = Path(data.root).expanduser()
    if data.layout == "dataset":
        return "dataset", root
    if not root.exists():
        hint = "" if root.is_absolute() else " (for a data set of the Hub add --data.layout dataset)"
        raise UserError(f"the data folder {root} does not exist: check --data.root{hint}")
    found = _recognise(root)
    if not found or data.layout not in ("auto", found):
        wanted = "any of the known layouts" if data.layout == "auto" else f"the layout '{data.layout}'"
        hint = (
            ": it looks like a REFER release, which `plvl data build` reads"
            if _looks_like_refer(root)
            else ""
        )
        raise UserError(
            f"{root} does not have {wanted} (a folder of `plvl data build`, SPLIT.jsonl, a saved data set){hint}"
        )
    return found, root


def read_manifest(root: Path) -> dict[str, Any]:
    """What `plvl data build` wrote about its folder.

    Raises:
        UserError: it is missing, damaged, or of a newer version.
    """
    manifest = read_json(root / MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("splits"), dict):
        raise UserError(f"{root / MANIFEST} was not written by `plvl data build`")
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"{root / MANIFEST} has format {manifest.get('format')}, this version reads {FORMAT}: build it again"
        )
    return manifest


def picture_base(data: DataConfig, root: Path) -> Path:
    """The folder that the relative picture paths of a built folder start from."""
    if data.images:
        return Path(data.images).expanduser()
    manifest = read_manifest(root)
    recorded, relative = Path(manifest["images"]), root / manifest["images_from_here"]
    return recorded if recorded.is_dir() or not relative.is_dir() else relative


def rows_of(source: Source, split: str) -> datasets.Dataset:
    """The rows of one split of a source, in memory.

    Raises:
        UserError: the source cannot be read, or has no such split.
    """
    make = RowMaker()
    rows = [make(record)[0] for name, record in source.read() if name == split]
    if not rows:
        raise UserError(f"{source.name} has no expression in the split '{split}'")
    columns = {key: [row[key] for row in rows] for key in FEATURES}
    return datasets.Dataset.from_dict(columns, features=FEATURES)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of `datasets`, whatever the caller had set."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _open_built(data: DataConfig, root: Path, split: str) -> datasets.Dataset:
    base = picture_base(data, root)
    try:
        with quiet():
            rows = datasets.load_from_disk(str(root / split))
    except Exception as error:  # the library raises many kinds, all about this folder
        raise UserError(f"{root / split} cannot be read ({error}): run `plvl data build` again") from error
    if set(rows.column_names) != set(FEATURES):
        raise UserError(
            f"{root / split} has other columns than this version writes: run `plvl data build` again"
        )
    return rows.select_columns(list(FEATURES)).with_transform(_PicturesBelow(base))


@dataclass(frozen=True)
class _PicturesBelow:
    """Makes the stored path of a picture its `image`; applied to what is read, so that nothing is copied."""

    base: Path

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if "image" in batch:
            batch = {**batch, "image": [file_entry(self.base / path) for path in batch["image"]]}
        return batch


def _recognise(root: Path) -> str:
    if (root / MANIFEST).is_file():
        return "built"
    if (root / "dataset_dict.json").is_file() or (root / "state.json").is_file():
        return "dataset"
    if root.suffix == ".jsonl" or (root.is_dir() and any(root.glob("*.jsonl"))):
        return "jsonl"
    return ""


def _looks_like_refer(root: Path) -> bool:
    return (root / "instances.json").is_file() or any(root.glob("*/instances.json"))
