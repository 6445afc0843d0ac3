"""The values that an option may have, beside the option: `crop_size: Annotated[int, Within(1, 8192)] = 512`."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass
from typing import Any

from papers_shared.errors import UserError


@dataclass(frozen=True)
class Within:
    """Finite numbers from `low` to `high`, both included; of tuples every number."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    """`low` itself is not allowed."""
    ascending: bool = False
    """The numbers of a tuple do not fall."""
    filled: bool = False
    """A tuple holds a number at least."""

    def problem(self, value: Any) -> str:
        """What may be given in place of `value`; empty where it is allowed."""
        values = _flat(value)
        if self.filled and not values:
            return "one number or more"
        if not all(_is_number(one) and self._holds(one) for one in values):
            return self._allowed() + (" each" if isinstance(value, tuple | list) else "")
        if self.ascending and list(values) != sorted(values):
            return "the smaller number first"
        return ""

    def _holds(self, value: float) -> bool:
        return (value > self.low if self.above else value >= self.low) and value <= self.high

    def _allowed(self) -> str:
        if self.above:
            return f"more than {self.low:g}" + ("" if self.high == math.inf else f", up to {self.high:g}")
        if self.high == math.inf:
            return "a finite number" if self.low == -math.inf else f"{self.low:g} or more"
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Names:
    """Names that differ from one another: `most` of them, of `letters` letters, at most."""

    letters: int = 200
    most: int = 65_535

    def problem(self, value: Any) -> str:
        """What may be given in place of `value`; empty where it is allowed."""
        names = _flat(value)
        if len(names) > self.most:
            return f"{self.most} names or fewer"
        if len(set(names)) < len(names):
            return "each name once"
        if not all(name.strip() and len(name) <= self.letters and name.isprintable() for name in names):
            return f"names of 1 to {self.letters} printable letters"
        return ""


@dataclass(frozen=True)
class Formerly:
    """What older files call a value."""

    name: Any
    now: Any


def check_ranges(options: Any, where: str = "--") -> None:
    """Refuse values of a dataclass, and of the dataclasses in it, that their fields do not allow.

    Args:
        where: `--` spells fields as the command line does; the name of a file spells them as the file does.

    Raises:
        UserError: It names the option, its value, and what may be given.
    """
    from papers_shared.entries import shown  # imports numpy, which the options alone do not need

    hints = typing.get_type_hints(type(options), include_extras=True)
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if value is None:  # an option that may be left open
            continue
        name = f"{where}{field.name.replace('_', '-')}" if where.startswith("--") else f"{where}.{field.name}"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            check_ranges(value, f"{name}." if where.startswith("--") else name)
            continue
        for bound in getattr(hints[field.name], "__metadata__", ()):
            if isinstance(bound, Within | Names) and (allowed := bound.problem(value)):
                raise UserError(f"{name} is {shown(value)}: give {allowed}")


def _flat(value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return [one for part in value for one in _flat(part)]
    return [value]


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)
