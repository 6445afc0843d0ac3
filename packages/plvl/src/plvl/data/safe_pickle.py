"""Pickles from elsewhere that hold plain Python data, read without running anything in them."""

from __future__ import annotations

import collections
import io
import pickle
from pathlib import Path
from typing import Any

from papers_shared.errors import UserError
from papers_shared.pickles import read_pickle


def load_plain(path: str | Path) -> Any:
    """The content of a pickle made of None, bool, numbers, text, bytes, lists, tuples, dicts and sets.

    Text that Python 2 stored as bytes is read as UTF-8, else as Latin-1.

    Raises:
        UserError: No such file, no pickle, or one that names a class or function; the message says which.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} cannot be read: it is missing, or no regular file")
    try:
        content = read_pickle(Path(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    try:
        try:
            return _Plain(io.BytesIO(content), path, "utf-8").load()
        except UnicodeDecodeError:
            return _Plain(io.BytesIO(content), path, "latin-1").load()
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(
            f"{path} is not a readable pickle ({type(error).__name__}: {str(error)[:200]})"
        ) from error


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
