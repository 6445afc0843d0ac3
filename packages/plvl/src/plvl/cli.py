"""Command line: `plvl VERB ...`. Each verb imports its module only when it is called."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from functools import partial

from papers_shared.cli import choose_recipe, parse, run_verbs

ABOUT = (
    "Progressive Language-guided Visual Learning: the box and the mask of what a sentence means in an image."
)
USAGE = {
    "train": "train a recipe:            plvl train refcocog_umd --data.root BUILT",
    "evaluate": "score a model on a split:  plvl evaluate runs/refcocog_umd/best --data.root BUILT --split test",
    "predict": 'find what sentences mean:  plvl predict MODEL photo.jpg "the man in the blue shirt"',
    "app": "a page in the browser:     plvl app MODEL",
    "data": "build, convert, check, toy: plvl data build --help",
    "convert": "import checkpoints:        plvl convert checkpoint.pth MODEL --vocabulary vocab.txt",
    "export": "write ONNX, torch.export:  plvl export MODEL --output model.onnx",
    "figures": "draw the paper's figures:  plvl figures MODEL --data.root BUILT --output figures",
    "demo": "see all of it in minutes:  plvl demo",
}
DATA_ACTIONS = ("build", "convert", "check", "toy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; a user's mistake ends with one sentence on stderr and exit code 2."""
    own = {"train": _train, "data": _data}
    verbs = {verb: (line, own.get(verb, partial(_verb, verb))) for verb, line in USAGE.items()}
    return run_verbs("plvl", ABOUT, verbs, arguments)


def _verb(verb: str, arguments: list[str]) -> int:
    import plvl.options

    options = parse(getattr(plvl.options, f"{verb.capitalize()}Options"), arguments, f"plvl {verb}")
    return importlib.import_module(f"plvl.{verb}").run(options)


def _train(arguments: list[str]) -> int:
    from plvl.config import Recipe
    from plvl.recipes import RECIPES

    recipe = choose_recipe("plvl", RECIPES, Recipe, arguments)
    if recipe is None:
        return 0 if arguments else 2
    from plvl.train import train

    folder = train(recipe)
    if int(os.environ.get("RANK", "0")) == 0:
        kept = ", ".join(f"{path.name}/" for path in sorted(folder.glob("best*"))) or "none chosen"
        print(f"done: {folder} (model folders: {kept}, last/)")
    return 0


def _data(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in DATA_ACTIONS:
        print(f"usage: plvl data {{{','.join(DATA_ACTIONS)}}} ...  (`plvl data build --help`)")
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    import plvl.options

    action, rest = arguments[0], arguments[1:]
    kind = getattr(plvl.options, f"Data{action.capitalize()}Options")
    options = parse(kind, rest, f"plvl data {action}")
    commands = importlib.import_module("plvl.data.commands")
    return getattr(commands, f"run_{action}")(options)
