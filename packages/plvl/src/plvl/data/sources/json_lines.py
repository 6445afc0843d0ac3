"""Your own data, and what `plvl data build` writes beside the Arrow files: one entry per sentence, SPLIT.jsonl or a
table SPLIT.csv or SPLIT.tsv.

Keys: `image` (path), `expression` (a sentence, or in JSON a list of them), and `box` ([x0, y0, x1, y1] in pixels from
the upper left corner of the image as viewers show it; in a table also the columns x0, y0, x1, y1) or `mask` or both.
`mask` is a polygon [x, y, x, y, ...], a list of them, COCO's run-length code {"size": [height, width], "counts": text
or list}, or the path of a mask image. Optional: `name`, `source`, `image_id`, `photo_id`, `object_id`, `width`,
`height`.
Other names of the same things are in `plvl.data.sources.fields`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from papers_shared.errors import UserError
from papers_shared.paths import inside
from papers_shared.text import read_json_lines, read_table
from plvl.data.items import Items, Listing, Reading
from plvl.data.layouts import TABLES, base_of, entry_files
from plvl.data.pixels import Row, file_entry
from plvl.data.sources.fields import items_of

NUMBERS = ("width", "height")


def json_lines(path: str | Path, images: str | Path = "", reading: Reading | None = None) -> Listing:
    """The sentences of a file (its name is the split), or of all files of a folder.

    Args:
        images: what relative image and mask paths start from; empty: the folder of the file, or what was recorded
            with a built one.

    Raises:
        UserError: No such file, or none in the folder.
    """
    path = Path(path).expanduser()
    files = entry_files(path) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise UserError(f"{path} is no .jsonl, .csv or .tsv file and no folder of them")
    listing = Listing(path.stem, lambda: _read(listing, images, reading or Reading()), files)
    return listing


def _read(listing: Listing, images: str | Path, reading: Reading) -> Items:
    for file in listing.files:
        base = Path(images).expanduser() if images else base_of(file)

        def find(name: str, where: str, base: Path = base) -> Row:
            return file_entry(inside(base, name, where, allow_outside=reading.allow_outside))

        for number, entry in _entries(file, listing):
            where = f"{file}, line {number}"
            name = f"{file.stem}/{number:06d}"
            with listing.isolated():
                if not isinstance(entry, dict):
                    raise UserError(f"{where}: expected an object with `image` and `expression`")
                for item in items_of(entry, where, name, listing, reading, find, source="own", masks=base):
                    yield file.stem, item


def _entries(file: Path, listing: Listing) -> Iterator[tuple[int, Any]]:
    if file.suffix.lower() not in TABLES:
        yield from read_json_lines(file, listing.note)
        return
    for number, row in read_table(file):
        with listing.isolated():
            yield number, _typed(row, f"{file}, line {number}")


def _typed(row: dict[str, str], where: str) -> dict[str, Any]:
    """A row of a table, its keys in lower case and its sizes as numbers."""
    entry: dict[str, Any] = {key.strip().lower(): value for key, value in row.items()}
    for key in NUMBERS:
        if entry.get(key):
            try:
                entry[key] = float(entry[key])
            except ValueError:
                raise UserError(f"{where}: `{key}` {entry[key]!r} is no number") from None
    return entry
