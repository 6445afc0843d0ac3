"""Records as tables that other programs read."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from papers_shared.errors import UserError
from papers_shared.files import atomic_file
from papers_shared.results import PARTS, Column, Record

ASKED = (*PARTS, "expression")
"""What beside the file tells predictions from one another."""


def write_results(
    path: Path,
    records: Sequence[Record],
    columns: Mapping[str, Column],
) -> None:
    """The records of a folder of predictions as a table: what was asked, `columns`, and the error where there is one.

    Args:
        columns: Heading -> a cell of it.
    """
    names = ["file", *(name for name in ASKED if any(name in record for record in records))]
    write_csv(
        path,
        [
            {name: record.get(name) for name in names}
            | {name: None if "error" in record else cell(record) for name, cell in columns.items()}
            | {"error": record.get("error")}
            for record in records
        ],
    )


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table with a header, in UTF-8; a column for each key of any row, and empty cells where a row lacks it."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_file(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, records: Sequence[Record]) -> None:
    """The records as a Parquet file; nested values stay nested."""
    import pyarrow as pa
    from pyarrow import parquet

    columns = dict.fromkeys(name for record in records for name in record)
    table = pa.table({name: [record.get(name) for record in records] for name in columns})
    with atomic_file(path) as partial:
        parquet.write_table(table, partial)


def check_parquet(asked: bool = True) -> None:
    """Refuse, before the work, to write Parquet without its library.

    Raises:
        UserError: It is not installed.
    """
    if asked and importlib.util.find_spec("pyarrow") is None:
        raise UserError("--format parquet needs pyarrow: pip install pyarrow")
