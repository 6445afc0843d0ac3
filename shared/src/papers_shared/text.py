"""Text that people hand in: lists, classes, vocabularies, JSON."""

from __future__ import annotations

import codecs
import csv
import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from papers_shared.errors import UserError

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks, the longer one first where two begin alike."""
LARGEST_FILE = 2 << 30
"""Bytes of a text file that is read as a whole: the largest of the published annotation files have half of it."""
LONGEST_LINE = 64 << 20
"""Bytes of a line of a file that is read line by line."""


def read_text(path: str | Path) -> str:
    """The content of a text file in UTF-8, or in what its byte order mark says, with `\\n` at the end of each line.

    Raises:
        UserError: The file is missing, no regular file, or not text in that encoding; it names the line.
    """
    path = Path(path)
    check_regular(path)
    if path.stat().st_size > LARGEST_FILE:
        raise UserError(
            f"{path} has more than {LARGEST_FILE:,} bytes: no text file that is read here is so large"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _not_text(path, line, encoding) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: str | Path) -> Any:
    """The content of a JSON file, read as `read_text` does.

    Raises:
        UserError: As `read_text`, or the text is not JSON, or nested too deeply.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error})") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply to be read") from None


def read_json_lines(
    path: str | Path, wrong: Callable[[UserError], None] | None = None
) -> Iterator[tuple[int, Any]]:
    """(line number from 1, value) of each line of a JSON-lines file that is not blank, read one by one.

    Args:
        wrong: Takes what is wrong with a line, and reading goes on with the next one; None: it is raised.

    Raises:
        UserError: As `read_text`, or a line is not JSON, or nested too deeply.
    """
    for number, line in _lines(Path(path)):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            deep = isinstance(error, RecursionError)
            reason = ", is nested too deeply to be read" if deep else f", is not JSON ({error})"
            problem = UserError(f"{path}, line {number}{reason}")
            if wrong is None:
                raise problem from None
            wrong(problem)
        else:
            yield number, value


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, line) of a text file; one in UTF-8 is not held in memory."""
    check_regular(path)
    with open(path, "rb") as file:
        start = file.read(4)
        encoding = next((name for mark, name in MARKS.items() if start.startswith(mark)), "utf-8")
        if encoding in ("utf-8", "utf-8-sig"):
            file.seek(3 if encoding == "utf-8-sig" else 0)
            for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
                if len(raw) == LONGEST_LINE:
                    raise UserError(f"{path}, line {number}, has more than {LONGEST_LINE:,} bytes")
                try:
                    yield number, raw.decode("utf-8")
                except UnicodeDecodeError:
                    raise _not_text(path, number, "utf-8") from None
            return
    yield from enumerate(read_text(path).split("\n"), start=1)


def check_regular(path: Path) -> None:
    """Refuse what is no regular file: reading a pipe or a device has no end.

    Raises:
        UserError: There is no such file, or it is a folder, a pipe or a device.
    """
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error})") from None
    if not regular:
        raise UserError(f"{path} is no regular file but a folder, a pipe or a device: name a file")


def _not_text(path: Path, line: int, encoding: str) -> UserError:
    return UserError(f"{path}, line {line}, is not text in {encoding.upper()}: save the file as UTF-8")


def read_table(path: str | Path) -> list[tuple[int, dict[str, str]]]:
    """(line number from 1, values by column) of each row of a table whose first line names the columns.

    The columns are separated by the one of comma, semicolon, tab and bar that the first line has most of. Values that a
    short row lacks are empty.

    Raises:
        UserError: As `read_text`, no rows, a column named twice, or a row with more values than columns.
    """
    text = read_text(path)
    header = text.lstrip("\n").split("\n", 1)[0]
    rows = csv.reader(text.splitlines(keepends=True), delimiter=max(",;\t|", key=header.count))
    found: list[tuple[int, dict[str, str]]] = []
    columns: list[str] = []
    try:
        for row in rows:
            values = [value.strip() for value in row]
            if not any(values):
                continue
            if not columns:
                columns = values
                if len(set(columns)) < len(columns):
                    raise UserError(f"{path}, line {rows.line_num}: two columns have one name")
                continue
            if len(values) > len(columns):
                raise UserError(
                    f"{path}, line {rows.line_num}: {len(values)} values for {len(columns)} columns; "
                    "values that hold the separator stand in double quotes"
                )
            padded = values + [""] * (len(columns) - len(values))
            found.append((rows.line_num, dict(zip(columns, padded, strict=True))))
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num}, is no row of a table ({error})") from None
    if not found:
        raise UserError(f"{path} holds no row below a line of column names")
    return found
