"""Values in files that strangers write: an entry of a JSON file or of a table, checked where it enters.

Every function raises a UserError that begins with `where`, the file and the line or annotation.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from papers_shared.errors import UserError
from papers_shared.images import MAX_PIXELS

MAX_COORDINATE = 1e6
"""No image has a point so far away."""
MAX_SIDE = 65_535
"""Longest side of an image in pixels, as JPEG's."""


def text_of(entry: Mapping[str, Any], key: str, where: str, *, default: str | None = None) -> str:
    """A text, or a whole number as text, which ids are in some files; a missing or null value is `default`.

    Raises:
        UserError: Another value, half of a surrogate pair, or no value and no `default`.
    """
    value = entry.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, int) and not isinstance(value, bool):
        return shown(value) if abs(value) > 10**18 else str(value)
    if not isinstance(value, str):
        raise UserError(
            f"{where}: {key!r} must be text, and is {'missing' if value is None else shown(value)}"
        )
    if not is_text(value):
        raise UserError(f"{where}: {key!r} holds half a character (a lone surrogate): {ascii(value)[:80]}")
    return value


def numbers_of(values: Any, where: str, *, count: int = 0) -> list[float]:
    """Finite numbers within `MAX_COORDINATE` as floats.

    Args:
        values: A sequence or an array of numbers.
        count: How many there must be; 0: any number.

    Raises:
        UserError: Not a sequence, of another length, or one that is no number, not finite, or too large.
    """
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, list | tuple):
        raise UserError(f"{where}: a list of numbers is expected, not {shown(values)}")
    if count and len(values) != count:
        raise UserError(f"{where}: {count} numbers are expected, not {len(values)}: {shown(values)}")
    for value in values:
        if not _is_number(value) or not abs(value) <= MAX_COORDINATE:
            raise UserError(
                f"{where}: {shown(value)} is no number from {-MAX_COORDINATE:g} to {MAX_COORDINATE:g}"
            )
    return [float(value) for value in values]


def size_of(width: Any, height: Any, where: str) -> tuple[int, int]:
    """(height, width) in pixels, as a file declares it.

    Raises:
        UserError: Not whole numbers of pixels, or more than an image has.
    """
    sides = []
    for name, value in (("width", width), ("height", height)):
        whole = _is_number(value) and 1 <= value <= MAX_SIDE
        if not whole or not math.isfinite(value) or value != int(value):
            raise UserError(
                f"{where}: the {name} {shown(value)} is no whole number of pixels from 1 to {MAX_SIDE}"
            )
        sides.append(int(value))
    if sides[0] * sides[1] > MAX_PIXELS:
        raise UserError(f"{where}: {sides[0]} x {sides[1]} is more than the limit of {MAX_PIXELS:,} pixels")
    return sides[1], sides[0]


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def is_text(value: str) -> bool:
    """Whether a text can be written as UTF-8: half of a surrogate pair cannot."""
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def one_line(text: str) -> str:
    """A text that is printed in one line: line breaks and control characters as their codes."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def first_line(problem: BaseException, longest: int = 200) -> str:
    """What an error says, its kind where it says nothing: of a message that may be a page long."""
    text = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
    return one_line(text if len(text) <= longest else f"{text[:longest]}...")


def first_names(names: Sequence[str], count: int = 3, longest: int = 60) -> str:
    """The first of many names, for a message; long ones are cut."""
    lines = (one_line(str(name)) for name in names[:count])
    cut = [name if len(name) <= longest else f"{name[:longest]}..." for name in lines]
    return ", ".join(cut) + (", ..." if len(names) > count else "")


def shown(value: Any) -> str:
    """A value as a message shows it: `repr`, at most about 80 characters."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlong = 30
