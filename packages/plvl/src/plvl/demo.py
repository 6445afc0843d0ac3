"""All of the package in minutes: toy scenes, the builder, training, evaluation, and a page that shows them.

The scenes are written as a REFER release and read by `plvl data build`; training is the recipe `toy`. Beside it a
language-blind model of the same network learns from the same samples in the same order: `max_tokens` 2 leaves of
every sentence [CLS] and [SEP] only. What the first is better by, it got from reading: the paper's claim in miniature.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from papers_shared import pages
from papers_shared.drawing import heat_map
from papers_shared.errors import UserError
from papers_shared.files import write_text
from papers_shared.pages import Curve, as_percent, chart, keys
from plvl.config import Recipe
from plvl.data import load_image, load_mask, open_split
from plvl.data.commands import build_dataset
from plvl.drawing import draw_target
from plvl.evaluate import evaluate
from plvl.inference import predict
from plvl.modeling.plvl import PLVL
from plvl.recipes import toy
from plvl.toy import write_refer
from plvl.train import train

if TYPE_CHECKING:
    from plvl.options import DemoOptions

SHOWN = 8
METRICS = {"acc_at_05": "Acc@0.5", "miou": "mask mIoU"}
MARGIN = {"acc_at_05": 0.30, "miou": 0.15}
"""The demo fails unless each metric on val beats the language-blind model's by this much (fractions)."""


def demo(output: str | Path, *, steps: int = 0, seed: int = 0) -> dict[str, Any]:
    """Make the scenes, train both models, evaluate and write `output`/index.html.

    Scenes and runs lie in `output` under names that hold seed and steps: a demo that was interrupted goes on where its
    newest checkpoint is.

    Returns: `page` (Path), `run` (Path), `seconds` of training of each model, and `val`, `test`, `val_blind`,
        `test_blind` as `plvl.evaluate.evaluate` gives them.
    """
    output = Path(output)
    scenes = output / f"scenes-seed{seed}"
    write_refer(scenes / "refer", seed=seed)
    build_dataset("toy", str(scenes / "built"), refer=str(scenes / "refer"))
    recipe = _recipe(output, scenes / "built", steps, seed)
    recipes = {"": recipe, "_blind": blind(recipe)}
    result: dict[str, Any] = {"seconds": {}}
    models = {}
    for name, one in recipes.items():
        began = time.perf_counter()
        run = train(one)
        result["seconds"][name] = time.perf_counter() - began
        result[f"run{name}"] = run
        models[name] = PLVL.from_pretrained(run / "best")
        for split in ("val", "test"):
            rows = open_split(one.data, split)
            result[f"{split}{name}"] = evaluate(models[name], rows)
    page = _page(models, recipe, result)
    result["page"] = output / "index.html"
    write_text(result["page"], page.render())
    return result


def blind(recipe: Recipe) -> Recipe:
    """The same network and training without a word of any sentence."""
    return replace(
        recipe,
        name=f"{recipe.name}_blind",
        model=replace(recipe.model, max_tokens=2),
        run=replace(recipe.run, output=f"{recipe.run.output}-blind"),
    )


def beats_blind(result: dict[str, Any], split: str = "val") -> bool:
    """Whether each metric of a split is better than the language-blind model's by its `MARGIN`."""
    read, unread = result[split]["paper"], result[f"{split}_blind"]["paper"]
    return all(read[metric] >= unread[metric] + margin for metric, margin in MARGIN.items())


