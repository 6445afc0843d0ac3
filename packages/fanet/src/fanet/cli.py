"""Command line: `fanet VERB ...`. Each verb imports its module only when it is called."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from papers_shared.cli import choose_recipe, parse, run_verbs

ABOUT = "Feature Amplification Network: semantic segmentation in cluttered, translucent scenes."
USAGE = {
    "train": "train a recipe:            fanet train zerowaste_f --data.root ZEROWASTE",
    "evaluate": "score a model on a split:  fanet evaluate runs/zerowaste_f/best --data.root ZEROWASTE",
    "predict": "segment pictures:          fanet predict MODEL photo.jpg --output out",
    "data": "check, cache, toy:         fanet data check ZEROWASTE",
    "convert": "import the authors' files: fanet convert checkpoint.pth.tar MODEL",
    "export": "write ONNX, torch.export:  fanet export MODEL --output model.onnx --format onnx",
    "figures": "draw the paper's figures:  fanet figures MODEL --images frame.png --output figures",
    "demo": "see all of it in a minute: fanet demo",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; a user's mistake ends with one sentence on stderr and exit code 2."""
    own = {"train": _train, "data": _data}
    verbs = {verb: (line, own.get(verb, partial(_verb, verb))) for verb, line in USAGE.items()}
    return run_verbs("fanet", ABOUT, verbs, arguments)


def _verb(verb: str, arguments: list[str]) -> int:
    import fanet.options

    options = parse(getattr(fanet.options, f"{verb.capitalize()}Options"), arguments, f"fanet {verb}")
    return importlib.import_module(f"fanet.{verb}").run(options)


def _train(arguments: list[str]) -> int:
    from fanet.config import RECIPES, Recipe

    recipe = choose_recipe("fanet", RECIPES, Recipe, arguments)
    if recipe is None:
        return 0 if arguments else 2
    from fanet.train import train

    folder = train(recipe)
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"done: {folder} (best/ and last/ are model folders)")
    return 0


def _data(arguments: list[str]) -> int:
    actions = ("check", "cache", "toy")
    if not arguments or arguments[0] not in actions:
        print(f"usage: fanet data {{{','.join(actions)}}} ...  (`fanet data check --help`)")
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    action, rest = arguments[0], arguments[1:]
    from fanet.options import DataCacheOptions, DataCheckOptions, DataToyOptions

    if action == "check":
        options = parse(DataCheckOptions, rest, "fanet data check")
        from fanet.data import check
        from papers_shared.runs import write_json

        data = replace(options.data, root=options.root or options.data.root)
        report = check(data)
        report.print()
        if options.json:
            write_json(Path(options.json), report.to_json())
        return report.exit_code
    if action == "cache":
        options = parse(DataCacheOptions, rest, "fanet data cache")
        from fanet.cache import PixelCache

        cache = PixelCache(options.folder, 0.0)
        print(cache.describe())
        if options.clear:
            cache.clear()
            print("cleared")
        return 0
    options = parse(DataToyOptions, rest, "fanet data toy")
    from fanet.toy import write_zerowaste

    write_zerowaste(Path(options.root), seed=options.seed)
    print(f"written: {options.root}")
    return 0
