"""Data sets of the Hugging Face Hub, or saved to disk, whose rows are objects (the jxu124/refcoco kind) or sentences.

Objects: `raw_anns` (the COCO annotation as JSON), `raw_image_info`, `sentences` (or `raw_sentences` as JSON),
`image_path`, `ref_id`, `image_id`, `split`. In other data sets a row is an image with one or several
sentences, and the names of the columns are those of `plvl.data.sources.fields`; `bbox` is x, y, width, height there
unless an option says otherwise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets

from papers_shared.dataset_rows import load_rows
from papers_shared.entries import first_line, shown, text_of
from papers_shared.errors import UserError
from papers_shared.paths import user_path
from plvl.data.image_paths import ImageFinder, photo_of
from plvl.data.items import Item, Items, Listing, Reading
from plvl.data.pixels import RAW, Row, file_entry
from plvl.data.sources.fields import items_of

SPLITS = {"validation": "val"}
"""The Hub's name of a split -> ours, where rows do not name their own: jxu124's say that `test` is REFER's testA."""
OBJECTS = {"raw_anns", "raw_image_info", "image_path", "ref_id"}
Splits = Mapping[str, datasets.Dataset]


def load_hub(name: str) -> Splits:
    """A `save_to_disk` folder or a Hub data set: {split: Dataset}.

    Raises:
        UserError: There is neither.
    """
    try:
        loaded = load_rows(name, user_path(name))
    except Exception as error:  # the library raises many kinds, all about this name
        raise UserError(f"the data set {name} cannot be loaded: {first_line(error, 300)}") from error
    return {"train": loaded} if isinstance(loaded, datasets.Dataset) else loaded


def hub_splits(loaded: Splits) -> tuple[str, ...]:
    """The splits that `hub` yields of a loaded data set."""
    found: dict[str, None] = {}
    for split, rows in loaded.items():
        own = (
            rows.unique("split")
            if OBJECTS | {"split"} <= set(rows.column_names)
            else [SPLITS.get(split, split)]
        )
        found |= dict.fromkeys(map(str, own))
    return tuple(found)


def hub(
    name: str, images: str | Path = "", reading: Reading | None = None, loaded: Splits | None = None
) -> Listing:
    """All splits of a data set.

    Args:
        images: Folder with COCO's images, for data sets that only name them.
        loaded: Its `load_hub`, where it is at hand.
    """
    listing = Listing(name, lambda: _read(listing, images, reading or Reading(), loaded))
    return listing


def _read(listing: Listing, images: str | Path, reading: Reading, loaded: Splits | None) -> Items:
    name = listing.name
    finder = ImageFinder("coco", [images], allow_outside=reading.allow_outside)
    known = [str(Path(folder).resolve()) for folder in (name, datasets.config.HF_CACHE_HOME)]

    def find(path: str, where: str) -> Row:
        """An image below the set or the Hub's cache, where sets of image folders are unpacked, or as it is named."""
        whole = os.path.realpath(path) if os.path.isabs(path) and "\0" not in path else ""
        below = any(whole.startswith(folder + os.sep) for folder in known)
        return file_entry(path) if below else finder.entry(path, where)

    for split, rows in (load_hub(name) if loaded is None else loaded).items():
        if set(rows.column_names) >= OBJECTS:
            yield from _objects(listing, SPLITS.get(split, split), rows, finder)
            continue
        part = SPLITS.get(split, split)
        for column, feature in rows.features.items():
            if isinstance(feature, datasets.Image):
                rows = rows.cast_column(column, RAW)
        for index, row in enumerate(rows):
            where = f"{name}, split {split}, row {index}"
            with listing.isolated():
                listed = items_of(
                    row,
                    where,
                    f"{part}/{index:06d}",
                    listing,
                    reading,
                    find,
                    source=Path(name).name,
                    bbox="xywh",
                )
                for item in listed:
                    yield part, item


def _objects(listing: Listing, split: str, rows: datasets.Dataset, finder: ImageFinder) -> Items:
    for row in rows:
        where = f"{listing.name}, object {shown(row['ref_id'])}"
        with listing.isolated():
            part = text_of(row, "split", where, default=split)
            for item in _about_object(Path(listing.name).name, row, finder, where):
                yield part, item


def _about_object(own: str, row: Mapping[str, Any], finder: ImageFinder, where: str) -> Iterator[Item]:
    annotation, info = (_object(row[key], where) for key in ("raw_anns", "raw_image_info"))
    sentences = row.get("sentences") or _json(row.get("raw_sentences"), where)
    if not isinstance(sentences, list) or not all(isinstance(one, dict) for one in sentences):
        raise UserError(f"{where}: not as in jxu124/refcoco: the sentences are {shown(sentences)}")
    file_name = Path(text_of(row, "image_path", where)).name
    for sentence in sentences:
        yield Item(
            name=f"{own}/{text_of(sentence, 'sent_id', where)}",
            image=finder.entry(file_name, where),
            sentence=text_of(sentence, "sent", where),
            source=own,
            where=where,
            width=info.get("width"),
            height=info.get("height"),
            box=annotation.get("bbox"),
            box_format="xywh",
            shape=annotation.get("segmentation"),
            image_id=text_of(info, "id", where),
            photo_id=photo_of(info.get("flickr_url")),
            object_id=f"{own}/{row['ref_id']}",
        )


def _object(text: Any, where: str) -> dict[str, Any]:
    found = _json(text, where)
    if not isinstance(found, dict):
        raise UserError(f"{where}: not as in jxu124/refcoco: {shown(found)} is no object")
    return found


def _json(text: Any, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{where}: not as in jxu124/refcoco: {shown(text)} is no JSON") from error