def _recipe(output: Path, built: Path, steps: int, seed: int) -> Recipe:
    recipe = toy()
    if steps:
        optim = replace(recipe.optim, steps=steps, warmup_steps=min(recipe.optim.warmup_steps, steps // 5))
        recipe = replace(recipe, optim=optim)
    steps = recipe.optim.steps
    run = replace(
        recipe.run,
        seed=seed,
        output=str(output / f"run-seed{seed}-steps{steps}"),
        eval_every=max(1, steps // 4),
    )
    return replace(recipe, data=replace(recipe.data, root=str(built)), run=run)


def _page(models: dict[str, PLVL], recipe: Recipe, result: dict[str, Any]) -> Page:
    data, best = recipe.data, result["run"] / "best"
    splits = {name: len(open_split(data, name)) for name in ("train", "val", "test")}
    parameters = sum(parameter.numel() for parameter in models[""].parameters())
    logs = {name: _records(result[f"run{name}"]) for name in models}
    metrics = [
        (
            f"{split.capitalize()} {title}",
            as_percent(result[split]["paper"][key]),
            f"language-blind: {as_percent(result[f'{split}_blind']['paper'][key])}",
        )
        for split in ("val", "test")
        for key, title in METRICS.items()
    ]
    seconds = sum(result["seconds"].values())
    metrics.append(
        (
            "Training",
            f"{seconds:.0f} s",
            f"two models, {recipe.optim.steps} steps of {recipe.optim.batch_size}",
        )
    )
    return Page(
        headline="PLVL on a toy world of shapes",
        summary=(
            f"A small PLVL ({parameters / 1e6:.2f} M weights) learned from {splits['train']:,} sentences about "
            "procedural scenes to find the box and the mask of what a sentence means. Beside it the same network "
            "learned without the sentences. Everything here was made on this machine by plvl demo; the numbers show "
            "that the parts work together and that the model reads, not how well PLVL does on RefCOCO."
        ),
        metrics=metrics,
        examples=_examples(models, open_split(data, "test")),
        losses=[
            Curve("PLVL", "a", pages.smooth(_points(logs[""], "train", "loss"))),
            Curve("language-blind", "dashed", pages.smooth(_points(logs["_blind"], "train", "loss"))),
        ],
        accuracies=[
            Curve("PLVL", "a", _points(logs[""], "val", "acc_at_05")),
            Curve("language-blind", "dashed", _points(logs["_blind"], "val", "acc_at_05")),
        ],
        rows=_rows(result),
        commands=[
            ("Find something in an image with this model:", f'plvl predict {best} IMAGE "the red circle"'),
            (
                "Score it again, by both protocols:",
                f"plvl evaluate {best} --data.root {data.root} --split test --protocol all",
            ),
            (
                "Draw figures like the paper's 5 to 7:",
                f"plvl figures {best} --data.root {data.root} --split test --output figures",
            ),
            (
                "Build RefCOCO from the REFER release:",
                "plvl data build refcoco_unc BUILT --refer REFER --images COCO",
            ),
            (
                "Train as the paper does (needs a GPU and the start weights; see the README):",
                "accelerate launch -m plvl train refcoco_unc --data.root BUILT --model.vision-pretrained VIT "
                "--model.text-pretrained BERT --optim.precision bf16",
            ),
        ],
        footnote=(
            f"Sentences: {splits['train']:,} train, {splits['val']:,} val, {splits['test']:,} test. "
            f"{result['val']['paper']['protocol']}. {result['val']['definition']}. Both models: best of the "
            f"validations by the mean of Acc@0.5 and mask mIoU. Seed {recipe.run.seed}. Run folder: {result['run']}"
        ),
    )


def _examples(models: dict[str, PLVL], rows: Any) -> list[Example]:
    """Two sentences about each of a few images, about different objects."""
    by_image: dict[str, list[int]] = {}
    for index, image in enumerate(rows["image_id"]):
        by_image.setdefault(image, []).append(index)
    groups = list(by_image.values())
    chosen = [indices for indices in groups[:: max(1, len(groups) * 2 // SHOWN)] if len(indices) > 2]
    return [_example(models, rows[index]) for indices in chosen for index in (indices[0], indices[-1])][
        :SHOWN
    ]


def _example(models: dict[str, PLVL], row: dict[str, Any]) -> Example:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the blind model reads nothing
        read, unread = (predict(model, load_image(row), [row["expression"]])[0] for model in models.values())
    image, truth = read.image, load_mask(row)
    assert truth is not None
    assert read.mask is not None
    assert read.score_map is not None
    union = np.logical_or(truth, read.mask).sum()
    return Example(
        row["expression"],
        float(np.logical_and(truth, read.mask).sum() / union) if union else 1.0,
        [
            ("image", image),
            ("truth", draw_target(image, row["box_xyxy"], truth)),
            ("PLVL", draw_target(image, read.box_xyxy, read.mask)),
            ("centre score", heat_map(read.score_map, image.size)),
            ("language-blind", draw_target(image, unread.box_xyxy, unread.mask)),
        ],
    )


def _rows(result: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    rows = []
    for split in ("val", "test"):
        read, unread = result[split]["paper"], result[f"{split}_blind"]["paper"]
        for key, title in {**METRICS, "oiou": "mask oIoU", "box_miou": "box mIoU"}.items():
            gain = f"{100 * (read[key] - unread[key]):+.1f}"
            rows.append((f"{split}: {title}", as_percent(read[key]), as_percent(unread[key]), gain))
    return rows


def _records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def _points(records: list[dict[str, Any]], kind: str, metric: str) -> list[tuple[float, float]]:
    return [(record["step"], record[metric]) for record in records if record["kind"] == kind]


def run(options: DemoOptions) -> int:
    """`plvl demo`: 0, or 1 if the model does not beat the language-blind one on val by `MARGIN`."""
    if options.steps < 0:
        raise UserError(f"--steps {options.steps}: give a positive number, or 0 for the recipe's")
    result = demo(options.output, steps=options.steps, seed=options.seed)
    for split in ("val", "test"):
        metrics = ", ".join(
            f"{title} {as_percent(result[split]['paper'][key])} "
            f"(language-blind {as_percent(result[f'{split}_blind']['paper'][key])})"
            for key, title in METRICS.items()
        )
        print(f"{split}: {metrics}")
    print(f"trained in {sum(result['seconds'].values()):.0f} s; model: {result['run'] / 'best'}")
    print(f"page: {result['page'].resolve()}")
    passed = beats_blind(result)
    state = "reached" if passed else "failed"
    margins = " and ".join(f"{100 * margin:.0f}" for margin in MARGIN.values())
    print(f"{state}: Acc@0.5 and mask mIoU on val must beat the language-blind model's by {margins} points")
    return 0 if passed else 1


@dataclass(frozen=True)
class Example:
    """One sentence about one image, and drawings of one size with their titles."""

    sentence: str
    miou: float
    images: Sequence[tuple[str, Image.Image]]


@dataclass(frozen=True)
class Page:
    """The page of `plvl demo`: one HTML file that needs nothing else, neither scripts nor a network."""

    headline: str
    summary: str
    metrics: Sequence[tuple[str, str, str]]
    """(label, value, what it is compared with)"""
    examples: Sequence[Example]
    losses: Sequence[Curve]
    accuracies: Sequence[Curve]
    """Val Acc@0.5 as a fraction by step."""
    rows: Sequence[tuple[str, str, str, str]]
    """(metric, PLVL, language-blind, difference in points)"""
    commands: Sequence[tuple[str, str]]
    """(what it does, command)"""
    footnote: str

    def render(self) -> str:
        """The whole file."""
        accuracy = chart(self.accuracies, top=1.0, percent=True)
        charts = (
            f'<div class="charts"><figure>{chart(self.losses)}<figcaption>Loss by step{keys(self.losses)}'
            f"</figcaption></figure><figure>{accuracy}<figcaption>Validation Acc@0.5 by step"
            f"{keys(self.accuracies)}</figcaption></figure></div>"
        )
        rows = [tuple(map(pages.text, row)) for row in self.rows]
        body = [
            pages.numbers(self.metrics),
            pages.section("Sentences about scenes it never saw", *map(_article, self.examples)),
            pages.section("Training", charts),
            pages.section(
                "With and without reading the sentences",
                pages.table(("metric", "PLVL", "language-blind", "points"), rows),
            ),
            pages.section("Go on", pages.commands(self.commands)),
        ]
        return pages.page(self.headline, self.summary, body, self.footnote)


def _article(example: Example) -> str:
    heading = f"{pages.text(example.sentence)} <span>mask IoU {100 * example.miou:.0f} %</span>"
    return f"<article><h3>{heading}</h3>{pages.images(example.images, example.sentence)}</article>"
