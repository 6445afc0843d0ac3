"""What the stored values of a mask mean: numbers or colours -> class ids."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from papers_shared.errors import UserError
from papers_shared.types import RGB

IGNORED = -1
"""In place of a class id: pixels that are neither learned from nor scored."""


@dataclass(frozen=True)
class Codes:
    """Class ids by stored value or by colour; `IGNORED` among them."""

    values: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    colours: Mapping[RGB, int] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def in_order(cls, values: Sequence[int]) -> Codes:
        """The stored values of the classes 0, 1, 2, ..."""
        return cls(values={value: number for number, value in enumerate(values)})

    def to_text(self) -> str:
        """For a column of rows."""
        colours = [[*colour, number] for colour, number in self.colours.items()]
        return json.dumps([list(self.values.items()), colours])

    @staticmethod
    @functools.lru_cache(16)
    def from_text(text: str) -> Codes:
        values, colours = json.loads(text)
        return Codes(dict(values), {(red, green, blue): number for red, green, blue, number in colours})

    def of_values(self, stored: np.ndarray, ignore_index: int, source: str) -> np.ndarray:
        """Stored values (H, W) uint8 as class ids; `ignore_index` stays.

        Raises:
            UserError: A value that has no meaning; the message begins with `source`.
        """
        table = np.full(256, 256, np.int64)
        if 0 <= ignore_index < 256:
            table[ignore_index] = ignore_index
        for value, number in self.values.items():
            table[value] = self._target(number, ignore_index, source)
        found = table[stored]
        if (found == 256).any():
            unknown = sorted(set(np.unique(stored).tolist()) - set(np.flatnonzero(table < 256).tolist()))
            raise UserError(
                f"{source} holds the value {unknown[0]}, and the values of the classes are "
                f"{', '.join(map(str, list(self.values)[:20]))}"
            )
        return found.astype(np.uint8)

    def of_colours(self, pixels: np.ndarray, ignore_index: int, source: str) -> np.ndarray:
        """Colours (H, W, 3) uint8 as class ids.

        Raises:
            UserError: A colour that has no meaning; the message begins with `source`.
        """
        packed = _pack(pixels.astype(np.uint32))
        known = np.array([_pack(np.array(colour, np.uint32)) for colour in self.colours])
        order = np.argsort(known)
        position = np.minimum(np.searchsorted(known[order], packed), len(known) - 1)
        if (strange := known[order][position] != packed).any():
            colour = tuple(pixels[strange][0].tolist())
            raise UserError(
                f"{source} holds the colour {colour}, which the list of classes does not have; masks must be "
                "stored without loss (PNG)"
            )
        numbers = [self._target(number, ignore_index, source) for number in self.colours.values()]
        return np.array(numbers, np.uint8)[order][position]

    @staticmethod
    def _target(number: int, ignore_index: int, source: str) -> int:
        if number != IGNORED:
            return number
        if not 0 <= ignore_index < 256:
            raise UserError(f"{source} names pixels to ignore: give --data.ignore-index 0 to 255")
        return ignore_index


def _pack(colours: np.ndarray) -> np.ndarray:
    return (colours[..., 0] << 16) | (colours[..., 1] << 8) | colours[..., 2]
