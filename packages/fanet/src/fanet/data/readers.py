"""Every layout -> a memory-mapped `datasets.Dataset` of the same rows."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
from datasets import Features, Value
from datasets.arrow_writer import ArrowWriter

from fanet.cache import atomic_file, cache_folder
from fanet.config import DataConfig
from fanet.data.layouts import Listing, class_names, list_split, locate
from fanet.data.polygons import mask_drawer
from papers_shared.errors import UserError

RAW = datasets.Image(decode=False)
IMAGE_COLUMNS = ("image", "img", "frame", "picture", "pixel_values")
MASK_COLUMNS = (
    "mask", "label", "labels", "annotation", "annotations", "segmentation", "segmentation_mask",
    "semantic_mask",
)  # fmt: skip
LABEL_COLUMNS = ("label", "labels", "class", "fine_label")
NAME_COLUMNS = ("name", "file_name", "filename", "image_id", "id")


def open_split(data: DataConfig, split: str) -> datasets.Dataset:
    """The rows of a split: `name`, `image`, and `mask` or (class folders) `label`.

    `image` and `mask` are {"path", "bytes"} entries, not decoded. The rows are written once to the cache
    folder, keyed by the names, sizes and times of the files, and memory-mapped from there by every process.

    Raises:
        UserError: no such folder or split, unknown layout or columns, or frames without a mask.
    """
    if locate(data).layout == "dataset":
        return _open_dataset(data, split)
    listing = list_split(data, split)
    broken = [finding for finding in listing.findings if finding.severity == "error"]
    if broken:
        more = f" (and {len(broken) - 1} more errors)" if len(broken) > 1 else ""
        raise UserError(
            f"{broken[0].place}: {broken[0].message}{more}; `fanet data check {data.root}` lists all."
        )
    key = listing.key
    if listing.polygons:
        key = hashlib.sha256("\n".join([key, *class_names(data)]).encode()).hexdigest()[:32]
    file = cache_folder(data.cache) / "splits" / f"{split}-{key}.arrow"
    if file.is_file():
        with contextlib.suppress(OSError, ValueError):  # a damaged file is written anew
            return datasets.Dataset.from_file(str(file))
    rows = rows_of(data, listing)
    try:
        with (
            atomic_file(file) as temporary,
            ArrowWriter(path=str(temporary), features=rows.features) as writer,
        ):
            writer.write_table(rows.data.table)
            writer.finalize()
        return datasets.Dataset.from_file(str(file))
    except OSError as error:
        warnings.warn(
            f"the list of frames cannot be kept in {file.parent} ({error}): kept in memory", stacklevel=2
        )
        return rows


def rows_of(data: DataConfig, listing: Listing) -> datasets.Dataset:
    """The rows of a listing, in memory; pictures without a mask, named in its findings, are left out."""
    if listing.place.layout == "class_folders":
        columns: dict[str, list[Any]] = {"label": [frame.label for frame in listing.frames]}
        features = {"label": Value("int64")}
        frames = list(listing.frames)
    else:
        features = {"mask": RAW}
        if listing.polygons:
            draw = mask_drawer(listing.polygons, class_names(data))
            drawn = [draw(frame.image.name) for frame in listing.frames]
            unlisted = [frame.image for frame, png in zip(listing.frames, drawn, strict=True) if png is None]
            if unlisted:
                raise UserError(
                    f"{unlisted[0]} and {len(unlisted) - 1} more pictures are not in {listing.polygons}."
                )
            frames = list(listing.frames)
            columns = {"mask": [{"path": None, "bytes": png} for png in drawn]}
        else:
            frames = [frame for frame in listing.frames if frame.mask is not None]
            columns = {"mask": [_file(frame.mask) for frame in frames]}
    columns = {
        "name": [frame.name for frame in frames],
        "image": [_file(frame.image) for frame in frames],
        **columns,
    }
    return datasets.Dataset.from_dict(
        columns, features=Features({"name": Value("string"), "image": RAW, **features})
    )


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
        f"the data set {data.root} does not name its classes: give --data.class-names in id order."
    )


def _open_dataset(data: DataConfig, split: str) -> datasets.Dataset:
    rows = _load(data, split)
    image = _column(rows, IMAGE_COLUMNS, datasets.Image)
    if image is None:
        raise UserError(
            f"{data.root}: no picture column among {rows.column_names}; expected {', '.join(IMAGE_COLUMNS)}."
        )
    mask = _column(rows, MASK_COLUMNS, datasets.Image)
    label = _column(rows, LABEL_COLUMNS, (datasets.ClassLabel, Value))
    if mask is None and label is None:
        raise UserError(
            f"{data.root}: no mask and no label column among {rows.column_names}; expected one of "
            f"{', '.join(MASK_COLUMNS)} with pictures, or a class in {', '.join(LABEL_COLUMNS)}."
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
            raise UserError(f"{data.root} has no split {split!r} (there are: {', '.join(loaded)}).")
        return loaded[split]
    return loaded


def _column(rows: datasets.Dataset, names: tuple[str, ...], kind: Any) -> str | None:
    return next((name for name in names if isinstance(rows.features.get(name), kind)), None)


def _file(path: Path | None) -> dict[str, Any]:
    return {"path": str(path), "bytes": None}


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
