"""Writing that a crash cannot spoil: temporary sibling, fsync, rename."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from papers_shared.errors import UserError


def fsync_path(path: Path) -> None:
    """Force a file, or the list of names in a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_tree(folder: Path) -> None:
    """Force every file below `folder`, and then the folders, to disk."""
    for root, _, files in os.walk(folder, topdown=False):
        for name in files:
            fsync_path(Path(root, name))
        fsync_path(Path(root))


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file `path` by `data` in one step."""
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    fsync_path(path.parent)


def write_json(path: Path, obj: Any) -> None:
    """Replace the file `path` by `obj` as indented JSON in one step."""
    write_bytes(path, (json.dumps(obj, indent=2) + "\n").encode())


@contextmanager
def writing_folder(final: str | Path) -> Iterator[Path]:
    """Yield an empty temporary sibling of `final`; when the block ends well it becomes `final`.

    The files are on disk before the rename. An existing folder `final` is replaced with all it holds; when
    the block raises, it stays as it was and the temporary folder is removed. A process killed between the
    two renames of a replacement leaves the former folder as `.NAME.former`: `restore_folders` puts it back.

    Raises:
        UserError: `final` is a file or the current folder.
    """
    final = Path(final).resolve()
    if final.exists() and not final.is_dir():
        raise UserError(f"{final} is a file: name a folder to write to")
    if final == Path.cwd():
        raise UserError(f"{final} is the current folder and cannot be replaced: name a folder inside it")
    final.parent.mkdir(parents=True, exist_ok=True)
    partial, former = _sibling(final, "partial"), _sibling(final, "former")
    _remove(partial)
    partial.mkdir()
    try:
        yield partial
        fsync_tree(partial)
    except BaseException:
        _remove(partial)
        raise
    if final.exists():
        _remove(former)
        final.rename(former)
    partial.rename(final)
    fsync_path(final.parent)
    shutil.rmtree(former, ignore_errors=True)


def restore_folders(parent: Path) -> None:
    """Put back each folder in `parent` that a kill took away while it was being replaced, and clear up."""
    for former in sorted(parent.glob(".*.former")):
        final = parent / former.name[1 : -len(".former")]
        if final.exists():
            shutil.rmtree(former, ignore_errors=True)
        else:
            with suppress(FileNotFoundError):  # another rank was faster
                former.rename(final)


def _sibling(final: Path, suffix: str) -> Path:
    return final.with_name(f".{final.name}.{suffix}")


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
