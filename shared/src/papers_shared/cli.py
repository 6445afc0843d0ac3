"""What the command lines of the packages have in common."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from papers_shared.errors import UserError


def run_verbs(
    program: str,
    about: str,
    verbs: Mapping[str, tuple[str, Callable[[list[str]], int]]],
    arguments: Sequence[str] | None,
) -> int:
    """Run one verb of a command line and return its exit code: 0 done, 1 findings, 2 wrong use, 130 interrupted.

    A user's mistake ends with one sentence on stderr.

    Args:
        verbs: Verb -> (its line of the usage, what takes the remaining arguments and gives the exit code).
        arguments: Of the command line; None: the process's own.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage(program, about, verbs))
        return 0 if arguments else 2
    verb, rest = arguments[0], arguments[1:]
    try:
        if verb not in verbs:
            raise UserError(f"no verb '{verb}': choose one of {', '.join(verbs)}.")
        return verbs[verb][1](rest)
    except UserError as error:
        rank = f"[process {os.environ['RANK']}] " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
        print(f"{rank}error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the newest checkpoint is kept and the same command resumes", file=sys.stderr)
        return 130


def parse(kind: type, arguments: Sequence[str], program: str, **more: Any) -> Any:
    """The dataclass `kind` from the options of a verb; ends the process on `--help` and on a wrong option."""
    import tyro

    return tyro.cli(kind, args=arguments, prog=program, **more)


def choose_recipe(
    program: str, recipes: Mapping[str, Callable[[], Any]], kind: type, arguments: Sequence[str]
) -> Any:
    """The recipe that `PROGRAM train RECIPE|RUN/config.json [options]` describes; None after printing the list.

    Raises:
        UserError: No such recipe, or a file that does not describe one.
    """
    import textwrap

    from papers_shared.dataclass_json import read_dataclass

    if not arguments or arguments[0].startswith("-"):
        width = max(map(len, recipes))
        lines = [f"  {name:<{width}} {(r.__doc__ or '').splitlines()[0]}" for name, r in recipes.items()]
        print(f"usage: {program} train RECIPE [options], or: {program} train RUN/config.json [options]\n")
        print("\n".join(lines))
        print(f"\n`{program} train RECIPE --help` lists the options.")
        return None
    name, rest = arguments[0], arguments[1:]
    if name in recipes:
        default, about = recipes[name](), textwrap.dedent(recipes[name].__doc__ or "")
    elif name.endswith(".json"):
        default, about = read_dataclass(kind, name), f"The run described in {name}."
    else:
        raise UserError(f"no recipe '{name}': choose one of {', '.join(recipes)}, or a run's config.json.")
    return parse(kind, rest, f"{program} train {name}", default=default, description=about)


def _usage(program: str, about: str, verbs: Mapping[str, tuple[str, Callable[[list[str]], int]]]) -> str:
    lines = [f"  {verb:<10} {line}" for verb, (line, _) in verbs.items()]
    codes = (
        f"`{program} VERB --help` lists the options of a verb. Exit codes: 0 done, 1 findings, 2 wrong use."
    )
    return "\n".join([f"usage: {program} VERB ...\n", f"{about}\n", *lines, "", codes])
