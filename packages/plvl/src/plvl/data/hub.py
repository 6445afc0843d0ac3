"""Data sets of the Hugging Face Hub, or saved to disk, whose rows are objects (the jxu124/refcoco kind) or sentences.

Objects: `raw_anns` (the COCO annotation as JSON), `raw_image_info`, `sentences` (or `raw_sentences` as JSON),
`image_path`, `ref_id`, `image_id`, `split`. Sentences: `image` with `expression` and `box_xyxy` or `box` (corners) or
`mask`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import datasets

from papers_shared.errors import UserError
from plvl.data.image_paths import ImageFinder, photo_of
from plvl.data.items import Item, Items, Listing
from plvl.data.pixels import RAW

SPLITS = {"validation": "val"}
"""The Hub's name of a split -> ours, where rows do not name their own: jxu124's say that `test` is REFER's testA."""
OBJECTS = {"raw_anns", "raw_image_info", "image_path", "ref_id"}
Splits = Mapping[str, datasets.Dataset]


def load_hub(name: str) -> Splits:
    """A `save_to_disk` folder or a Hub data set: {split: Dataset}.

    Raises:
        UserError: There is neither.
    """
    root = Path(name).expanduser()
    try:
        if (root / "dataset_dict.json").is_file() or (root / "state.json").is_file():
            loaded = datasets.load_from_disk(str(root))
        else:
            loaded = datasets.load_dataset(name)
    except Exception as error:  # the library raises many kinds, all about this name
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise UserError(f"the data set {name} cannot be loaded: {reason}") from error
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


def hub(name: str, images: str | Path = "", loaded: Splits | None = None) -> Listing:
    """All splits of a data set.

    Args:
        images: Folder with COCO's images, for data sets that only name them.
        loaded: Its `load_hub`, where it is at hand.
    """
    return Listing(name, lambda: _read(name, load_hub(name) if loaded is None else loaded, images))


def _read(name: str, loaded: Splits, images: str | Path) -> Items:
    for split, rows in loaded.items():
        columns = set(rows.column_names)
        if columns >= OBJECTS:
            yield from _objects(name, split, rows, images)
        elif {"image", "expression"} <= columns and columns & {"box_xyxy", "box", "mask"}:
            yield from _sentences(name, split, rows)
        else:
            raise UserError(
                f"{name}: the columns {sorted(columns)} are not understood; wanted are those of jxu124/refcoco, or "
                "`image`, `expression` and `box_xyxy` or `mask`"
            )


def _objects(name: str, split: str, rows: datasets.Dataset, images: str | Path) -> Items:
    finder = ImageFinder("coco", [images])
    for row in rows:
        where = f"{name}, object {row['ref_id']}"
        try:
            annotation, info = json.loads(row["raw_anns"]), json.loads(row["raw_image_info"])
            sentences = row.get("sentences") or json.loads(row["raw_sentences"])
            left, top, width, height = annotation["bbox"]
            part = str(row.get("split") or SPLITS.get(split, split))
            for sentence in sentences:
                yield (
                    part,
                    Item(
                        name=f"{Path(name).name}/{sentence['sent_id']}",
                        image=finder.entry(Path(row["image_path"]).name),
                        sentence=sentence["sent"],
                        source=Path(name).name,
                        width=int(info["width"]),
                        height=int(info["height"]),
                        box_xyxy=(left, top, left + width, top + height),
                        shape=annotation.get("segmentation"),
                        image_id=str(info["id"]),
                        photo_id=photo_of(info.get("flickr_url")),
                        object_id=f"{Path(name).name}/{row['ref_id']}",
                    ),
                )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{where}: not as in jxu124/refcoco ({type(error).__name__} {error})") from error


def _sentences(name: str, split: str, rows: datasets.Dataset) -> Items:
    for column in ("image", "mask"):
        if isinstance(rows.features.get(column), datasets.Image):
            rows = rows.cast_column(column, RAW)
    for index, row in enumerate(rows):
        mask = row.get("mask")
        if isinstance(mask, dict) and "counts" not in mask:
            mask = mask["bytes"] or mask["path"]
        box = row.get("box_xyxy") or row.get("box")
        yield (
            SPLITS.get(split, split),
            Item(
                name=str(row.get("name") or f"{split}/{index:06d}"),
                image={"path": row["image"]["path"], "bytes": row["image"]["bytes"]},
                sentence=str(row["expression"]),
                source=str(row.get("source") or Path(name).name),
                box_xyxy=None if box is None else tuple(box),
                shape=mask,
                image_id=str(row.get("image_id") or ""),
                photo_id=str(row.get("photo_id") or ""),
            ),
        )
