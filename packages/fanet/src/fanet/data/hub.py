"""Data sets of the Hub, and those written by `save_to_disk`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import datasets
from datasets import Value

from fanet.config import DataConfig
from fanet.data.sources.base import Source
from fanet.data.sources.catalogues import find_catalogue
from fanet.data.sources.splits import matching
from papers_shared.dataset_rows import is_saved, load_rows
from papers_shared.entries import first_line, shown
from papers_shared.errors import UserError
from papers_shared.text import read_json

RAW = datasets.Image(decode=False)
IMAGE_COLUMNS = ("image", "img", "frame", "picture", "pixel_values")
MASK_COLUMNS = (
    "mask", "label", "labels", "annotation", "annotations", "segmentation", "segmentation_mask",
    "semantic_mask",
)  # fmt: skip
LABEL_COLUMNS = ("label", "labels", "class", "fine_label")
NAME_COLUMNS = ("name", "file_name", "filename", "image_id", "id")


@dataclass(frozen=True)
class HubSource(Source):
    """A `save_to_disk` folder, or a data set of the Hub by the name that `--data.root` gives."""

    LAYOUT: ClassVar[str] = "dataset"

    @classmethod
    def find(cls, base: Path, data: DataConfig) -> HubSource | None:
        """The source in the folder `base`; None where nothing was saved there."""
        return cls(base, data) if is_saved(base) else None

    @property
    def splits(self) -> tuple[str, ...]:
        if (self.base / "dataset_dict.json").is_file():
            return tuple(_saved_splits(self.base))
        if (self.base / "state.json").is_file():
            described = read_json(self.base / "state.json")
            split = described.get("_split") if isinstance(described, dict) else None
            return (split if isinstance(split, str) else "train",)
        try:
            return tuple(datasets.get_dataset_split_names(self.data.root))
        except Exception as error:  # the library raises many kinds, all about this name
            raise UserError(
                f"the data set {self.data.root} cannot be found: {first_line(error, 300)}"
            ) from error

    def class_names(self) -> tuple[str, ...]:
        """Names by a list in the folder, or by the ClassLabel feature of a classification data set.

        Raises:
            UserError: The data set has masks, whose ids it does not name, or plain integers.
        """
        if is_saved(self.base) and (catalogue := find_catalogue([self.base])):
            return catalogue.names
        train = matching(self.data.train_split, self.splits) or list(self.splits)
        rows = self._load(train[0])
        for column in LABEL_COLUMNS:
            names = getattr(rows.features.get(column), "names", None)
            if names:
                return tuple(names)
        raise UserError(
            f"the data set {self.data.root} does not name its classes: give --data.class-names in id order"
        )

    def rows(self, split: str) -> datasets.Dataset:
        """The rows of one of `splits` as `fanet.data.readers.open_split` describes them.

        Raises:
            UserError: It cannot be loaded, or lacks an image column, or masks and labels.
        """
        rows = self._load(split)
        root = self.data.root
        image = _column(rows, IMAGE_COLUMNS, datasets.Image)
        if image is None:
            raise UserError(
                f"{root}: no image column among {shown(rows.column_names)}; expected {', '.join(IMAGE_COLUMNS)}"
            )
        mask = _column(rows, MASK_COLUMNS, datasets.Image)
        label = _column(rows, LABEL_COLUMNS, datasets.ClassLabel) or _column(
            rows, LABEL_COLUMNS, Value, "int"
        )
        if mask is None and label is None:
            raise UserError(
                f"{root}: no mask and no label column among {shown(rows.column_names)}; expected one of "
                f"{', '.join(MASK_COLUMNS)} with images, or a class in {', '.join(LABEL_COLUMNS)}"
            )
        name = _column(rows, NAME_COLUMNS, Value)
        if name and len(set(rows[name]) - {None}) < len(
            rows
        ):  # of rows that share a name nobody could tell which
            name = None
        kept = {"image": image, **({"mask": mask} if mask else {"label": label})}
        if name:
            kept["name"] = name
        rows = rows.select_columns(list(kept.values()))
        rows = rows.rename_columns({old: new for new, old in kept.items() if old is not None and old != new})
        for column in ("image", "mask"):
            if column in rows.column_names:
                rows = rows.cast_column(column, RAW)
        if not name:
            rows = rows.add_column("name", [f"{split}_{index:06d}" for index in range(len(rows))])
        elif rows.features["name"].dtype != "string":
            rows = rows.cast_column("name", Value("string"))
        return rows

    def _load(self, split: str) -> datasets.Dataset:
        """A split as it is stored.

        Raises:
            UserError: It cannot be loaded.
        """
        with _quiet():
            try:
                loaded = load_rows(self.data.root, self.base, split)
                rows = loaded[split] if isinstance(loaded, datasets.DatasetDict) else loaded
            except Exception as error:  # the library raises many kinds, all about this name
                raise UserError(
                    f"the data set {self.data.root} cannot be loaded: {first_line(error, 300)}"
                ) from error
        return rows


def _saved_splits(folder: Path) -> list[str]:
    described = read_json(folder / "dataset_dict.json")
    splits = described.get("splits") if isinstance(described, dict) else None
    if not isinstance(splits, list) or not all(isinstance(split, str) for split in splits):
        raise UserError(f"{folder / 'dataset_dict.json'} names no splits: save the data set again")
    return splits


def _column(rows: datasets.Dataset, names: tuple[str, ...], kind: Any, dtype: str = "") -> str | None:
    """The first column of these names that holds values of a kind, and numbers whose type contains `dtype`."""
    found = ((name, rows.features.get(name)) for name in names)
    return next((name for name, held in found if isinstance(held, kind) and dtype in str(held.dtype)), None)


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
