"""Every layout -> a memory-mapped `datasets.Dataset` of the same rows."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from pathlib import Path
from typing import Any

import datasets
from datasets import Features, Value
from datasets.arrow_writer import ArrowWriter

from fanet.config import DataConfig
from fanet.data.hub import RAW, open_dataset
from fanet.data.layouts import Listing, class_names, list_split, locate
from fanet.data.masks import mask_drawer
from papers_shared.errors import UserError
from papers_shared.files import atomic_file, cache_folder


def open_split(data: DataConfig, split: str) -> datasets.Dataset:
    """The rows of a split: `name`, `image`, and `mask` or (class folders) `label`.

    `image` and `mask` are {"path", "bytes"} entries, not decoded. The rows are written once to the cache
    folder, keyed by the names, sizes and times of the files, and memory-mapped from there by every process.

    Raises:
        UserError: no such folder or split, unknown layout or columns, or images without a mask.
    """
    if locate(data).layout == "dataset":
        return open_dataset(data, split)
    listing = list_split(data, split)
    broken = [finding for finding in listing.findings if finding.severity == "error"]
    if broken:
        more = f" (and {len(broken) - 1} more errors)" if len(broken) > 1 else ""
        raise UserError(
            f"{broken[0].source}: {broken[0].message}{more}; `fanet data check {data.root}` lists all"
        )
    key = listing.key
    if listing.polygons:
        key = hashlib.sha256("\n".join([key, *class_names(data)]).encode()).hexdigest()[:32]
    file = cache_folder("fanet", data.cache) / "splits" / f"{split}-{key}.arrow"
    if file.is_file():
        with contextlib.suppress(OSError, ValueError):  # a damaged file is written anew
            return datasets.Dataset.from_file(str(file))
    rows = rows_of(data, listing)
    try:
        with (
            atomic_file(file, durable=False) as temporary,
            ArrowWriter(path=str(temporary), features=rows.features) as writer,
        ):
            writer.write_table(rows.data.table)
            writer.finalize()
        return datasets.Dataset.from_file(str(file))
    except OSError as error:
        warnings.warn(
            f"the list of images cannot be kept in {file.parent} ({error}): kept in memory", stacklevel=2
        )
        return rows


def rows_of(data: DataConfig, listing: Listing) -> datasets.Dataset:
    """The rows of a listing, in memory; images without a mask, named in its findings, are left out."""
    if listing.source.layout == "class_folders":
        columns: dict[str, list[Any]] = {"label": [item.label for item in listing.items]}
        features = {"label": Value("int64")}
        items = list(listing.items)
    else:
        features = {"mask": RAW}
        if listing.polygons:
            draw = mask_drawer(listing.polygons, class_names(data))
            drawn = [draw(item.image.name) for item in listing.items]
            unlisted = [item.image for item, png in zip(listing.items, drawn, strict=True) if png is None]
            if unlisted:
                raise UserError(
                    f"{unlisted[0]} and {len(unlisted) - 1} more images are not in {listing.polygons}"
                )
            items = list(listing.items)
            columns = {"mask": [{"path": None, "bytes": png} for png in drawn]}
        else:
            items = [item for item in listing.items if item.mask is not None]
            columns = {"mask": [_file(item.mask) for item in items]}
    columns = {
        "name": [item.name for item in items],
        "image": [_file(item.image) for item in items],
        **columns,
    }
    return datasets.Dataset.from_dict(
        columns, features=Features({"name": Value("string"), "image": RAW, **features})
    )


def _file(path: Path | None) -> dict[str, Any]:
    return {"path": str(path), "bytes": None}
