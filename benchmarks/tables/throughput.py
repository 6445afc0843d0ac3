"""Measured speed, from the JSON files of the benchmark suite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.tables.recipes import recipes_of
from papers_shared.dataclass_json import read_json
from papers_shared.errors import UserError

MEASURED = {
    "fanet": (("zerowaste_f", "fanet", "segmentor", 512), ("focalnet_t", "focalnet_tiny_lrf", "segmentor", 512)),
    "plvl": (("refcocog_umd", "plvl", "network", 448),),
    "cabl-cgsr": (("casia2", "cabl-cgsr", "classifier", 512),),
}  # fmt: skip
"""Package -> recipes whose training step the suite measures: recipe, network, part and side of the case."""


@dataclass(frozen=True)
class Speed:
    """One measured case."""

    package: str
    network: str
    part: str
    mode: str
    side: int
    batch: int
    precision: str
    compiled: bool
    variant: str
    seconds: float
    """Median of a call; of the loader 1 / samples per second."""
    device: str
    gpu: bool
    file: str

    @property
    def per_second(self) -> float:
        """Samples."""
        return (1 if self.mode == "loader" else self.batch) / self.seconds

    def __str__(self) -> str:
        compiled = ", compiled" if self.compiled else ""
        return f"{self.device}, {self.precision}{compiled}, batch {self.batch}"


def read_speeds(files: Sequence[Path]) -> list[Speed]:
    """What the files measured; runs of `--quick` say nothing about speed and are left out.

    Raises:
        UserError: A file is not a result of the suite.
    """
    speeds = []
    for file in files:
        record = read_json(file)
        try:
            machine = record["machine"]
            gpu = machine["device"] != "cpu"
            if record["quick"]:
                continue
            processor = f"{machine['processor']}, {machine['threads_used']} threads"
            device = machine["device"] if gpu else processor
            for result in record["results"]:
                speeds += _speed(result, device, gpu, file)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{file} is not a result of python -m benchmarks: {error} is missing") from None
    return speeds


def _speed(result: dict[str, Any], device: str, gpu: bool, file: Path) -> list[Speed]:
    case, median = result["case"], result["median"]
    if case["mode"] not in ("inference", "training", "loader") or not median:
        return []
    seconds = 1 / median if case["mode"] == "loader" else median
    named = ("package", "network", "part", "mode", "side", "batch", "precision", "compiled")
    values = {name: case[name] for name in named}
    variant = result.get("variant", "")
    return [Speed(**values, variant=variant, seconds=seconds, device=device, gpu=gpu, file=file.name)]


def training_speeds(speeds: Sequence[Speed], package: str, recipe: str) -> list[Speed]:
    """Training steps of exactly the network that a recipe trains; the device's fastest first."""
    recipes = recipes_of(package)
    model = recipes[recipe]().model
    wanted = [case for name, *case in MEASURED[package] if recipes[name]().model == model]
    found = [
        one
        for one in speeds
        if one.package == package and one.mode == "training" and [one.network, one.part, one.side] in wanted
    ]
    return sorted(found, key=lambda one: -one.per_second)


def at_batch(speeds: Sequence[Speed], batch: int) -> Speed | None:
    """The uncompiled one at the batch nearest to `batch`."""
    eager = [one for one in speeds if not one.compiled]
    return min(eager, key=lambda one: (abs(one.batch - batch), -one.per_second), default=None)
