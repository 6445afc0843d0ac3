"""Data sets of the Hub, and those written by `save_to_disk`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
from datasets import Value

from fanet.config import DataConfig
from papers_shared.errors import UserError

RAW = datasets.Image(decode=False)
IMAGE_COLUMNS = ("image", "img", "frame", "picture", "pixel_values")
MASK_COLUMNS = (
    "mask", "label", "labels", "annotation", "annotations", "segmentation", "segmentation_mask",
    "semantic_mask",
)  # fmt: skip
LABEL_COLUMNS = ("label", "labels", "class", "fine_label")
NAME_COLUMNS = ("name", "file_name", "filename", "image_id", "id")


def dataset_splits(root: Path, name: str) -> tuple[str, ...]:
    """Splits of a `save_to_disk` folder, or of the Hub data set `name`.

    Raises:
        UserError: neither is there.
    """
    if (root / "dataset_dict.json").is_file():
        return tuple(sorted(path.name for path in root.iterdir() if path.is_dir()))
    if (root / "state.json").is_file():
        return ("train",)
    try:
        return tuple(datasets.get_dataset_split_names(name))
    except Exception as error:  # the library raises many kinds, all about this name
        raise UserError(f"the data set {name} cannot be found: {error}") from error


def dataset_class_names(data: DataConfig) -> tuple[str, ...]:
    """Names by the ClassLabel feature of a classification data set.

    Raises:
        UserError: the data set has masks, whose ids it does not name, or plain integers.
    """
    rows = _load(data, data.train_split)
    for column in LABEL_COLUMNS:
        names = getattr(rows.features.get(column), "names", None)
        if names:
            return tuple(names)
    raise UserError(
        f"the data set {data.root} does not name its classes: give --data.class-names in id order"
    )


def open_dataset(data: DataConfig, split: str) -> datasets.Dataset:
    """The rows of a split as `fanet.data.readers.open_split` describes them.

    Raises:
        UserError: There is no such data set or split, or it lacks an image column, or masks and labels.
    """
    rows = _load(data, split)
    image = _column(rows, IMAGE_COLUMNS, datasets.Image)
    if image is None:
        raise UserError(
            f"{data.root}: no image column among {rows.column_names}; expected {', '.join(IMAGE_COLUMNS)}"
        )
    mask = _column(rows, MASK_COLUMNS, datasets.Image)
    label = _column(rows, LABEL_COLUMNS, (datasets.ClassLabel, Value))
    if mask is None and label is None:
        raise UserError(
            f"{data.root}: no mask and no label column among {rows.column_names}; expected one of "
            f"{', '.join(MASK_COLUMNS)} with images, or a class in {', '.join(LABEL_COLUMNS)}"
        )
    name = _column(rows, NAME_COLUMNS, Value)
    target = ("mask", mask) if mask else ("label", label)
    kept = {"image": image, target[0]: target[1]}
    if name:
        kept["name"] = name
    rows = rows.select_columns(list(kept.values()))
    rows = rows.rename_columns({old: new for new, old in kept.items() if new is not None and old != new})
    for column in ("image", "mask"):
        if column in rows.column_names:
            rows = rows.cast_column(column, RAW)
    if not name:
        rows = rows.add_column("name", [f"{split}_{index:06d}" for index in range(len(rows))])
    elif rows.features["name"].dtype != "string":
        rows = rows.cast_column("name", Value("string"))
    return rows


def _load(data: DataConfig, split: str) -> datasets.Dataset:
    """A split of a `save_to_disk` folder or of the Hub.

    Raises:
        UserError: neither is there.
    """
    root = Path(data.root).expanduser()
    with _quiet():
        try:
            if (root / "dataset_dict.json").is_file() or (root / "state.json").is_file():
                loaded = datasets.load_from_disk(str(root))
            else:
                return datasets.load_dataset(data.root, split=split)
        except Exception as error:  # the library raises many kinds, all about this name
            raise UserError(f"the data set {data.root} cannot be loaded: {error}") from error
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise UserError(f"{data.root} has no split {split!r} (there are: {', '.join(loaded)})")
        return loaded[split]
    return loaded


def _column(rows: datasets.Dataset, names: tuple[str, ...], kind: Any) -> str | None:
    return next((name for name in names if isinstance(rows.features.get(name), kind)), None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of `datasets`, whatever the caller had set."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
