"""Images by content: equal ones, and those that show the same in another size or compression."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cabl_cgsr.data.items import Item

THUMB = 32
"""Side of the thumbnails, in pixels."""
ALIKE = 0.8
"""Correlation of the thumbnails' details from which two images count as nearly the same."""
FLAT = 1.0
"""Standard deviation of details, in grey levels, below which an image has too few to be recognised."""
CHUNK = 2048


@dataclass(frozen=True)
class Fingerprint:
    """The content of one image."""

    digest: bytes
    """Hash of size and pixels."""
    details: np.ndarray
    """(THUMB * THUMB,) float32 of unit length: a grey thumbnail less its blur; zeros for a flat image."""


def fingerprint(image: np.ndarray) -> Fingerprint:
    """Of an (H, W, 3) uint8 image."""
    digest = hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).digest()
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    thumb = cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA).astype(np.float32)
    details = thumb - cv2.blur(thumb, (7, 7), borderType=cv2.BORDER_REFLECT)
    details -= details.mean()
    strength = float(details.std())
    scaled = details / np.linalg.norm(details) if strength > FLAT else np.zeros_like(details)
    return Fingerprint(digest, scaled.reshape(-1).astype(np.float32))


def equal_images(items: Sequence[Item], prints: Sequence[Fingerprint | None]) -> list[list[Item]]:
    """Groups of two and more items with equal pixels."""
    groups: dict[bytes, list[Item]] = defaultdict(list)
    for item, known in zip(items, prints, strict=True):
        if known is not None:
            groups[known.digest].append(item)
    return [group for group in groups.values() if len(group) > 1]


@dataclass(frozen=True)
class Match:
    """An image of one set that occurs in another."""

    item: Item
    other: Item
    equal: bool
    """Equal pixels; else nearly the same."""


def matches(
    items: Sequence[Item],
    prints: Sequence[Fingerprint | None],
    others: Sequence[Item],
    other_prints: Sequence[Fingerprint | None],
) -> list[Match]:
    """Images of one set with their likest counterpart in another, if it is like enough.

    An image that was resized, compressed again or manipulated in a small part is found; one that was turned,
    mirrored or cropped is not.
    """
    known = [(item, p) for item, p in zip(items, prints, strict=True) if p is not None]
    foreign = [(item, p) for item, p in zip(others, other_prints, strict=True) if p is not None]
    if not known or not foreign:
        return []
    digests = {p.digest: item for item, p in foreign}
    bank = np.stack([p.details for _, p in foreign])
    found = []
    for start in range(0, len(known), CHUNK):
        part = known[start : start + CHUNK]
        likeness = np.stack([p.details for _, p in part]) @ bank.T
        for (item, p), row in zip(part, likeness, strict=True):
            if p.digest in digests:
                found.append(Match(item, digests[p.digest], True))
            elif row.max() >= ALIKE:
                found.append(Match(item, foreign[int(row.argmax())][0], False))
    return found
