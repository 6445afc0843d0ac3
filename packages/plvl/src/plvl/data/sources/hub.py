"""Data sets of the Hugging Face Hub, or saved to disk, whose rows are objects (the jxu124/refcoco kind) or
expressions.

Objects: `raw_anns` (the COCO annotation as JSON), `raw_image_info`, `sentences` (or `raw_sentences` as JSON),
`image_path`, `ref_id`, `image_id`, `split`. Expressions: `image` (a picture) with `expression` and `box_xyxy` or
`box` (corners) or `mask`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets

from papers_shared.errors import UserError
from plvl.data.pictures import Pictures, photo_of
from plvl.data.records import Record, Records, Source
from plvl.data.rows import RAW

SPLITS = {"validation": "val"}
"""The Hub's name of a split -> ours, where rows do not tell their own: jxu124's say that `test` is REFER's testA."""
OBJECTS = {"raw_anns", "raw_image_info", "image_path", "ref_id"}


def load_hub(name: str, split: str = "") -> Any:
    """A `save_to_disk` folder or a Hub data set: the `Dataset` of a split, or {split: Dataset}.

    Raises:
        UserError: neither is there, or it has no such split.
    """
    root = Path(name).expanduser()
    try:
        if (root / "dataset_dict.json").is_file() or (root / "state.json").is_file():
            loaded = datasets.load_from_disk(str(root))
        else:
            loaded = datasets.load_dataset(name, split=split or None)
    except Exception as error:  # the library raises many kinds, all about this name
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise UserError(f"the data set {name} cannot be loaded: {reason}") from error
    if isinstance(loaded, datasets.Dataset):
        return loaded if split else {"train": loaded}
    if split and split not in loaded:
        raise UserError(f"{name} has no split '{split}' (there are: {', '.join(loaded)})")
    return loaded[split] if split else loaded


def hub_splits(name: str) -> tuple[str, ...]:
    """The splits that `hub` yields.

    Raises:
        UserError: there is no such data set.
    """
    found: dict[str, None] = {}
    for split, rows in load_hub(name).items():
        own = (
            rows.unique("split")
            if OBJECTS | {"split"} <= set(rows.column_names)
            else [SPLITS.get(split, split)]
        )
        found |= dict.fromkeys(map(str, own))
    return tuple(found)


def hub(name: str, images: str | Path = "") -> Source:
    """All splits of a data set.

    Args:
        images: folder with COCO's pictures, for data sets that only name them.
    """
    return Source(name, lambda: _read(name, images))


def _read(name: str, images: str | Path) -> Records:
    for split, rows in load_hub(name).items():
        columns = set(rows.column_names)
        if columns >= OBJECTS:
            yield from _objects(name, split, rows, images)
        elif {"image", "expression"} <= columns and columns & {"box_xyxy", "box", "mask"}:
            yield from _expressions(name, split, rows)
        else:
            raise UserError(
                f"{name}: the columns {sorted(columns)} are not understood; wanted are those of jxu124/refcoco, or "
                "`image`, `expression` and `box_xyxy` or `mask`"
            )


def _objects(name: str, split: str, rows: datasets.Dataset, images: str | Path) -> Records:
    pictures = Pictures("coco", [images])
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
                    Record(
                        name=f"{Path(name).name}/{sentence['sent_id']}",
                        image=pictures.entry(Path(row["image_path"]).name),
                        expression=sentence["sent"],
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


def _expressions(name: str, split: str, rows: datasets.Dataset) -> Records:
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
            Record(
                name=str(row.get("name") or f"{split}/{index:06d}"),
                image={"path": row["image"]["path"], "bytes": row["image"]["bytes"]},
                expression=str(row["expression"]),
                source=str(row.get("source") or Path(name).name),
                box_xyxy=None if box is None else tuple(box),
                shape=mask,
                image_id=str(row.get("image_id") or ""),
                photo_id=str(row.get("photo_id") or ""),
            ),
        )
