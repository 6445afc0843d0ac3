"""A data folder -> a `datasets.Dataset` with one row per sentence."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets

from papers_shared.dataset_rows import load_rows
from papers_shared.entries import first_line, first_names
from papers_shared.errors import UserError
from papers_shared.held_out import check_share, divided
from papers_shared.paths import inside
from plvl.config import DataConfig
from plvl.data.hub import Splits, hub, hub_splits, load_hub
from plvl.data.items import Listing, Reading, RowMaker
from plvl.data.layouts import RELEASES, folder_splits, image_base, locate, read_manifest, split_files
from plvl.data.pixels import FEATURES, file_entry, values_of
from plvl.data.sources.coco_file import coco_file
from plvl.data.sources.flickr30k import flickr30k
from plvl.data.sources.json_lines import json_lines
from plvl.data.sources.label_lists import label_lists
from plvl.data.sources.refer import refs_file
from plvl.data.sources.visual_genome import visual_genome


def open_split(data: DataConfig, split: str) -> datasets.Dataset:
    """The rows of a split, see `plvl.data`; those of a built folder are memory-mapped.

    Raises:
        UserError: No such folder or split, or its content is not understood.
    """
    return _open(data, split, None)


def open_usable(data: DataConfig, split: str) -> tuple[datasets.Dataset, list[str]]:
    """The rows of a split that can be used, and what is wrong with the entries that are no rows.

    Raises:
        UserError: No such folder or split, or none of its entries can be used.
    """
    broken: list[str] = []
    return _open(data, split, broken), broken


def _open(data: DataConfig, split: str, broken: list[str] | None) -> datasets.Dataset:
    if not _is_shared(data, split):
        return _read(data, split, broken)
    splits_of(data)  # refuses what cannot be divided
    rows = _read(data, data.train_split, broken)
    held, val = f"{data.root} holds sentences about one image", split == data.val_split
    return rows.select(divided(_origins(rows), data.val_share, data.val_seed, val=val, source=held))


def _is_shared(data: DataConfig, split: str) -> bool:
    return data.val_share > 0 and split in (data.train_split, data.val_split)


def _origins(rows: datasets.Dataset) -> list[str]:
    """What tells the image of each row from the others, wherever the data lies."""
    origins = []
    for (entry,) in values_of(rows, "image"):
        content = entry["bytes"]
        name = hashlib.sha256(content).hexdigest() if content else "/".join(Path(entry["path"]).parts[-2:])
        origins.append(name)
    return origins


def _read(data: DataConfig, split: str, broken: list[str] | None) -> datasets.Dataset:
    layout, root = locate(data)
    with quiet():
        if layout == "built":
            check_split(split, folder_splits(layout, root), root)
            return _open_built(data, root, split)
        loaded = load_hub(data.root) if layout == "dataset" else {}
        if layout not in RELEASES:
            check_split(split, hub_splits(loaded) if loaded else folder_splits(layout, root), root)
        if split in loaded and set(FEATURES) <= set(loaded[split].column_names):
            return loaded[split].select_columns(list(FEATURES)).cast(FEATURES)
        listing = listing_of(data, split, loaded)
        listing.broken = broken
        return rows_of(listing, split)


def check_split(split: str, present: Sequence[str], root: Path | str) -> None:
    """Refuse a split that a folder does not have."""
    if split not in present:
        raise UserError(
            f"{root} has no split {split!r} (there are: {first_names(present, 8) or 'none'}); other names are "
            "given with --data.train-split and --data.val-split, and --data.val-share 0.1 sets a part of the training "
            "sentences aside"
        )


def listing_of(data: DataConfig, split: str = "", loaded: Splits | None = None) -> Listing:
    """What a data folder holds, before it is made into rows; a folder of `plvl data build` by its JSON lines.

    Args:
        split: The only one that is wanted; empty: all.

    Raises:
        UserError: No such folder, or its content is not understood.
    """
    layout, root = locate(data)
    reading = Reading.of(data)
    if layout == "dataset":
        return hub(data.root, data.images, reading, loaded)
    if layout in RELEASES:
        return _release(layout, root, data.images, reading)
    if layout == "built":
        return replace(json_lines(root, data.images, Reading()), name=read_manifest(root)["dataset"])
    files = dict(zip(folder_splits(layout, root), split_files(layout, root), strict=True))
    path = files.get(split, root)
    return (coco_file if layout == "coco" else json_lines)(path, data.images, reading)


def _release(layout: str, root: Path, images: str, reading: Reading) -> Listing:
    if layout == "refer":
        return refs_file(root, images, reading)
    if layout == "labels":
        return label_lists(root, images, reading)
    return (visual_genome if layout == "visual-genome" else flickr30k)(root, images, reading)


def splits_of(data: DataConfig) -> tuple[str, ...]:
    """The splits that a data folder has, or as `--data.val-share` makes them.

    Raises:
        UserError: No such folder, its content is not understood, or `--data.val-share` finds nothing to divide.
    """
    present = _present(data)
    if not data.val_share:
        return present
    check_share(data.root, data.train_split, data.val_split, has_val=data.val_split in present)
    check_split(data.train_split, present, data.root)
    return (data.train_split, data.val_split, *(name for name in present if name != data.train_split))


def _present(data: DataConfig) -> tuple[str, ...]:
    layout, root = locate(data)
    if layout in RELEASES:
        listing = listing_of(data)
        listing.broken = []  # told where a split is opened
        return tuple(dict.fromkeys(split for split, _ in listing.read()))
    if layout != "dataset":
        return folder_splits(layout, root)
    with quiet():
        return hub_splits(load_hub(data.root))


def rows_of(listing: Listing, split: str) -> datasets.Dataset:
    """The rows of one split of a listing, in memory.

    Raises:
        UserError: The listing cannot be read, or has no such split.
    """
    make, present, rows = RowMaker(), dict[str, None](), []
    for name, item in listing.read():
        present[name] = None
        with listing.isolated():
            made = make(item, listing) if name == split else None
            if made is not None:
                rows.append(made[0])
    if listing.broken and not rows:
        raise UserError(f"no sentence of the split {split!r} can be used; {listing.broken[0]}")
    if present:
        check_split(split, tuple(present), listing.name)
    if not rows:
        raise UserError(f"{listing.name} has no sentence in the split {split!r}")
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
    base = image_base(data, root)
    try:
        rows = load_rows(str(root / split), root / split)
    except Exception as error:  # the library raises many kinds, all about this folder
        raise UserError(
            f"{root / split} cannot be read ({first_line(error, 300)}): run `plvl data build` again"
        ) from error
    if set(rows.column_names) != set(FEATURES):
        raise UserError(
            f"{root / split} has other columns than this version writes: run `plvl data build` again"
        )
    return rows.select_columns(list(FEATURES)).with_transform(_ImagesBelow(base, data.allow_outside))


@dataclass(frozen=True)
class _ImagesBelow:
    """Turns the stored path of an image into its `image` entry; applied to what is read, so that nothing is copied."""

    base: Path
    allow_outside: bool = False

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if "image" in batch:
            batch = {**batch, "image": [file_entry(self._path(path)) for path in batch["image"]]}
        return batch

    def _path(self, stored: str) -> Path:
        return inside(self.base, stored, "the built data", allow_outside=self.allow_outside)
