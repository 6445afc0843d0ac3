"""Where results are written, so that no result takes the name of another."""

from __future__ import annotations

import re
from pathlib import Path


def evaluation_file(model: str, output: str, *about: str) -> Path:
    """The file of an evaluation: `output` if given, else `MODEL-evaluation-ABOUT.json` beside the model folder.

    Args:
        model: A model folder, or a Hub name, whose evaluations go to the current folder.
        about: What tells this evaluation from others of the same model: data set, split, protocol; empty parts are
            left out.
    """
    if output:
        return Path(output)
    folder = Path(model)
    parent, name = (folder.resolve().parent, folder.resolve().name) if folder.is_dir() else (Path(), model)
    return parent / f"{_slug('-'.join([name, 'evaluation', *filter(None, about)]))}.json"


def _slug(text: str) -> str:
    """Letters, digits, `.`, `_` and `-`; anything else becomes one `-`."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-")
