"""All of the package in a minute: toy scenes, training, evaluation, and one HTML page that shows them.

The scenes are written in ZeroWaste-f's own layout and read by the real reader; training is the recipe `toy`. The page
needs nothing else, neither scripts nor a network.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fanet.config import Recipe
from fanet.data import load_image, load_mask, open_split
from fanet.drawing import class_palette
from fanet.evaluate import evaluate
from fanet.inference import predict
from fanet.modeling.segmenter import Segmenter
from fanet.recipes import toy
from fanet.toy import write_zerowaste
from fanet.train import train
from papers_shared import pages
from papers_shared.drawing import overlay
from papers_shared.files import write_text
from papers_shared.metrics import ConfusionMatrix
from papers_shared.pages import Curve, as_percent, chart, chips, keys, smooth
from papers_shared.types import RGB

if TYPE_CHECKING:
    from fanet.options import DemoOptions

MARGIN = 0.25
"""The demo fails unless val and test mIoU beat the all-background baseline by this much (fractions)."""

MISSED, FALSE_ALARM, CONFUSED = (240, 120, 20), (60, 130, 255), (230, 40, 150)
HEADLINE = "FANet on a toy conveyor belt"
SHOWN = 6
"""Scenes on the page."""


def demo(output: str | Path, *, steps: int = 0, seed: int = 0) -> dict[str, Any]:
    """Make the scenes, train, evaluate and write `output`/index.html.

    The scenes and the run lie in `output` under names that hold seed and steps: a demo that was interrupted
    goes on where its newest checkpoint is.

    Returns: `page` (Path), `run` (Path), `seconds` of training and, as {"miou", "pixel_acc", "iou"}, `val`,
        `test`, `val_baseline` and `test_baseline`.
    """
    output = Path(output)
    pages.check_page(output / "index.html", HEADLINE)
    recipe = _recipe(output, steps, seed)
    write_zerowaste(Path(recipe.data.root), seed=seed)
    began = time.perf_counter()
    run = train(recipe)
    seconds = time.perf_counter() - began

    segmenter = Segmenter.from_pretrained(run / "best")
    result: dict[str, Any] = {"run": run, "seconds": seconds}
    for split in ("val", "test"):
        rows = open_split(recipe.data, split)
        result[split] = evaluate(segmenter, rows)
        result[f"{split}_baseline"] = background_baseline(rows, segmenter.config.num_classes)
    result["page"] = output / "index.html"
    write_text(result["page"], page_of(segmenter, recipe, open_split(recipe.data, "test"), result))
    return result


def background_baseline(rows: Any, num_classes: int) -> dict[str, Any]:
    """The scores of calling every pixel background."""
    confusion = ConfusionMatrix(num_classes)
    for row in rows:
        labels = load_mask(row, num_classes)
        confusion.update(np.zeros_like(labels), labels)
    scores = confusion.compute()
    return {"miou": scores.miou, "pixel_acc": scores.pixel_acc, "iou": list(scores.iou)}


def error_map(image: Image.Image, truth: np.ndarray, prediction: np.ndarray) -> Image.Image:
    """The image, pale and grey, with wrong pixels in colour: missed, false alarm, or the wrong class."""
    grey = np.asarray(image.convert("L").convert("RGB"), np.float32) * 0.45 + 120
    drawn = grey.astype(np.uint8)
    wrong = (prediction != truth) & (truth != 255)
    drawn[wrong] = CONFUSED
    drawn[wrong & (prediction == 0)] = MISSED
    drawn[wrong & (truth == 0)] = FALSE_ALARM
    return Image.fromarray(drawn)


def _recipe(output: Path, steps: int, seed: int) -> Recipe:
    recipe = toy()
    if steps:
        optim = replace(recipe.optim, steps=steps, warmup_steps=min(recipe.optim.warmup_steps, steps // 5))
        recipe = replace(recipe, optim=optim)
    steps = recipe.optim.steps
    data = replace(
        recipe.data, root=str(output / f"scenes-seed{seed}"), layout="zerowaste", cache=str(output / "cache")
    )
    intervals = replace(
        recipe.run,
        seed=seed,
        output=str(output / f"run-seed{seed}-steps{steps}"),
        eval_every=max(1, steps // 5),
    )
    return replace(recipe, data=data, run=intervals)


def page_of(segmenter: Segmenter, recipe: Recipe, rows: Any, result: dict[str, Any]) -> str:
    """The page as HTML, from what `demo` returns and the rows of the test split."""
    config, run, data = segmenter.config, result["run"], recipe.data
    palette = class_palette(config.class_names, config.palette)
    test, baseline, val = result["test"], result["test_baseline"], result["val"]
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    loss = [(r["step"], r["loss"]) for r in records if r["kind"] == "train"]
    miou = [(r["step"], r["miou"]) for r in records if r["kind"] == "val"]
    flat = result["val_baseline"]["miou"]
    parameters = sum(parameter.numel() for parameter in segmenter.parameters())
    splits = {name: len(open_split(data, name)) for name in ("train", "val", "test")}
    losses = [Curve("each step", "faint", loss), Curve("smoothed", "a", smooth(loss))]
    background = Curve("all background", "dashed", [(0, flat), (recipe.optim.steps, flat)])
    mious = [Curve("FANet", "a", miou), background]
    charts = (
        f'<div class="charts"><figure>{chart(losses)}<figcaption>Loss by step{keys(losses)}</figcaption></figure>'
        f"<figure>{chart(mious, top=1.0, percent=True)}<figcaption>Validation mIoU by step{keys(mious)}"
        "</figcaption></figure></div>"
    )
    named = [
        (name.replace("_", " "), colour) for name, colour in zip(config.class_names, palette, strict=True)
    ]
    errors = [("missed", MISSED), ("false alarm", FALSE_ALARM), ("wrong class", CONFUSED)]
    shown = range(0, len(rows), -(-len(rows) // SHOWN))
    training = f"{recipe.optim.steps} steps of {recipe.optim.batch_size}"
    return pages.page(
        HEADLINE,
        f"A small FANet ({parameters / 1e6:.2f} M weights) learned from {splits['train']} procedural"
        " scenes to find deformable, overlapping and translucent waste in clutter. Everything here was"
        " made on this machine by fanet demo; the metrics say that the parts work together, not how well"
        " FANet does on ZeroWaste.",
        [
            pages.numbers(
                [
                    ("Test mIoU", _percent(test["miou"]), f"all background: {_percent(baseline['miou'])}"),
                    (
                        "Test pixel accuracy",
                        _percent(test["pixel_acc"]),
                        f"all background: {_percent(baseline['pixel_acc'])}",
                    ),
                    ("Validation mIoU", _percent(val["miou"]), f"all background: {_percent(flat)}"),
                    ("Training", f"{result['seconds']:.0f} s", training),
                ]
            ),
            pages.section(
                "Scenes it never saw",
                f'<p class="chips">{chips(named)}</p>',
                f'<p class="chips">In the error map: {chips(errors)}</p>',
                *(_scene(segmenter, rows[index], palette) for index in shown),
            ),
            pages.section("Training", charts),
            pages.section("IoU by class, test split", _table(named, test["iou"], baseline["iou"])),
            pages.section("Go on", pages.commands(_commands(run, data.root))),
        ],
        f"Test split, {splits['test']} scenes (train {splits['train']}, val {splits['val']}). Protocol:"
        f" {test['protocol']}. {test['definition']}. Best of the validations by mIoU."
        f" Seed {recipe.run.seed}. Run folder: {run}",
    )


def _scene(segmenter: Segmenter, row: dict[str, Any], palette: tuple[RGB, ...]) -> str:
    """One scene of the gallery: image, truth, prediction and errors side by side."""
    pixels, classes = load_image(row), segmenter.config.num_classes
    truth, image = load_mask(row, classes), Image.fromarray(pixels)
    mask = predict(segmenter, image).mask
    confusion = ConfusionMatrix(classes)
    confusion.update(mask, truth)

    def painted(labels: np.ndarray) -> Image.Image:
        return overlay(image, np.where(labels == 0, 255, labels), palette, alpha=0.7)

    drawn = [
        ("image", image),
        ("truth", painted(truth)),
        ("prediction", painted(mask)),
        ("errors", error_map(image, truth, mask)),
    ]
    caption = f"{pages.text(row['name'])} <span>mIoU {100 * confusion.compute().miou:.1f} %</span>"
    return f"<article><h3>{caption}</h3>{pages.images(drawn, row['name'])}</article>"


def _table(named: list[tuple[str, RGB]], ious: list[float | None], baselines: list[float | None]) -> str:
    """IoU by class as fractions; None where the class occurs neither in the truth nor in the prediction."""
    body = ""
    for (name, colour), iou, baseline in zip(named, ious, baselines, strict=True):
        bar = f"width:{100 * (iou or 0):.1f}%;background:{pages.css(colour)}"
        body += f'<tr><th scope="row">{chips([(name, colour)])}</th>'
        body += f'<td class="bar"><i style="{bar}"></i></td>'
        body += f"<td>{as_percent(iou)}</td><td>{as_percent(baseline)}</td></tr>"
    head = '<th scope="col">class</th><th class="bar"></th><th scope="col">FANet</th>'
    head += '<th scope="col">all background</th>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _commands(run: Path, root: str) -> list[tuple[str, str]]:
    """(what it does, command)"""
    return [
        ("Segment an image with this model:", f"fanet predict {run / 'best'} IMAGE"),
        (
            "Score it again, with the protocol written beside the metrics:",
            f"fanet evaluate {run / 'best'} --data.root {root} --split test",
        ),
        (
            "See what the feature refinement module does (Fig. 6 of the paper):",
            f"fanet figures {run / 'best'} --images {root}/test/data --masks {root}/test/sem_seg --output figures",
        ),
        ("Check a copy of ZeroWaste-f:", "fanet data check ZEROWASTE"),
        (
            "Train as the paper does (needs a GPU and the ImageNet weights; see the README):",
            "accelerate launch -m fanet train zerowaste_f --data.root ZEROWASTE --model.pretrained IMAGENET_FOLDER",
        ),
    ]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def run(options: DemoOptions) -> int:
    """`fanet demo`: 0, or 1 if the model does not beat the all-background baseline by `MARGIN`."""
    result = demo(options.output, steps=options.steps, seed=options.seed)
    failed = False
    for split in ("val", "test"):
        miou, flat = result[split]["miou"], result[f"{split}_baseline"]["miou"]
        failed |= miou < flat + MARGIN
        print(
            f"{split}: mIoU {_percent(miou)}, pixel accuracy {_percent(result[split]['pixel_acc'])};"
            f" all background: mIoU {_percent(flat)}, pixel accuracy"
            f" {_percent(result[f'{split}_baseline']['pixel_acc'])}"
        )
    print(f"trained in {result['seconds']:.0f} s; model: {result['run'] / 'best'}")
    print(f"page: {result['page'].resolve()}")
    if failed:
        print(
            f"failed: mIoU must beat the all-background baseline by {100 * MARGIN:.0f} points on val and test"
        )
    return 1 if failed else 0
