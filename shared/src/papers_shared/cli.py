"""What the command lines of the packages have in common."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from papers_shared.entries import first_line
from papers_shared.errors import UserError


def run_verbs(
    program: str,
    about: str,
    verbs: Mapping[str, tuple[str, Callable[[list[str]], int]]],
    arguments: Sequence[str] | None,
) -> int:
    """Run one verb of a command line and return its exit code: 0 done, 1 findings, 2 wrong use, 130 interrupted.

    A user's mistake, and what the operating system refuses (no permission, a full disk, a file where a folder should
    be), end with one sentence on stderr. Letters that the console does not know are printed as their codes.

    Args:
        verbs: Verb -> (its line of the usage, what takes the remaining arguments and gives the exit code).
        arguments: Of the command line; None: the process's own.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage(program, about, verbs))
        return 0 if arguments else 2
    verb, rest = arguments[0], arguments[1:]
    try:
        if verb not in verbs:
            raise UserError(f"no verb '{verb}': choose one of {', '.join(verbs)}.")
        return verbs[verb][1](rest)
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (what is left to print goes nowhere)
        return 1
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        rank = f"[process {os.environ['RANK']}] " if "RANK" in os.environ else ""
        print(f"{rank}error: {sentence}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        resumes = "; the newest checkpoint is kept and the same command resumes" if verb == "train" else ""
        print(f"interrupted{resumes}", file=sys.stderr)
        return 130


def _sentence(error: Exception) -> str | None:
    """What an error says to a user; None for one that neither a user nor the machine causes."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is torch's
        return f"out of memory ({first_line(error, 300)})" if str(error) else "out of memory"
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # of `Path.expanduser`
        return "a path begins with ~ and the name of nobody on this machine: write it out"
    if not isinstance(error, OSError):
        return _of_loader(error)
    if error.errno == errno.ENOSPC:
        return f"the disk is full{_of(error)}: make room, and give the same command again"
    return f"{error.strerror or first_line(error, 300)}{_of(error)}"


def _of_loader(error: Exception) -> str | None:
    """What the end of a loader process says, which torch raises wherever the program is."""
    if not isinstance(error, RuntimeError) or "DataLoader" not in str(error):
        return None
    from papers_shared.loading import worker_failure

    return worker_failure(error)


def _of(error: OSError) -> str:
    return f" ({error.filename})" if error.filename is not None else ""


def parse(kind: type, arguments: Sequence[str], program: str, **more: Any) -> Any:
    """The dataclass `kind` from the options of a verb; ends the process on `--help` and on a wrong option.

    Raises:
        UserError: A value is not `Within` what its field says.
    """
    import tyro

    from papers_shared.ranges import check_ranges

    given = tyro.cli(kind, args=arguments, prog=program, **more)
    check_ranges(given)
    return given


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
