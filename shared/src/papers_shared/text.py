"""Text that people hand in: lists, classes, vocabularies, JSON."""

from __future__ import annotations

import codecs
import json
import stat
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


def read_text(path: str | Path) -> str:
    """The content of a text file in UTF-8, or in what its byte order mark says, with `\\n` at the end of each line.

    Raises:
        UserError: The file is missing, no regular file, or not text in that encoding; it names the line.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path} is no regular file: name a text file")
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}, is not text in {encoding.upper()}: save the file as UTF-8"
        ) from None
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
