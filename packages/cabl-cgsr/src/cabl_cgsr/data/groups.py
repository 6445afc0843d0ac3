"""Which images belong together, and a validation split that keeps them together."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from cabl_cgsr.data.items import Item
from papers_shared.errors import UserError
from papers_shared.images import regular_file

PIECE = 4096
"""Bytes of the middle of a file that are compared first."""


def content_groups(items: Sequence[Item]) -> list[list[Item]]:
    """Items that share an origin or the bytes of their files, directly or over others; in the order of `items`.

    Only files of equal size are read, and whole ones only where they agree in the middle too.

    Raises:
        UserError: A file cannot be read.
    """
    parent = list(range(len(items)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = index = parent[parent[index]]
        return index

    shared: dict[object, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        for origin in item.origins:
            shared[origin].append(index)
    for copies in _equal_files(items):
        shared[tuple(copies)] = copies
    for members in shared.values():
        for index in members[1:]:
            first, second = sorted((root(members[0]), root(index)))
            parent[second] = first
    groups: dict[int, list[Item]] = defaultdict(list)
    for index, item in enumerate(items):
        groups[root(index)].append(item)
    return list(groups.values())


def hold_out(items: Sequence[Item], share: float, seed: int) -> set[str]:
    """Names of a part of the items: about `share` of each label, whole groups, decided by seed and names.

    Groups are taken in a shuffled order while they fit, so a group larger than the part stays in the rest.

    Raises:
        UserError: there is one label only, `share` is not in [0, 1), no group fits and a label would be missing, or a
            file cannot be read.
    """
    if not 0 <= share < 1:
        raise UserError(f"--data.val-share is {share}: give a share from 0 to below 1")
    counts = [sum(item.label == label for item in items) for label in (0, 1)]
    for count, word in zip(counts, ("authentic", "manipulated"), strict=True):
        if not count:
            raise UserError(f"there is no {word} image: training needs both kinds")
    if share == 0:
        return set()
    room = [max(1, round(share * count)) for count in counts]
    names: set[str] = set()
    for group in sorted(content_groups(items), key=lambda group: _shuffled(group, seed)):
        needed = [sum(item.label == label for item in group) for label in (0, 1)]
        if all(need <= space for need, space in zip(needed, room, strict=True)) and any(room):
            names |= {item.name for item in group}
            room = [space - need for space, need in zip(room, needed, strict=True)]
    held = [sum(item.label == label and item.name in names for item in items) for label in (0, 1)]
    for label, word in enumerate(("authentic", "manipulated")):
        if not 0 < held[label] < counts[label]:
            raise UserError(
                f"of {counts[label]} {word} images, {held[label]} can be held out, as images of one origin stay "
                "together: use more images, another --data.val-share or --data.val-seed, or --data.val-share 0"
            )
    return names


def _shuffled(group: list[Item], seed: int) -> bytes:
    first = min(item.name for item in group)
    return hashlib.blake2b(f"{seed}:{first}".encode(), digest_size=16).digest()


def _equal_files(items: Sequence[Item]) -> list[list[int]]:
    """Positions of items whose files are equal, found in three steps: size, a piece of the middle, all bytes."""

    def split(groups: list[list[int]], key: Callable[[Path], object]) -> list[list[int]]:
        parts: dict[tuple[int, object], list[int]] = defaultdict(list)
        for number, group in enumerate(groups):
            for index in group:
                path = items[index].image
                try:
                    parts[number, key(path)].append(index)
                except OSError as error:
                    raise UserError(f"{path} cannot be read ({error.strerror})") from error
        return [part for part in parts.values() if len(part) > 1]

    groups = split([list(range(len(items)))], lambda path: path.stat().st_size)
    return split(split(groups, _middle), _digest)


def _middle(path: Path) -> bytes:
    with regular_file(path) as file:
        file.seek(path.stat().st_size // 2)
        return file.read(PIECE)


def _digest(path: Path) -> bytes:
    with regular_file(path) as file:
        return hashlib.blake2b(file.read()).digest()
