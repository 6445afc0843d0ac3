"""Trains every row of the ablation tables, small, and prints the same tables in miniature.

What is done lies in the output folder: `trainings/NAME.json` of each finished training, `runs/NAME` of each begun
one, `data/PACKAGE`. The same command goes on where it stopped; a training that was cut off resumes from its newest
checkpoint. Rows whose networks are equal share one training.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.tables.document import Document, Grid, Section
from benchmarks.tables.published import PACKAGES, Paper, Table, read_paper
from benchmarks.tables.recipes import recipes_of
from benchmarks.tables.small import Small, small_of
from papers_shared.errors import UserError
from papers_shared.files import write_json, writing_folder
from papers_shared.text import read_json

LEAD = (
    "These are not the papers' numbers and say nothing about them: small networks on embedded data, trained for a "
    "moment. They show that each row's recipe switches something, trains, is scored, and how much seeds move it."
)
TITLES = {
    ("fanet", "miou"): "mIoU",
    ("fanet", "pixel_acc"): "pixel accuracy",
    ("plvl", "acc_at_05"): "REC",
    ("plvl", "miou"): "RES",
    ("cabl-cgsr", "i_auc"): "I-AUC",
    ("cabl-cgsr", "p_f1.{output}"): "P-F1",
}
UNITS = {"fanet": (100, 1), "plvl": (100, 1), "cabl-cgsr": (1, 3)}
"""Package -> what its fractions are multiplied by, and digits, as its paper prints them."""


@dataclass(frozen=True)
class Training:
    """One network that is trained with every seed."""

    package: str
    recipe: str
    """The first recipe that has this network."""
    small: Any


def run(output: Path, *, rows: Sequence[str] | None = None, steps: int = 0, seeds: int = 2) -> Document:
    """Train what is not trained yet and make the page.

    Args:
        rows: Names of recipes; None: every row.
        steps: Optimizer steps of each training; 0: as each package's recipe `toy` says.
        seeds: Trainings of each row, with seeds 0, 1, ...

    Raises:
        UserError: A recipe that is in none of the tables.
    """
    papers = {package: read_paper(package) for package in PACKAGES}
    tables = {package: _tables(papers[package], small_of(package)) for package in PACKAGES}
    known = {name for found in tables.values() for table in found for name in _recipes(table)}
    if unknown := sorted(set(rows or ()) - known):
        raise UserError(f"--rows {unknown[0]}: choose among {', '.join(sorted(known))}")
    sections = []
    for package, found in tables.items():
        wanted = [name for table in found for name in _recipes(table) if not rows or name in rows]
        if wanted:
            sections += list(_package(package, found, wanted, output, steps, seeds))
    return Document("The ablations in miniature", LEAD, sections)


def _package(
    package: str, tables: Sequence[Table], wanted: Sequence[str], output: Path, steps: int, seeds: int
) -> Iterator[Section]:
    small = small_of(package)
    data = output / "data" / package
    if not data.exists():
        print(f"{package}: embedded data", flush=True)
        with writing_folder(data, ()) as partial:
            small.write_data(partial)
    trainings: dict[str, Training] = {}
    for name in dict.fromkeys(wanted):
        recipe = _with_steps(small.recipe(recipes_of(package)[name](), data), steps)
        first = next((one for one in trainings.values() if one.small == recipe), None)
        trainings[name] = first or Training(package, name, recipe)
    records = {
        name: [_trained(one, small, output, seed) for seed in range(seeds)] for name, one in trainings.items()
    }
    for table in tables:
        chosen = [name for name in _recipes(table) if name in trainings]
        if chosen:
            yield _section(package, table, {name: trainings[name] for name in chosen}, records)
    yield Section(f"{package}: do the switches do anything?", [_alike(trainings, records)])


def _trained(training: Training, small: Small, output: Path, seed: int) -> dict[str, Any]:
    """The record of one training; trains, or goes on, where there is none."""
    steps = training.small.optim.steps
    name = f"{training.package}-{training.recipe}-steps{steps}-seed{seed}"
    record = output / "trainings" / f"{name}.json"
    if record.exists():
        return read_json(record)
    print(f"{name}", flush=True)
    cadences = replace(
        training.small.run,
        seed=seed,
        output=str(output / "runs" / name),
        eval_every=steps // 4 if steps >= 20 else steps,
        checkpoint_every=max(1, steps // 10),
    )
    recipe = replace(training.small, name=training.recipe, run=cadences)
    folder = small.train(recipe)
    network, metrics, protocol = small.score(folder, recipe)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    result = {
        "metrics": metrics,
        "protocol": protocol,
        "parameters": sum(value.numel() for value in network.parameters()),
        "loss": statistics.fmean(losses[-max(1, len(losses) // 10) :]),
        "steps": steps,
        "samples": steps * recipe.optim.batch_size,
    }
    record.parent.mkdir(parents=True, exist_ok=True)
    write_json(record, result)
    return result


def _section(
    package: str, table: Table, trainings: dict[str, Training], records: dict[str, list[dict[str, Any]]]
) -> Section:
    """One table: its rows and metrics as in the paper, the sets of several columns as the one embedded set."""
    metrics = list(dict.fromkeys(column.metric for column in table.columns if column.metric))
    titles = [TITLES[package, metric] for metric in metrics]
    rows = []
    for row in table.rows:
        for name in row.recipes[:1]:
            if name not in trainings:
                continue
            found = records[name]
            keys = [metric.format(output=row.output) for metric in metrics]
            cells = [_spread([one["metrics"].get(key) for one in found], *UNITS[package]) for key in keys]
            loss = _spread([one["loss"] for one in found], 1, 3)
            shared = trainings[name].recipe
            of = f"`{name}`" if shared == name else f"`{name}` (the network of `{shared}`)"
            rows.append([row.name, of, f"{found[0]['parameters']:,}", *cells, loss])
    one = records[next(iter(trainings))]
    about = (
        f"{one[0]['steps']} steps, {one[0]['samples']:,} samples, {len(one)} seed(s); mean ± sample deviation. "
        f"{one[0]['protocol']}. Loss: mean over the last tenth of the steps."
    )
    head = ("row", "recipe", "parameters", *titles, "training loss")
    return Section(f"{package}, {table.name}, in miniature: {table.title}", [Grid(head, rows), about])


def _alike(trainings: dict[str, Training], records: dict[str, list[dict[str, Any]]]) -> str:
    """Whether two networks of different switches trained to the very same loss."""
    distinct = {one.recipe: one for one in trainings.values()}
    names = list(distinct)
    pairs = [
        f"`{a}` and `{b}`"
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if any(x["loss"] == y["loss"] for x, y in zip(records[a], records[b], strict=True))
    ]
    if pairs:
        return f"NO: {'; '.join(pairs)} differ in their switches and trained to the same loss."
    return f"Yes, as far as this shows: no two of {len(names)} networks trained to the same loss with the same seed."


def _spread(values: Sequence[float | None], scale: int, digits: int) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = f"{scale * statistics.fmean(known):.{digits}f}"
    return mean if len(known) < 2 else f"{mean} ± {scale * statistics.stdev(known):.{digits}f}"


def _with_steps(recipe: Any, steps: int) -> Any:
    if not steps:
        return recipe
    warmup = min(recipe.optim.warmup_steps, steps // 5)
    return replace(recipe, optim=replace(recipe.optim, steps=steps, warmup_steps=warmup))


def _tables(paper: Paper, small: Small) -> list[Table]:
    return [table for table in paper.tables if table.name in small.tables]


def _recipes(table: Table) -> list[str]:
    return [name for row in table.rows for name in row.recipes[:1]]
