"""What the papers print, and how the same metric is found in a run: the files of the folder `published`.

A test holds the recipes' docstrings to them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from papers_shared.dataclass_json import read_dataclass

FOLDER = Path(__file__).parent / "published"
PACKAGES = {"fanet": "fanet", "plvl": "plvl", "cabl-cgsr": "cabl_cgsr"}
"""Package -> import name."""


@dataclass(frozen=True)
class Column:
    """A column of a table: which metric of an evaluation stands in it, or what is counted; neither: published only."""

    name: str
    metric: str = ""
    """`{output}` stands for the row's output."""
    scale: float = 1.0
    """An evaluation's fraction times this is what the paper prints."""
    digits: int = 2
    splits: tuple[str, ...] = ()
    """The split, or the set, has one of these names."""
    samples: tuple[int, ...] = ()
    """The split has one of these numbers of samples: on others no metric is the table's."""
    recipes: tuple[str, ...] = ()
    """Only these recipes of a row fill the column; empty: all."""
    mean_of: tuple[int, ...] = ()
    """The mean of other columns, by number."""
    counted: Literal["", "parameters", "operations"] = ""


@dataclass(frozen=True)
class Row:
    name: str
    published: tuple[float | None, ...]
    recipes: tuple[str, ...] = ()
    """Recipes that train the row; none: published only."""
    output: str = "coarse"
    """cabl-cgsr: the output that is scored, `coarse` or a prompt variant."""
    counted_of: str = ""
    """Recipe whose network is counted where the row has none of its own."""
    notes: tuple[str, ...] = ()
    """Names of footnotes."""


@dataclass(frozen=True)
class Table:
    name: str
    title: str
    protocol: str
    evaluate: str
    """The command that scores a run of one of the rows."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    name: str
    title: str
    command: str
    """What draws it from a run; empty: a diagram."""
    file: str = ""
    """Pattern of the file's name."""


@dataclass(frozen=True)
class Paper:
    package: str
    paper: str
    source: str
    notes: dict[str, str] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()


def read_paper(package: str) -> Paper:
    """The tables of a package's paper."""
    return read_dataclass(Paper, FOLDER / f"{package}.json")


def read_papers() -> list[Paper]:
    return [read_paper(package) for package in PACKAGES]
