"""All of the package in minutes: spliced images, training on their labels, evaluation, and a page that shows them.

The images are written in CASIA's own layout and read by the real readers; training is the recipe `toy` and never
opens a mask; masks serve the test metrics alone. GrabCut refines.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cabl_cgsr.config import DataConfig, PromptVariant, Recipe
from cabl_cgsr.data import load_image, load_mask, open_set, training_split
from cabl_cgsr.drawing import draw_map_over, draw_mask, draw_prompts
from cabl_cgsr.evaluate import evaluate
from cabl_cgsr.inference import predict
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.recipes import toy
from cabl_cgsr.scores import COARSE, definitions, number
from cabl_cgsr.toy import PHOTOGRAPHS, write_casia
from cabl_cgsr.train import train
from papers_shared import pages
from papers_shared.files import write_text
from papers_shared.pages import Curve, chart, keys
from papers_shared.sam import GrabCut

if TYPE_CHECKING:
    from cabl_cgsr.options import DemoOptions

HEADLINE = "Is it manipulated, and where"
CHANCE = 0.5
MARGIN = 0.2
"""The demo fails unless the test I-AUC beats chance by this much."""
SHOWN = 6


def demo(output: str | Path, *, steps: int = 0, seed: int = 0) -> dict[str, Any]:
    """Make the images, train, evaluate and write `output`/index.html.

    The images and the run lie in `output` under names that hold seed and steps: a demo that was interrupted
    goes on where its newest checkpoint is.

    Returns: `page` (Path), `run` (Path), `seconds` of training, and of the test set `scores` (see `evaluate`) and
        `everything`, the P-F1 of marking every pixel.
    """
    output = Path(output)
    pages.check_page(output / "index.html", HEADLINE)
    recipe = _recipe(output, steps, seed)
    write_casia(Path(recipe.data.root).parent, seed=seed)
    began = time.perf_counter()
    run = train(recipe)
    seconds = time.perf_counter() - began

    localizer = Localizer.from_pretrained(run / "best")
    test = DataConfig(root=str(Path(recipe.data.root).parent / "CASIA1"), layout="casia1", workers=0)
    rows, refiner = open_set(test, masks=True), GrabCut()
    variants: tuple[PromptVariant, ...] = ("point", "box", "box_point")
    scores = evaluate(localizer, rows, refiner=refiner, variants=variants, progress=True)
    result: dict[str, Any] = {
        "run": run,
        "seconds": seconds,
        "scores": scores,
        "everything": everything_baseline(rows),
        "page": output / "index.html",
    }
    write_text(result["page"], _page(localizer, recipe, test, rows, result))
    return result


def everything_baseline(rows: Any) -> float:
    """P-F1 of calling every pixel of every image manipulated: what a map must beat to say where."""
    f1 = []
    for row in rows:
        if row["label"]:
            share = load_mask(row).mean()
            f1.append(2 * share / (1 + share))
    return float(np.mean(f1))


def _recipe(output: Path, steps: int, seed: int) -> Recipe:
    recipe = toy()
    if steps:
        optim = replace(recipe.optim, steps=steps, warmup_steps=min(recipe.optim.warmup_steps, steps // 5))
        recipe = replace(recipe, optim=optim)
    steps = recipe.optim.steps
    data = replace(recipe.data, root=str(output / f"images-seed{seed}" / "CASIA2"), layout="casia2")
    intervals = replace(
        recipe.run,
        seed=seed,
        output=str(output / f"run-seed{seed}-steps{steps}"),
        eval_every=max(1, steps // 5),
    )
    return replace(recipe, data=data, run=intervals)


def _page(localizer: Localizer, recipe: Recipe, test: DataConfig, rows: Any, result: dict[str, Any]) -> str:
    run, scores = result["run"], result["scores"]
    metrics, intervals = scores["metrics"], scores["intervals_95"]
    parameters = sum(parameter.numel() for parameter in localizer.parameters())
    splits = {split: len(training_split(recipe.data, split)) for split in ("train", "val")}
    lead = (
        f"A small dual-branch network ({parameters / 1e6:.2f} M weights) learned from the labels of "
        f"{splits['train']} images, authentic or manipulated, without ever seeing a mask, and now also says where. "
        "Everything here was made on this machine by cabl-cgsr demo; the metrics say that the parts work "
        "together, not how well the method does on CASIA."
    )
    low, high = intervals["i_auc"] or (None, None)
    body = [
        pages.numbers(
            [
                (
                    "Test I-AUC",
                    number(metrics["i_auc"]),
                    f"chance 0.5; 95 % {number(low)} to {number(high)}",
                ),
                (
                    "P-F1, coarse mask",
                    number(metrics[f"p_f1.{COARSE}"]),
                    f"everything marked: {number(result['everything'])}",
                ),
                ("P-F1, CGSR with GrabCut", number(metrics["p_f1.box_point"]), "box and both points"),
                (
                    "Training",
                    f"{recipe.optim.steps} steps",
                    f"of {recipe.optim.batch_size} images; {result['seconds']:.0f} s since it was last started",
                ),
            ]
        ),
        pages.section("Images it never saw", *_gallery(localizer, rows)),
        pages.section("Training", _charts(run, recipe)),
        pages.section("What refines, and with which prompts", _prompt_table(metrics, intervals)),
        pages.section("Go on", pages.commands(_commands(run, test))),
    ]
    licences = "; ".join(
        f"{photo.file} ({photo.licence})" for split in PHOTOGRAPHS.values() for photo in split
    )
    note = (
        f"Test set: {scores['images']} images, {scores['manipulated']} of them manipulated, made from other "
        f"photographs than the {splits['train']} for training and the {splits['val']} for choosing the best weights. "
        f"{scores['protocol']}. "
        + ". ".join(f"{name}: {meaning}" for name, meaning in definitions("paper").items())
        + f". Refiner: grabcut. Seed {recipe.run.seed}. Run folder: {run}. Photographs, all from scikit-image's "
        f"wheel: {licences}."
    )
    return pages.page(HEADLINE, lead, body, note)


def _gallery(localizer: Localizer, rows: Any) -> list[str]:
    """Manipulated images at even distances, and one authentic one."""
    manipulated = [index for index, label in enumerate(rows["label"]) if label]
    shown = [*manipulated[:: -(-len(manipulated) // (SHOWN - 1))], list(rows["label"]).index(0)]
    refiner, articles = GrabCut(), []
    for index in shown:
        row = rows[index]
        image, truth = Image.fromarray(load_image(row)), load_mask(row)
        found = predict(localizer, image, refiner=refiner)
        last = "refined mask" if found.refiner else f"not refined: {found.not_refined}"
        titled = [
            ("image", image),
            ("truth", draw_mask(image, truth)),
            (f"activation map, {localizer.config.cam.source}", draw_map_over(image, found.cam)),
            ("coarse mask and prompts", draw_prompts(draw_mask(image, found.coarse_mask), found.prompts)),
            (last, draw_mask(image, found.mask) if found.manipulated else image),
        ]
        label = "manipulated" if row["label"] else "authentic"
        caption = f"{pages.text(row['name'])} <span>{label}; judged {found.verdict}, {found.score:.2f}</span>"
        articles.append(f"<article><h3>{caption}</h3>{pages.images(titled, row['name'])}</article>")
    return articles


def _charts(run: Path, recipe: Recipe) -> str:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    steps = recipe.optim.steps
    loss = [
        Curve(name, style, pages.smooth([(r["step"], r[key]) for r in records if r["kind"] == "train"]))
        for name, style, key in (("CABL branch", "a", "conv_loss"), ("Trans branch", "dashed", "trans_loss"))
    ]
    area = [
        Curve("I-AUC", "a", [(r["step"], r["i_auc"]) for r in records if r["kind"] == "val"]),
        Curve("chance", "dashed", [(0, CHANCE), (steps, CHANCE)]),
    ]
    return (
        f'<div class="charts"><figure>{chart(loss)}<figcaption>Loss by step, smoothed{keys(loss)}</figcaption>'
        f"</figure><figure>{chart(area, top=1.0)}<figcaption>I-AUC of held-out images{keys(area)}"
        "</figcaption></figure></div>"
    )


def _prompt_table(metrics: dict[str, float | None], intervals: dict[str, Any]) -> str:
    titles = {
        COARSE: "none: the coarse mask",
        "point": "point: the highest",
        "box": "box",
        "box_point": "box and both points",
    }
    rows = []
    for output, title in titles.items():
        low, high = intervals[f"p_f1.{output}"] or (None, None)
        rows.append([title, number(metrics[f"p_f1.{output}"]), f"{number(low)} to {number(high)}"])
    return pages.table(["prompt for GrabCut", "P-F1", "95 % interval"], rows)


def _commands(run: Path, test: DataConfig) -> list[tuple[str, str]]:
    return [
        (
            "Judge an image with this model:",
            f"cabl-cgsr predict {run / 'best'} IMAGE",
        ),
        (
            "Score it again under every published protocol:",
            f"cabl-cgsr evaluate {run / 'best'} --data.root {test.root} --protocol all",
        ),
        (
            "See what JPEG compression and blur do to it (Fig. 5 of the paper):",
            f"cabl-cgsr robustness {run / 'best'} --data.root {test.root}",
        ),
        ("Check a copy of CASIAv2:", "cabl-cgsr data check CASIA2"),
        (
            "Train as the paper does (needs a GPU and the ImageNet weights of Conformer-S; see the README):",
            "accelerate launch -m cabl_cgsr train casia2 --data.root CASIA2 --model.pretrained IMAGENET_FOLDER",
        ),
    ]


def run(options: DemoOptions) -> int:
    """`cabl-cgsr demo`: 0, or 1 if the test I-AUC does not beat chance by `MARGIN`."""
    result = demo(options.output, steps=options.steps, seed=options.seed)
    metrics = result["scores"]["metrics"]
    print(f"test I-AUC {number(metrics['i_auc'])} (chance {CHANCE}, needed {CHANCE + MARGIN})")
    print(
        f"P-F1 of the coarse mask {number(metrics[f'p_f1.{COARSE}'])}, refined by grabcut "
        f"{number(metrics['p_f1.box_point'])}, everything marked {number(result['everything'])}"
    )
    print(f"trained, {result['seconds']:.0f} s since it was last started; model: {result['run'] / 'best'}")
    print(f"page: {result['page'].resolve()}")
    if metrics["i_auc"] < CHANCE + MARGIN:
        print(f"failed: the test I-AUC must beat chance by {MARGIN}")
        return 1
    return 0
