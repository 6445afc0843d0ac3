"""A validation split made from training images, where a data set has none."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence


def set_aside(origins: Sequence[str], share: float, seed: int) -> set[int]:
    """Positions of the images of a validation split: whole origins, in an order that the seed decides.

    Args:
        origins: What each image was taken from.
        share: Of the images; one origin at least goes to each side, none where there is one in all.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for position, origin in enumerate(origins):
        members[origin].append(position)
    order = sorted(members, key=lambda origin: hashlib.sha256(f"{seed}/{origin}".encode()).digest())
    chosen: set[int] = set()
    for origin in order[:-1]:
        if len(chosen) + len(members[origin]) <= share * len(origins):
            chosen.update(members[origin])
    if not chosen and len(order) > 1:
        smallest: list[int] = min(members.values(), key=len)
        chosen.update(smallest)
    return chosen
