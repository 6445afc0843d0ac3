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
from papers_shared.files import write_text
from papers_shared.results import Column, Record

SCRIPT = Path(__file__).with_name("summary.js")
MOST = 5000
"""Predictions on a page; a browser takes seconds to open one with more."""
SIDE = 192
"""Longest side of the small images in pixels."""


def save_small(drawn: Image.Image, path: Path) -> None:
    """A drawing as small as the page shows it."""
    shrink(drawn, SIDE, Image.Resampling.BOX).convert("RGB").save(path, "JPEG", quality=75)


def write_summary(
    path: Path,
    records: Sequence[Record],
    *,
    columns: Mapping[str, Column],
    label: Callable[[Record], str],
    lead: str,
    small: str = "small",
    large: str = "overlay",
) -> None:
    """Write the page of the records of a folder; it needs nothing else, and its links lead to the results beside it.

    Args:
        columns: Heading -> a cell of the table: text, a number or None; after the image's name.
        label: What the filter tells apart, such as the verdict.
        lead: Plain text under the headline.
        small: The key of a record's small image, which is put into the page; so is `large`, to which it links.
    """
    shown = records[:MOST]
    rows = [_row(path.parent, record, columns, label, small, large) for record in shown]
    data = {"columns": ["image", *columns], "rows": rows}
    failed = sum("error" in record for record in records)
    headline = f"{len(records):,} predictions" + (f", {failed:,} failed" if failed else "")
    note = (
        "" if len(shown) == len(records) else f"The first {MOST:,} are shown; {path.parent.name} holds all. "
    )
    text = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    body = [
        '<section class="tools"><input id="search" type="search" placeholder="Search" aria-label="Search">',
        '<select id="label" aria-label="Filter"><option value="">all</option></select>',
        '<button id="view" type="button"></button><span id="count"></span>',
        '<button id="before" type="button">Back</button><button id="after" type="button">Next</button></section>',
        "<noscript><p>This page needs JavaScript; predictions.csv holds the same table.</p></noscript>",
        '<section id="sheet" class="sheet"></section>',
        '<section id="table"><table><thead><tr id="head"></tr></thead><tbody id="body"></tbody></table></section>',
        f'<script id="records" type="application/json">{text}</script>',
        f"<script>{SCRIPT.read_text(encoding='utf-8')}</script>",
    ]
    protocol = str(records[0].get("protocol", "")) if records else ""
    write_text(path, pages.page(headline, lead, body, f"{note}{protocol}"))


def _row(
    folder: Path,
    record: Record,
    columns: Mapping[str, Column],
    label: Callable[[Record], str],
    small: str,
    large: str,
) -> dict[str, Any]:
    part = [str(record[name]) for name in ("frame", "split", "row") if record.get(name) is not None]
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
