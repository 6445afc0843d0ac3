"""Run folders: which recipe each trained, with which changes, and the metrics that its evaluations hold."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.tables.published import PACKAGES
from benchmarks.tables.recipes import recipes_of
from papers_shared.dataclass_json import dataclass_to_json
from papers_shared.errors import UserError
from papers_shared.text import read_json

MARKS = {"fanet": "scm", "plvl": "language_blocks", "cabl-cgsr": "cabl"}
"""Package -> an option of the model that no other package has."""
MODELS = ("best", "best_box", "best_mask", "last")
"""Model folders of a run; where several were scored, the first of them counts."""
START = ("pretrained", "vision_pretrained", "text_pretrained")


@dataclass(frozen=True)
class Score:
    """One metric of one evaluation."""

    metric: str
    value: float
    split: str
    samples: int
    source: str
    """File and model folder."""
    rank: int
    refiner: str = ""
    """What refined; cabl-cgsr only."""


@dataclass(frozen=True)
class Run:
    package: str
    recipe: str
    folder: Path
    scores: tuple[Score, ...]
    notes: tuple[str, ...]
    """Options that differ from the recipe's, and start weights that are missing."""
    refused: tuple[str, ...]
    """Evaluations of another protocol."""


def find_runs(paths: Sequence[str | Path]) -> list[Run]:
    """The runs in folders: each is a run folder, or holds run folders.

    Raises:
        UserError: There is no run folder, or a config.json of no package of this repository.
    """
    folders: list[Path] = []
    for path in map(Path, paths):
        inside = [path] if (path / "config.json").is_file() else sorted(_below(path))
        if not inside:
            raise UserError(f"{path} is not a run folder (it has no config.json) and holds none")
        folders += inside
    return [read_run(folder) for folder in dict.fromkeys(folders)]


def _below(folder: Path) -> Iterator[Path]:
    return (file.parent for file in folder.glob("*/config.json"))


def read_run(folder: Path) -> Run:
    """One run folder."""
    config = read_json(folder / "config.json")
    model = config.get("model", {}) if isinstance(config, dict) else {}
    package = next((name for name, mark in MARKS.items() if mark in model), None)
    if package is None or "name" not in config:
        raise UserError(f"{folder / 'config.json'} is of no recipe of {', '.join(PACKAGES)}")
    readers = {"fanet": _fanet, "plvl": _plvl, "cabl-cgsr": _cabl_cgsr}
    scores, refused = [], []
    for found in readers[package](folder):
        if isinstance(found, Score):
            scores.append(found)
        else:
            refused.append(found)
    notes = _changes(package, config)
    return Run(package, config["name"], folder, tuple(scores), notes, tuple(refused))


def _fanet(folder: Path) -> Iterator[Score | str]:
    for file in sorted(folder.glob("*evaluation*.json")):
        found = read_json(file)
        if "miou" not in found:
            continue
        if "one scale, no flip" not in found["protocol"]:
            yield f"{file}: not the table's protocol ({found['protocol']})"
            continue
        for metric in ("miou", "pixel_acc"):
            yield _score(metric, found[metric], found["split"], found["images"], file, found["model"])
    log = folder / "log.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    tops = [record for record in records if record.get("kind") == "val" and "top1" in record]
    if tops:
        best = max(tops, key=lambda record: record["top1"])  # the first best one is kept in best/
        yield _score("top1", best["top1"], "val", best["images"], log, "best")


def _plvl(folder: Path) -> Iterator[Score | str]:
    for file in sorted(folder.glob("*evaluation*.json")):
        found = read_json(file)
        if "paper" not in found:
            yield f"{file}: without the protocol `paper`"
            continue
        for metric in ("acc_at_05", "miou"):
            if found["paper"][metric] is not None:
                value, count = found["paper"][metric], found["expressions"]
                yield _score(metric, value, found["split"], count, file, found["model"])


def _cabl_cgsr(folder: Path) -> Iterator[Score | str]:
    for file in sorted(folder.glob("*evaluation*.json")):
        found = read_json(file)
        models = found.get("models", [])
        own = [one for one in models if Path(one["model"]).parent.name == folder.name]
        for model in own or models[:1]:
            for one in model["sets"]:
                for metric, value in one["metrics"].items():
                    refined = "." in metric and not metric.endswith(".coarse")
                    refiner = found["refiner"] if refined else ""
                    if value is not None:
                        yield _score(metric, value, one["set"], one["images"], file, model["model"], refiner)


def _score(
    metric: str, value: float, split: str, samples: int, file: Path, model: str, refiner: str = ""
) -> Score:
    name = Path(model).name
    rank = MODELS.index(name) if name in MODELS else len(MODELS)
    return Score(metric, value, split, samples, f"{file.name}, {name}/", rank, refiner)


def _changes(package: str, config: dict[str, Any]) -> tuple[str, ...]:
    """What a reader must know: options that are not the recipe's, and a start from random weights."""
    make = recipes_of(package).get(config["name"])
    if make is None:
        return ()
    may_change = importlib.import_module(f"{PACKAGES[package]}.train").RESUMABLE_OPTIONS
    recipe, changes = dataclass_to_json(make()), []
    for section, options in recipe.items():
        if not isinstance(options, dict):
            continue
        for option, value in options.items():
            given = config.get(section, {}).get(option, value)
            if given != value and option not in may_change.get(section, ()) and option != "seed":
                changes.append(f"{section}.{option} {json.dumps(given)} in place of {json.dumps(value)}")
    notes = [f"changed: {', '.join(changes)}"] if changes else []
    if config["name"] != "imagenet1k" and not any(config["model"].get(name) for name in START):
        notes.append("trained from random weights")
    return tuple(notes)
