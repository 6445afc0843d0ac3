"""The `cabl-cgsr` command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cabl_cgsr import __version__

NOTICE = "The CABL-CGSR model is not in this release yet."


def main(argv: Sequence[str] | None = None) -> int:
    """Answers `--help` and `--version`; every verb ends with exit code 2 and the notice."""
    parser = argparse.ArgumentParser(
        prog="cabl-cgsr",
        description="Context-aware weakly supervised image manipulation localization with SAM refinement. "
        + NOTICE,
    )
    parser.add_argument("--version", action="version", version=f"cabl-cgsr {__version__}")
    _, rest = parser.parse_known_args(argv)
    if rest:
        parser.error(NOTICE)
    parser.print_help()
    return 0
