"""Command-line options of `cabl-cgsr data`."""

from __future__ import annotations

from dataclasses import dataclass, field

from tyro.conf import Positional

from cabl_cgsr.config import DataConfig


@dataclass(frozen=True)
class DataCheckOptions:
    """Read every picture and mask of a set and say what is wrong with them, and what to do."""

    root: Positional[str] = ""
    """The data folder; the same as --data.root."""
    data: DataConfig = field(default_factory=DataConfig)
    against: tuple[str, ...] = ()
    """Folders of other sets, such as the test sets: pictures that occur in both are named."""
    keep_list: str = ""
    """Write the names of the readable pictures that are in none of the other sets to this file, for --data.list."""
    json: str = ""
    """Write the findings to this file too."""


@dataclass(frozen=True)
class DataToyOptions:
    """Write the embedded splices and copy-moves in CASIA's layout."""

    root: Positional[str]
    """Folder for CASIA2 (training) and CASIA1 (test)."""
    seed: int = 0
    train: int = 160
    """Scenes of the training set; each gives an authentic and a manipulated picture."""
    test: int = 32
    """Scenes of the test set."""
    size: tuple[int, int] = (96, 128)
    """Height and width of the pictures in pixels."""
