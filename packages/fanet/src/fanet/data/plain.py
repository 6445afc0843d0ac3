"""A data set of any layout -> one plain layout: images/SPLIT, masks/SPLIT, classes.txt."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fanet.config import DataConfig
from fanet.data.layouts import class_names, locate, splits_of
from fanet.data.masks import load_mask
from fanet.data.pixels import Row, open_entry
from fanet.data.readers import open_usable
from fanet.data.sources.splits import usual
from papers_shared.doctor import Report
from papers_shared.errors import UserError
from papers_shared.files import check_replaceable, write_text, writing_folder
from papers_shared.paths import free_name, safe_name
from papers_shared.progress import Progress
from papers_shared.written import own_files, write_manifest

IGNORED = 255
"""What the masks hold for pixels that are neither learned from nor scored."""


def write_plain(data: DataConfig, output: str | Path) -> Report:
    """Write all splits of a data set; images as they are, masks as PNG of class ids.

    What cannot be read is left out and an error in the report; the rest is written.

    Raises:
        UserError: The data set is not recognised, has no masks, or the folder `output` holds files of others.
    """
    output, report = Path(output).expanduser(), Report()
    ours = own_files(output)
    check_replaceable(output, ours)
    names, splits = class_names(data), splits_of(data)
    plain = [usual(split) or split for split in splits]
    folders = plain if len(set(plain)) == len(plain) else list(splits)
    with writing_folder(output, ours) as folder:
        written = ["classes.txt"]
        write_text(folder / "classes.txt", "\n".join(names) + "\n")
        for split, name in zip(splits, folders, strict=True):
            written += _write_split(data, split, folder, safe_name(name), names, report)
        write_manifest(folder, written)
    report.add("note", output, f"{len(names)} classes, read from the layout {locate(data).layout}")
    return report


def _write_split(
    data: DataConfig, split: str, folder: Path, name: str, names: Sequence[str], report: Report
) -> list[str]:
    """The names of the files written for one split."""
    rows, broken = open_usable(data, split)
    if "mask" not in rows.column_names:
        raise UserError(f"{data.root} holds labels of whole images and no masks: there is nothing to convert")
    report.extend(broken)
    taken: set[str] = set()
    written: list[str] = []
    with Progress(len(rows), unit=f"{split} image") as bar:
        for number, row in enumerate(rows, start=1):
            try:
                plain = "/".join(safe_name(part) for part in row["name"].split("/") if part)
                written += _write_row(row, folder, name, free_name(plain, taken), len(names), data)
            except UserError as error:
                report.add("error", f"{split}/{row['name']}", f"left out: {error}")
            bar.update(number)
    report.add("note", f"split {name}", f"{len(written) // 2:,} images with masks written")
    return written


def _write_row(row: Row, folder: Path, split: str, name: str, classes: int, data: DataConfig) -> list[str]:
    labels = load_mask(row, classes, data.ignore_index)
    if 0 <= data.ignore_index < 256:
        labels = np.where(labels == data.ignore_index, IGNORED, labels).astype(np.uint8)
    entry = row["image"]
    with open_entry(entry, row["name"]) as image:
        suffix = Path(entry["path"]).suffix if entry["path"] else f".{(image.format or 'png').lower()}"
    files = [f"images/{split}/{name}{suffix}", f"masks/{split}/{name}.png"]
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
    if entry["bytes"]:
        (folder / files[0]).write_bytes(entry["bytes"])
    else:
        shutil.copyfile(entry["path"], folder / files[0])
    Image.fromarray(labels).save(folder / files[1])
    return files
