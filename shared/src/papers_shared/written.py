"""Folders of data that a command wrote, so that they alone are replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from papers_shared.entries import shown
from papers_shared.errors import UserError
from papers_shared.files import is_litter, write_json
from papers_shared.text import read_json

MANIFEST = "written.json"
"""Lists the files of a folder that was written here."""


def write_manifest(folder: Path, files: Sequence[str], **about: Any) -> None:
    """Note the files of a folder, by their path below it, and what they were made from."""
    write_json(folder / MANIFEST, {"format": 1, **about, "files": sorted(files)})


def read_manifest(folder: Path) -> Mapping[str, Any]:
    """What `write_manifest` noted; empty where it noted nothing.

    Raises:
        UserError: The note cannot be read.
    """
    if not (folder / MANIFEST).is_file():
        return {}
    described = read_json(folder / MANIFEST)
    return described if isinstance(described, dict) else {}


def own_files(folder: Path) -> tuple[str, ...]:
    """Patterns of the files that may be replaced: all, where a folder holds what was written here and nothing else.

    Raises:
        UserError: There are other files beside them.
    """
    files = read_manifest(folder).get("files")
    if not isinstance(files, list):
        return ()
    known = {file for file in files if isinstance(file, str)} | {MANIFEST}
    there = (path for path in folder.rglob("*") if not path.is_dir() and not is_litter(path.name))
    if others := sorted({path.relative_to(folder).as_posix() for path in there} - known):
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise UserError(
            f"{folder} holds other files ({shown(others[0])}{more}) and would be replaced: name a new folder"
        )
    return ("*",)
