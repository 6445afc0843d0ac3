"""What changed between two results of a package, beyond the spread of their rounds."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.findings import read
from papers_shared.errors import UserError

BOUND = 0.15
"""Of a regression, as a share."""


@dataclass(frozen=True)
class Change:
    what: str
    old: dict[str, float]
    new: dict[str, float]
    unit: str
    worse: float
    """By how much the new median is worse, as a share; negative: better. Rates count by their reciprocals."""
    regression: bool

    def __str__(self) -> str:
        word = "REGRESSION" if self.regression else "worse" if self.worse > 0 else "better"
        ranges = [
            f"{_figure(entry['median'], self.unit)} ({_figure(entry['min'], self.unit)} to "
            f"{_figure(entry['max'], self.unit)})"
            for entry in (self.old, self.new)
        ]
        return f"{word:<10}  {100 * abs(self.worse):5.1f} %  {self.what}: {ranges[0]} -> {ranges[1]}"


@dataclass(frozen=True)
class Comparison:
    changes: list[Change]
    compared: int
    gone: list[str]
    """Measured before, not now."""
    other_machine: bool

    @property
    def regressed(self) -> bool:
        return any(change.regression for change in self.changes)

    def __str__(self) -> str:
        lines = [str(change) for change in sorted(self.changes, key=lambda change: -change.worse)]
        lines += [f"no longer measured: {what}" for what in self.gone]
        if self.other_machine:
            lines.append("the two were measured on different machines: their times say little about the code")
        same = self.compared - len(self.changes)
        return "\n".join(
            [*lines, f"{self.compared} figures compared, {same} within the spread of their rounds"]
        )


def compare(old: dict[str, Any], new: dict[str, Any], bound: float = BOUND) -> Comparison:
    """Two records of the same package.

    A figure changed where the rounds of one all lie beyond those of the other; it is a regression where also its median
    is worse by more than `bound`. Parameters and multiply-adds have no rounds: any difference is a change. Memory has
    one, and counts as changed from 2 % on.
    """
    before, after = _figures(old), _figures(new)
    changes = []
    for what in before.keys() & after.keys():
        (one, unit), (other, _) = before[what], after[what]
        if one["median"] <= 0 or other["median"] <= 0:
            continue
        slack = 0.02 if unit == "bytes" else 0.0
        apart = other["min"] > one["max"] * (1 + slack) or other["max"] < one["min"] * (1 - slack)
        ratio = other["median"] / one["median"]
        worse = 1 / ratio - 1 if unit == "samples per second" else ratio - 1
        if apart:
            changes.append(Change(what, one, other, unit, worse, worse > bound))
    gone = sorted(before.keys() - after.keys())
    here = [
        (r["machine"]["processor"], r["machine"]["device"], r["machine"]["threads_used"]) for r in (old, new)
    ]
    return Comparison(changes, len(before.keys() & after.keys()), gone, here[0] != here[1])


def _figures(record: dict[str, Any]) -> dict[str, tuple[dict[str, float], str]]:
    """Every figure that can be compared: its name -> (median, min and max, unit)."""
    found: dict[str, tuple[dict[str, float], str]] = {}
    for result in record["results"]:
        numbers = {key: result[key] for key in ("median", "min", "max")}
        found[f"{Case(**result['case'])}, {result['variant']}"] = numbers, result["unit"]
    for network, parts in record["networks"].items():
        for part, figures in parts.items():
            if part != "title":
                for name, value in figures.items():
                    found[f"{network}, {part}, {name}"] = (
                        dict.fromkeys(("median", "min", "max"), value),
                        "count",
                    )
    return found


def _figure(value: float, unit: str) -> str:
    if unit == "seconds":
        return f"{value * 1e3:.1f} ms"
    if unit == "bytes":
        return f"{value / 1e6:.0f} MB"
    return f"{value:.2f}/s" if unit == "samples per second" else f"{value:g}"


def main(arguments: list[str]) -> int:
    """`python -m benchmarks compare OLD.json NEW.json`: 1 where something regressed.

    Raises:
        UserError: a file is none of this suite's, or they are of two packages.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare", description=main.__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--bound", type=float, default=BOUND, help="of a regression, as a share")
    options = parser.parse_args(arguments)
    old, new = read(options.old), read(options.new)
    if old["package"] != new["package"]:
        raise UserError(
            f"{options.new}: field `package` is {new['package']}, in {options.old} it is {old['package']}: name two "
            "results of one package"
        )
    found = compare(old, new, options.bound)
    print(found)
    return int(found.regressed)
