"""Command line: `fanet VERB ...`. Each verb imports its module only when it is called."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from functools import partial

from papers_shared.cli import choose_recipe, parse, run_verbs

ABOUT = "Feature Amplification Network: semantic segmentation in cluttered, translucent scenes."
USAGE = {
    "train": "train a recipe:             fanet train zerowaste_f --data.root ZEROWASTE",
    "evaluate": "score a model on a split:   fanet evaluate runs/zerowaste_f/best --data.root ZEROWASTE",
    "predict": "segment images:             fanet predict MODEL photo.jpg --output out",
    "app": "a page in the browser:      fanet app MODEL",
    "data": "check, convert, cache, toy: fanet data check ZEROWASTE",
    "convert": "import official files:      fanet convert checkpoint.pth.tar MODEL",
    "export": "write ONNX, torch.export:   fanet export MODEL --output model.onnx",
    "figures": "draw the paper's figures:   fanet figures MODEL --images photo.jpg --output figures",
    "demo": "see all of it in a minute:  fanet demo",
}
DATA_ACTIONS = ("check", "convert", "cache", "toy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; a user's mistake ends with one sentence on stderr and exit code 2."""
    own = {"train": _train, "data": _data}
    verbs = {verb: (line, own.get(verb, partial(_verb, verb))) for verb, line in USAGE.items()}
    return run_verbs("fanet", ABOUT, verbs, arguments)


def _verb(verb: str, arguments: list[str]) -> int:
    import fanet.options

    given = parse(getattr(fanet.options, f"{verb.capitalize()}Options"), arguments, f"fanet {verb}")
    return importlib.import_module(f"fanet.{verb}").run(given)


def _train(arguments: list[str]) -> int:
    from fanet.config import Recipe
    from fanet.recipes import RECIPES

    recipe = choose_recipe("fanet", RECIPES, Recipe, arguments)
    if recipe is None:
        return 0 if arguments else 2
    from fanet.train import train

    folder = train(recipe)
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"done: {folder} (best/ and last/ are model folders)")
    return 0


def _data(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in DATA_ACTIONS:
        print(f"usage: fanet data {{{','.join(DATA_ACTIONS)}}} ...  (`fanet data check --help`)")
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    action, rest = arguments[0], arguments[1:]
    import fanet.options

    given = parse(getattr(fanet.options, f"Data{action.capitalize()}Options"), rest, f"fanet data {action}")
    return getattr(importlib.import_module("fanet.data.commands"), f"run_{action}")(given)
