"""The names of splits, and which images have one origin."""

from __future__ import annotations

import re
from collections.abc import Sequence

SAME = {
    "train": {"train", "training", "trainset"},
    "val": {"val", "valid", "validation", "validate", "valset", "dev"},
    "test": {"test", "testing", "testset"},
}
YEAR = re.compile(r"[_-]?(?:19|20)\d\d$")
ORIGINS = (
    re.compile(r"(?P<origin>.+)\.rf\.[0-9a-zA-Z]+"),  # copies that Roboflow makes of one image
    re.compile(r"(?P<origin>.*?)[_-]?frame[_-]?\d+(?:[_-].*)?", re.IGNORECASE),
    re.compile(r"(?P<origin>[a-z-]+_\d{6})_\d{6}(?:_.*)?"),  # city and sequence of Cityscapes
)


def usual(name: str) -> str:
    """`train`, `val` or `test` for the names that people give to these (`Training`, `val2017`); "" for others."""
    plain = YEAR.sub("", name.lower())
    return next((split for split, names in SAME.items() if plain in names), "")


def matching(asked: str, present: Sequence[str]) -> list[str]:
    """Which of the present splits `asked` can mean: that of this name, else those of the same meaning."""
    if asked in present:
        return [asked]
    return [name for name in present if usual(asked) and usual(name) == usual(asked)]


def origins_of(names: Sequence[str]) -> list[str]:
    """What each image was taken from: its folder counts where there are several."""
    several = len({name.rpartition("/")[0] for name in names}) > 1
    return [origin_of(name if several else name.rpartition("/")[2]) for name in names]


def origin_of(name: str) -> str:
    """What an image was taken from: its video, or the image that it is a copy of; its own name where nothing tells."""
    folder, _, file = name.rpartition("/")
    for pattern in ORIGINS:
        if match := pattern.fullmatch(file):
            return f"{folder}/{match['origin']}"
    return folder or name
