"""Command line: `cabl-cgsr VERB ...`. Each verb imports its module only when it is called."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from functools import partial

from papers_shared.cli import choose_recipe, parse, run_verbs

ABOUT = "CABL and CGSR: is this image manipulated, and where; learned from image labels alone."
USAGE = {
    "train": "train a recipe:            cabl-cgsr train casia2 --data.root CASIA2",
    "evaluate": "I-AUC and P-F1 of models:  cabl-cgsr evaluate runs/casia2/best --data.root CASIA1",
    "robustness": "P-F1 under JPEG and blur:  cabl-cgsr robustness MODEL --data.root CASIA1",
    "predict": "judge images:              cabl-cgsr predict MODEL photo.jpg",
    "app": "a page in the browser:     cabl-cgsr app MODEL",
    "data": "check, convert, toy:       cabl-cgsr data check CASIA2",
    "convert": "import checkpoints:        cabl-cgsr convert Conformer_small_patch16.pth MODEL",
    "export": "write ONNX, torch.export:  cabl-cgsr export MODEL --output model.onnx",
    "figures": "draw the paper's panel:    cabl-cgsr figures MODEL --images a.jpg",
    "demo": "see all of it in minutes:  cabl-cgsr demo",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; a user's mistake ends with one sentence on stderr and exit code 2."""
    own = {"train": _train, "data": _data, "convert": _convert}
    verbs = {verb: (line, own.get(verb, partial(_verb, verb))) for verb, line in USAGE.items()}
    return run_verbs("cabl-cgsr", ABOUT, verbs, arguments)


def _verb(verb: str, arguments: list[str]) -> int:
    import cabl_cgsr.options

    kind = getattr(cabl_cgsr.options, f"{verb.capitalize()}Options")
    options = parse(kind, arguments, f"cabl-cgsr {verb}")
    return importlib.import_module(f"cabl_cgsr.{verb}").run(options)


def _train(arguments: list[str]) -> int:
    from cabl_cgsr.config import Recipe
    from cabl_cgsr.recipes import RECIPES

    recipe = choose_recipe("cabl-cgsr", RECIPES, Recipe, arguments)
    if recipe is None:
        return 0 if arguments else 2
    from cabl_cgsr.train import train

    folder = train(recipe)
    if int(os.environ.get("RANK", "0")) == 0:
        models = "best/ and last/ are model folders" if recipe.data.val_share else "last/ is a model folder"
        print(f"done: {folder} ({models})")
    return 0


def _convert(arguments: list[str]) -> int:
    from cabl_cgsr.options import ConvertOptions

    options = parse(ConvertOptions, arguments, "cabl-cgsr convert")
    from cabl_cgsr.config import CablConfig
    from cabl_cgsr.convert import convert

    report = convert(options.source, options.output, CablConfig(operator=options.operator), options.sha256)
    report.print()
    return report.exit_code


def _data(arguments: list[str]) -> int:
    actions = ("check", "convert", "toy")
    if not arguments or arguments[0] not in actions:
        print(f"usage: cabl-cgsr data {{{','.join(actions)}}} ...  (`cabl-cgsr data check --help`)")
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    action, rest = arguments[0], arguments[1:]
    import cabl_cgsr.options

    kind = getattr(cabl_cgsr.options, f"Data{action.capitalize()}Options")
    options = parse(kind, rest, f"cabl-cgsr data {action}")
    return getattr(importlib.import_module("cabl_cgsr.data.commands"), f"run_{action}")(options)
