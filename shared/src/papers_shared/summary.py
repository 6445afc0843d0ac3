"""One HTML file about a folder of predictions: a contact sheet and a table, to be searched, filtered and sorted."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from papers_shared import pages
from papers_shared.drawing import shrink
from papers_shared.files import atomic_file
from papers_shared.results import PARTS, Column, Record

SCRIPT = Path(__file__).with_name("summary.js")
ROWS = "<!-- rows -->"
TOOLS = """<section class="tools">
<input id="search" type="search" placeholder="Search" aria-label="Search">
<select id="label" aria-label="Filter"><option value="">all</option></select>
<button id="view" type="button"></button><span id="count"></span>
<button id="before" type="button">Back</button><button id="after" type="button">Next</button></section>
<noscript><p>This page needs JavaScript; predictions.csv holds the same table.</p></noscript>
<section id="sheet" class="sheet"></section>
<section id="table"><table><thead><tr id="head"></tr></thead><tbody id="body"></tbody></table></section>
"""
MOST = 5000
"""Predictions on a page; a browser takes seconds to open one with more."""
SIDE = 192
"""Longest side of the small images in pixels."""


def save_small(drawn: Image.Image, path: Path) -> None:
    """A drawing as small as the page shows it."""
    shrink(drawn, SIDE, Image.Resampling.BOX).convert("RGB").save(path, "JPEG", quality=70)


def write_summary(
    path: Path,
    records: Sequence[Record],
    *,
    columns: Mapping[str, Column],
    label: Callable[[Record], str],
    lead: str,
    key: str = "",
    small: str = "small",
    large: str = "overlay",
) -> None:
    """Write the page of the records of a folder; it needs nothing else, and its links lead to the results beside it.

    Args:
        columns: Heading -> a cell of the table: text, a number or None; after the image's name.
        label: What the filter tells apart, such as the verdict.
        lead: Plain text under the headline.
        key: HTML under it, such as the colours of the classes.
        small: The key of a record's small image, which is put into the page; so is `large`, to which it links.
    """
    shown = records[:MOST]
    failed = sum("error" in record for record in records)
    headline = f"{len(records):,} predictions" + (f", {failed:,} failed" if failed else "")
    note = "" if len(shown) == len(records) else f"The first {MOST:,} are shown; predictions.csv holds all. "
    protocol = str(records[0].get("protocol", "")) if records else ""
    before, after = pages.page(headline, lead, [key, TOOLS, ROWS], f"{note}{protocol}").split(ROWS)
    with atomic_file(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write(f'{before}<script id="records" type="application/json">')
        file.write(f'{{"columns": {_json(["image", *columns])}, "rows": [')
        for number, record in enumerate(shown):
            row = _row(path.parent, record, columns, label, small, large)
            file.write(f"{',' if number else ''}{_json(row)}")
        file.write(f"]}}</script><script>{SCRIPT.read_text(encoding='utf-8')}</script>{after}")


def _json(value: Any) -> str:
    """JSON that can stand in a page."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _row(
    folder: Path,
    record: Record,
    columns: Mapping[str, Column],
    label: Callable[[Record], str],
    small: str,
    large: str,
) -> dict[str, Any]:
    part = [str(record[name]) for name in PARTS if record.get(name) is not None]
    name = " ".join([Path(record["file"]).name, *part])
    error = record.get("error", "")
    cells = [name, *(None if error else column(record) for column in columns.values())]
    shown = "failed" if error else label(record)
    words = [record["file"], shown, error, *(cell for cell in cells if isinstance(cell, str))]
    return {
        "cells": cells,
        "label": shown,
        "error": error,
        "search": " ".join(words).lower(),
        "thumb": "" if error else _address(folder / record.get(small, "")),
        "link": "" if error else quote(record[large]),
    }


def _address(file: Path) -> str:
    """A small JPEG as the address of itself; empty where somebody has deleted it."""
    try:
        return "data:image/jpeg;base64," + base64.b64encode(file.read_bytes()).decode()
    except OSError:
        return ""
