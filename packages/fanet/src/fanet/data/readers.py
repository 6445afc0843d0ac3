"""Every layout -> a memory-mapped `datasets.Dataset` of the same rows."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Features, Value
from datasets.arrow_writer import ArrowWriter

from fanet.config import DataConfig
from fanet.data.hub import RAW, HubSource
from fanet.data.layouts import (
    Split,
    check_classes,
    class_names,
    codes_of_options,
    list_split,
    locate,
    own_split,
    part_of,
)
from fanet.data.masks import mismatch
from fanet.data.objects import as_png, draw
from fanet.data.pixels import image_size
from fanet.data.sources.base import Item
from fanet.data.sources.class_folders import ClassFolders
from papers_shared.doctor import Finding
from papers_shared.entries import is_text
from papers_shared.errors import UserError
from papers_shared.files import atomic_file, cache_folder
from papers_shared.paths import safe_name
from papers_shared.progress import Progress

DAMAGED = (OSError, ValueError, KeyError, TypeError)
"""What reading a file of rows that was cut short or overwritten raises."""
QUIET = 200
"""So many masks are drawn without showing progress."""


def open_split(data: DataConfig, split: str) -> datasets.Dataset:
    """The rows of a split: `name`, `image`, and `mask` or (class folders) `label`.

    `image` and `mask` are {"path", "bytes"} entries, not decoded; `codes` says what the values of a mask mean where
    they are no class ids. The rows are written once to the cache folder, keyed by the names, sizes and times of the
    files, and memory-mapped from there by every process.

    Raises:
        UserError: No such folder or split, unknown layout or columns, or images without a mask.
    """
    rows, broken = open_usable(data, split)
    if broken:
        more = f" (and {len(broken) - 1} more errors)" if len(broken) > 1 else ""
        raise UserError(
            f"{broken[0].source}: {broken[0].message}{more}; `fanet data check {data.root}` lists all"
        )
    return rows


def open_usable(
    data: DataConfig, split: str, listing: Split | None = None
) -> tuple[datasets.Dataset, list[Finding]]:
    """The rows of a split that can be used, and an error for everything that cannot.

    Args:
        listing: Of `list_split`, where it is at hand.

    Raises:
        UserError: No such folder or split, or a file that describes it cannot be read.
    """
    source = locate(data)
    if isinstance(source, HubSource):
        return _hub_rows(source, data, split), []
    listing = listing or list_split(data, split)
    broken = [finding for finding in listing.findings if finding.severity == "error"]
    file = cache_folder("fanet", data.cache) / "splits" / f"{safe_name(split)}-{listing.key}.arrow"
    if not broken and file.is_file():
        with contextlib.suppress(*DAMAGED):  # a damaged file is written anew
            return datasets.Dataset.from_file(str(file)), []
    rows, undrawn = _rows_of(data, listing)
    broken += undrawn
    if broken:
        return rows, broken
    try:
        with (
            atomic_file(file, durable=False) as temporary,
            ArrowWriter(path=str(temporary), features=rows.features) as writer,
        ):
            writer.write_table(rows.data.table)
            writer.finalize()
        return datasets.Dataset.from_file(str(file)), []
    except OSError as error:
        warnings.warn(
            f"the list of images cannot be kept in {file.parent} ({error}): kept in memory", stacklevel=3
        )
        return rows, []


def _hub_rows(source: HubSource, data: DataConfig, split: str) -> datasets.Dataset:
    rows = source.rows(own_split(source, data, split))
    if data.val_share:
        rows = rows.select(part_of(source, data, split, rows["name"]))
    if "mask" in rows.column_names:
        check_classes(class_names(data))
    if data.mask_values and "mask" in rows.column_names:
        codes = codes_of_options(data, len(class_names(data)))
        rows = rows.add_column("codes", [codes.to_text()] * len(rows))
    return rows


def _rows_of(data: DataConfig, listing: Split) -> tuple[datasets.Dataset, list[Finding]]:
    """The rows of a listing, in memory, and an error for each mask that cannot be drawn."""
    findings: list[Finding] = []
    columns: dict[str, list[Any]] = {}
    features: dict[str, Any] = {}
    items = list(listing.items)
    if isinstance(listing.source, ClassFolders):
        columns["label"], features["label"] = [item.label for item in items], Value("int64")
    elif listing.drawn:
        drawn = _drawn(data, items, listing.name)
        findings = [mask for mask in drawn if isinstance(mask, Finding)]
        pairs = [(i, m) for i, m in zip(items, drawn, strict=True) if not isinstance(m, Finding)]
        items = [item for item, _ in pairs]
        columns["mask"], features["mask"] = [{"path": None, "bytes": png} for _, png in pairs], RAW
    else:
        items = [item for item in items if item.mask is not None]
        columns["mask"], features["mask"] = [_file(item.mask) for item in items], RAW
    if listing.codes:
        columns["codes"], features["codes"] = [listing.codes.to_text()] * len(items), Value("string")
    columns |= {"name": [_text(item.name) for item in items], "image": [_file(item.image) for item in items]}
    features |= {"name": Value("string"), "image": RAW}
    order = ["name", "image", *(key for key in columns if key not in ("name", "image"))]
    unreadable = {i for i, item in enumerate(items) if not is_text(str(item.image) + str(item.mask or ""))}
    findings += [
        Finding("error", _text(str(items[i].image)), "a name that is not UTF-8", "rename the file")
        for i in unreadable
    ]
    kept = [i for i in range(len(items)) if i not in unreadable]
    return datasets.Dataset.from_dict(
        {key: [columns[key][i] for i in kept] for key in order},
        features=Features({key: features[key] for key in order}),
    ), findings


def _drawn(data: DataConfig, items: list[Item], split: str) -> list[bytes | Finding]:
    """The mask of each item as PNG, or why it cannot be drawn."""
    drawn: list[bytes | Finding] = []
    with Progress(len(items), unit=f"{split} mask drawn", enabled=len(items) > QUIET) as bar:
        for number, item in enumerate(items, start=1):
            try:
                drawn.append(as_png(draw_item(item, data)[0]))
            except UserError as error:
                message = str(error).removeprefix(str(item.image)).lstrip(" :")
                drawn.append(Finding("error", str(item.image), message, "correct its annotations"))
            bar.update(number)
    return drawn


def draw_item(item: Item, data: DataConfig) -> tuple[np.ndarray, int]:
    """The mask (H, W) uint8 of an item's objects, and how many of them are not seen in it.

    Raises:
        UserError: The image cannot be read, or has another size than its annotations say.
    """
    size = image_size({"name": item.name, "image": _file(item.image)})
    if item.size and (problem := mismatch(item.size, size)):
        raise UserError(f"{item.image}: its mask by the annotations {problem}")
    return draw(item.objects or (), size, overlap=data.overlap, ignore_index=data.ignore_index)


def _file(path: Path | None) -> dict[str, Any]:
    return {"path": str(path), "bytes": None}


def _text(name: str) -> str:
    """A name that can be written, whatever bytes the file's name has."""
    return name.encode(errors="surrogateescape").decode(errors="replace")
