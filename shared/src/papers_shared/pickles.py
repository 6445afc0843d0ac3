"""Strangers' pickles, looked through before anything reads them: what would take memory or time without bound."""

from __future__ import annotations

import io
import pickletools
from pathlib import Path

from papers_shared.errors import UserError

LARGEST = 4 << 30
"""Bytes of a file that is read as a whole."""
MOST_OPERATIONS = 60_000_000
"""Of a pickle; the largest list of references has a tenth of it. Each may make an object."""
MARGIN = 1000
"""Places of the memo that a writer may have passed over."""
MOST_TUPLES = 10_000
"""Nested ones are hashed one inside the other."""
MOST_SHARED = 16
"""Tuples that stand in a second place: each may double what hashing one takes."""
MEMO = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
GETS = ("GET", "BINGET", "LONG_BINGET")
ASCII = bytes(byte if byte < 128 and chr(byte) != "\\" else ord("?") for byte in range(256))


def read_pickle(path: Path) -> bytes:
    """The content of a pickle that can be read in bounded memory and time; nothing of it is run.

    A number in the memo is a place in a table that is made that long; tuples are hashed as often as they are named.

    Raises:
        UserError: The file is too large, damaged, or no pickle; or one that a writer of plain data does not write.
    """
    if path.stat().st_size > LARGEST:
        raise UserError(f"{path} has more than {LARGEST:,} bytes: no pickle that is read here is so large")
    content = path.read_bytes()
    check_pickle(content, path)
    return content


def check_pickle(content: bytes, path: str | Path) -> None:
    """As `read_pickle`, of a content; `path` is the name for messages."""
    memo = tuples = shared = 0
    after_tuple = False
    plain: set[int] = set()
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(_Lines(content)), start=1):
            name = operation.name
            if count > MOST_OPERATIONS:
                raise _refused(path, f"more than {MOST_OPERATIONS:,} operations")
            if name in MEMO:
                memo += 1
                place = memo - 1 if argument is None else int(argument)
                if place > 2 * memo + MARGIN:
                    raise _refused(path, f"its memo jumps to {place}")
                (plain.discard if after_tuple else plain.add)(place)
            elif name in GETS:
                shared += int(argument or 0) not in plain
            elif name.startswith("TUPLE"):
                tuples += 1
            after_tuple = name.startswith("TUPLE") or name in ("POP", "POP_MARK", "DUP", *GETS)
            if name == "DUP" or tuples > MOST_TUPLES or shared > MOST_SHARED:
                raise _refused(path, "more tuples than plain data has: save it with lists")
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise _refused(path, str(error)[:200]) from error


class _Lines(io.BytesIO):
    """A pickle whose lines of text are ASCII to `pickletools`: those of Python 2 hold any bytes."""

    def readline(self, size: int | None = -1, /) -> bytes:
        return super().readline(size).translate(ASCII)


def _refused(path: str | Path, reason: str) -> UserError:
    return UserError(f"{path} is not a readable pickle ({reason})")
