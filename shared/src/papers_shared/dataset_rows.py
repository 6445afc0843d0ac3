"""The images of a data set of the Hub, or of a folder that `datasets` has saved."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from papers_shared.batches import Item
from papers_shared.entries import first_line, shown
from papers_shared.errors import UserError
from papers_shared.text import check_regular

HUB = "hub:"


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def load_rows(name: str, folder: Path, split: str | None = None) -> Any:
    """A `datasets.Dataset`, or a `DatasetDict` by split: that of `folder`, if one was saved there, or NAME of the Hub.

    Raises:
        UserError: The folder holds a pipe or a device, which may never end.
        Exception: Of many kinds, as `datasets` raises them; all are about this name.
    """
    import datasets

    if is_saved(folder):
        for path in folder.rglob("*"):
            if not path.is_dir():
                check_regular(path)
        loaded = datasets.load_from_disk(str(folder))
    else:
        loaded = datasets.load_dataset(name, split=split)
    for rows in loaded.values() if isinstance(loaded, Mapping) else (loaded,):
        rows.data.validate(full=True)  # offsets of damaged files lead out of the memory
    return loaded


def dataset_items(source: str) -> list[Item]:
    """An item for each row, with `split` and `row` (from 0); its image is the first image column.

    Args:
        source: A folder that was saved, or `hub:OWNER/NAME` or `hub:OWNER/NAME:SPLIT`.

    Raises:
        UserError: It cannot be loaded, or has no image column.
    """
    items = []
    for split, rows in _splits(source).items():
        column = _image_column(source, rows)
        stem = f"{Path(source.removeprefix(HUB).partition(':')[0]).name}-{split}"
        items += [
            Item(
                Path(source),
                {"split": split, "row": row},
                partial(row_image, source, split, column, row),
                f"{stem}-{row:06d}",
            )
            for row in range(len(rows))
        ]
    return items


def row_image(source: str, split: str, column: str, row: int) -> Any:
    """An image of a row, as `papers_shared.images.load_image` takes it.

    Raises:
        UserError: The row has no image.
    """
    entry = _splits(source)[split][row][column]
    if entry and entry["bytes"]:
        return io.BytesIO(entry["bytes"])
    if entry and entry["path"]:
        return entry["path"]
    raise UserError(f"{source}, split {split}, row {row}: `{column}` is empty")


@functools.lru_cache(maxsize=4)
def _splits(source: str) -> Mapping[str, Any]:
    """Split -> rows, whose images are not decoded."""
    try:
        import datasets
    except ImportError:
        raise UserError(f"{source} needs the package datasets: pip install datasets") from None
    name, _, split = source.removeprefix(HUB).partition(":")
    try:
        loaded = load_rows(name, Path(source), split or None)
    except Exception as error:  # the library raises many kinds, all about this name
        raise UserError(f"the data set {source} cannot be loaded: {first_line(error, 300)}") from error
    found = (
        {split or str(loaded.split or "all"): loaded}
        if isinstance(loaded, datasets.Dataset)
        else dict(loaded)
    )
    raw = datasets.Image(decode=False)
    return {split: rows.cast_column(_image_column(source, rows), raw) for split, rows in found.items()}


def _image_column(source: str, rows: Any) -> str:
    names = [name for name, held in rows.features.items() if type(held).__name__ == "Image"]
    if not names:
        raise UserError(f"{source} has no column of images among {shown(list(rows.features))}")
    return names[0]
