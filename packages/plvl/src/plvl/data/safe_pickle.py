"""Pickles from elsewhere that hold plain Python data, read without running anything in them."""

from __future__ import annotations

import collections
import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

from papers_shared.errors import UserError

MEMO = ("PUT", "BINPUT", "LONG_BINPUT")
ASCII = bytes(byte if byte < 128 and chr(byte) != "\\" else ord("?") for byte in range(256))
MARGIN = 1000
"""Places of the memo that a writer may have passed over."""
MOST_TUPLES = 10_000


def load_plain(path: str | Path) -> Any:
    """The content of a pickle made of None, bool, numbers, text, bytes, lists, tuples, dicts and sets.

    Text that Python 2 stored as bytes is read as UTF-8, else as Latin-1.

    Raises:
        UserError: No such file, no pickle, or one that names a class or function; the message says which.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} cannot be read: it is missing, or no regular file")
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    _check_bounds(content, path)
    try:
        try:
            return _Plain(io.BytesIO(content), path, "utf-8").load()
        except UnicodeDecodeError:
            return _Plain(io.BytesIO(content), path, "latin-1").load()
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f"{path} is not a readable pickle ({type(error).__name__}: {error})") from error


class _Lines(io.BytesIO):
    """A pickle whose lines of text are ASCII to `pickletools`: those of Python 2 hold any bytes."""

    def readline(self, size: int | None = -1, /) -> bytes:
        return super().readline(size).translate(ASCII)


def _check_bounds(content: bytes, path: str | Path) -> None:
    """Refuse what makes the reader take memory without bound, or overflow its stack, before it runs.

    A number in the memo is a place in a table that is made that long; nested tuples are hashed one inside the other.
    """
    memo = tuples = 0
    try:
        for operation, argument, _ in pickletools.genops(_Lines(content)):
            if operation.name in MEMO:
                memo += 1
                if int(argument or 0) > 2 * memo + MARGIN:
                    raise UserError(f"{path} is not a readable pickle (its memo jumps to {argument})")
            elif operation.name.startswith("TUPLE"):
                tuples += 1
                if tuples > MOST_TUPLES:
                    raise UserError(f"{path} holds more than {MOST_TUPLES:,} tuples, and lists are expected")
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f"{path} is not a readable pickle ({error})") from error


def _bytes_of_python_3(text: str, encoding: str) -> bytes:
    """What protocols 0 to 2 store bytes as; only this one encoding."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin-1")


_PLAIN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _bytes_of_python_3,
    **{(module, "set"): set for module in ("builtins", "__builtin__")},
    **{(module, "frozenset"): frozenset for module in ("builtins", "__builtin__")},
}


class _Plain(pickle.Unpickler):
    def __init__(self, file: Any, path: str | Path, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
        raise UserError(
            f"{self._path} wants to load `{module}.{name}`: only plain Python data is read, so it is refused"
        )

    def persistent_load(self, pid: Any) -> Any:
        raise UserError(f"{self._path} refers to objects outside the file: only plain Python data is read")
