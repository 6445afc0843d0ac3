"""The `plvl` command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from plvl import __version__

NOTICE = "The PLVL model is not in this release yet."


def main(argv: Sequence[str] | None = None) -> int:
    """Answers `--help` and `--version`; every verb ends with exit code 2 and the notice."""
    parser = argparse.ArgumentParser(
        prog="plvl",
        description="Progressive language-guided visual learning for multi-task visual grounding. " + NOTICE,
    )
    parser.add_argument("--version", action="version", version=f"plvl {__version__}")
    _, rest = parser.parse_known_args(argv)
    if rest:
        parser.error(NOTICE)
    parser.print_help()
    return 0
