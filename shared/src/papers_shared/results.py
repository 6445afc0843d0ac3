"""Where results are written, so that no result takes the name of another."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from papers_shared.errors import UserError
from papers_shared.files import check_writable
from papers_shared.text import read_json

RECORDS = "predictions.jsonl"
"""One line for each prediction, in a folder of predictions."""
Record = dict[str, Any]
"""Such a line."""
PARTS = ("frame", "split", "row")
"""Keys of a record that say which part of its file it is about."""
Column = Callable[[Record], Any]
"""A cell of a table about records: text, a number or None."""


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


def check_evaluation(file: Path, about: Mapping[str, Any]) -> None:
    """Refuse, before the work, an output file that holds anything but an earlier run of the same evaluation.

    Args:
        about: What tells evaluations apart, as the file holds it at its top: model, data, split, protocol.

    Raises:
        UserError: The file cannot be written, is no evaluation, or one of something else.
    """
    check_writable(file)
    if not file.exists():
        return
    try:
        found = read_json(file)
    except UserError:
        found = None
    if not isinstance(found, dict) or not about.keys() <= found.keys():
        raise UserError(f"{file} exists and is no evaluation of this kind: name another --output")
    for key, value in about.items():
        if found[key] != value:
            raise UserError(
                f"{file} holds an evaluation with {key} {found[key]!r}, and this one has {value!r}: "
                "name another --output"
            )


def _slug(text: str) -> str:
    """Letters, digits, `.`, `_` and `-`; anything else becomes one `-`."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-")
