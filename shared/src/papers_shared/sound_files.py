"""Files that were looked at and found sound, remembered by size and time, so that the next look costs nothing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from papers_shared.errors import UserError
from papers_shared.files import atomic_file
from papers_shared.progress import Progress
from papers_shared.threads import usable_cores


def broken_files(
    paths: Sequence[Path],
    examine: Callable[[Path], object],
    *,
    kind: str,
    cache: Path,
    progress: bool = True,
) -> dict[Path, str]:
    """What is wrong with each file that `examine` raises a UserError for, in the order of `paths`.

    All are looked at on every core. Sound ones are remembered in `cache` by path, size and time of change, and not
    looked at again; a cache that is lost, damaged or cannot be written costs time and nothing else.

    Args:
        examine: Takes a path and is called in threads.
        kind: What is found out, for the memory and the progress, such as `image`.
        cache: The package's cache folder.
    """
    paths = list(dict.fromkeys(paths))
    names = [os.path.abspath(path) for path in paths]
    digest = hashlib.blake2b(f"{kind}\0{_common(names)}".encode(errors="surrogateescape"), digest_size=16)
    memory = cache / "sound-files" / f"{digest.hexdigest()}.json"
    known, stamps = _remembered(memory), [_stamp(path) for path in paths]
    unknown = [i for i, name in enumerate(names) if not stamps[i] or known.get(name) != stamps[i]]
    broken: dict[Path, str] = {}
    pool = ThreadPoolExecutor(usable_cores())
    try:
        with Progress(len(unknown), unit=kind, enabled=progress and bool(unknown)) as bar:
            answers = pool.map(lambda index: _problem(paths[index], examine), unknown)
            for done, (index, problem) in enumerate(zip(unknown, answers, strict=True), start=1):
                if problem:
                    broken[paths[index]] = problem
                bar.update(done)
    finally:
        pool.shutdown(cancel_futures=True)
    if unknown:
        looked = zip(paths, names, stamps, strict=True)
        sound = {name: stamp for path, name, stamp in looked if path not in broken}
        with suppress(OSError, UnicodeEncodeError), atomic_file(memory, durable=False) as partial:
            partial.write_text(json.dumps(known | sound), encoding="utf-8")
    return broken


def _problem(path: Path, examine: Callable[[Path], object]) -> str:
    try:
        examine(path)
    except UserError as error:
        return str(error)
    return ""


def _remembered(memory: Path) -> dict[str, list[int]]:
    try:
        found = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _stamp(path: Path) -> list[int]:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return []
    return [status.st_size, status.st_mtime_ns]


def _common(names: Sequence[str]) -> str:
    """The folder that all files lie below, so that each set has a memory of its own."""
    with suppress(ValueError):
        return os.path.commonpath([os.path.dirname(name) for name in names]) if names else ""
    return ""
