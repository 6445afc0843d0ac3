"""Command line: `fanet VERB ...`. Each verb imports its module only when it is called."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from papers_shared.errors import UserError

VERBS = {
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
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    verb, rest = arguments[0], arguments[1:]
    try:
        if verb == "train":
            return _train(rest)
        if verb == "data":
            return _data(rest)
        if verb in VERBS:
            return _verb(verb, rest)
        raise UserError(f"no verb '{verb}': choose one of {', '.join(VERBS)}.")
    except UserError as error:
        rank = f"[process {os.environ['RANK']}] " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
        print(f"{rank}error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the newest checkpoint is kept and the same command resumes", file=sys.stderr)
        return 130


def _usage() -> str:
    lines = [f"  {verb:<9} {text}" for verb, text in VERBS.items()]
    return "\n".join(
        [
            "usage: fanet VERB ...\n",
            "Feature Amplification Network: semantic segmentation in cluttered, translucent scenes.\n",
            *lines,
            "\n`fanet VERB --help` lists the options of a verb. Exit codes: 0 done, 1 findings, 2 wrong use.",
        ]
    )


def _verb(verb: str, arguments: list[str]) -> int:
    import fanet.options

    options = _parse(getattr(fanet.options, f"{verb.capitalize()}Options"), arguments, f"fanet {verb}")
    return importlib.import_module(f"fanet.{verb}").run(options)


def _train(arguments: list[str]) -> int:
    from fanet.config import RECIPES, Recipe
    from papers_shared.dataclass_json import read_dataclass

    if not arguments or arguments[0].startswith("-"):
        lines = [f"  {name:<22} {(r.__doc__ or '').splitlines()[0]}" for name, r in RECIPES.items()]
        print(
            "\n".join(
                ["usage: fanet train RECIPE [options], or: fanet train RUN/config.json [options]\n", *lines]
            )
        )
        print("\n`fanet train RECIPE --help` lists the options.")
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    name, rest = arguments[0], arguments[1:]
    if name in RECIPES:
        default = RECIPES[name]()
        about = textwrap.dedent(RECIPES[name].__doc__ or "")
    elif name.endswith(".json"):
        default, about = read_dataclass(Recipe, name), f"The run described in {name}."
    else:
        raise UserError(f"no recipe '{name}': choose one of {', '.join(RECIPES)}, or a run's config.json.")
    recipe = _parse(Recipe, rest, f"fanet train {name}", default=default, description=about)
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
        options = _parse(DataCheckOptions, rest, "fanet data check")
        from fanet.data import check
        from papers_shared.runs import write_json

        data = replace(options.data, root=options.root or options.data.root)
        report = check(data)
        report.print()
        if options.json:
            write_json(Path(options.json), report.to_json())
        return report.exit_code
    if action == "cache":
        options = _parse(DataCacheOptions, rest, "fanet data cache")
        from fanet.cache import PixelCache

        cache = PixelCache(options.folder, 0.0)
        print(cache.describe())
        if options.clear:
            cache.clear()
            print("cleared")
        return 0
    options = _parse(DataToyOptions, rest, "fanet data toy")
    from fanet.toy import write_zerowaste

    write_zerowaste(Path(options.root), seed=options.seed)
    print(f"written: {options.root}")
    return 0


def _parse(kind: type, arguments: list[str], prog: str, **more: Any) -> Any:
    import tyro

    return tyro.cli(kind, args=arguments, prog=prog, **more)
