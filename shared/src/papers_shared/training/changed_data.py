"""Whether the training samples are those of the run's last start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from papers_shared.files import write_text

FILE = "samples.txt"
BATCH = 1000


def changed_samples(folder: Path, rows: Any, *, contents: bool) -> str:
    """Remember the samples of a run in `samples.txt`, and say what has changed since its last start; empty: nothing.

    The steps of a run are those of its data: an image that is replaced between two starts goes into the rest of them.

    Args:
        rows: A `datasets.Dataset` with `name` and columns of files, {"path", "bytes"} each.
        contents: Compare what the files hold; otherwise their sizes and times of change.
    """
    how = "contents" if contents else "sizes and times"
    now = [f"{digest} {name}" for name, digest in _digests(rows, contents)]
    path = folder / FILE
    before = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    write_text(path, "\n".join([f"# {how}", *now]))
    if not before or before[0] != f"# {how}":
        return ""
    changed = [new.partition(" ")[2] for old, new in zip(before[1:], now, strict=False) if old != new]
    if not changed:
        return ""
    more = f" and {len(changed) - 1:,} more" if len(changed) > 1 else ""
    return (
        f"the training data has changed since this run was last started ({changed[0]}{more}, by {how}): earlier steps "
        "saw it as it was; choose another --run.output to train on the new data from the start"
    )


def _digests(rows: Any, contents: bool) -> Iterator[tuple[str, str]]:
    """(name, digest of all that a row holds and of its files) for each row, in order."""
    for first in range(0, len(rows), BATCH):
        columns = rows[first : first + BATCH]
        for values in zip(*columns.values(), strict=True):
            row = dict(zip(columns, values, strict=True))
            digest = hashlib.blake2b(digest_size=8)
            for column, value in sorted(row.items()):
                digest.update(column.encode())
                digest.update(_content(value, contents))
            yield json.dumps(row["name"]), digest.hexdigest()


def _content(value: Any, contents: bool) -> bytes:
    if not isinstance(value, dict) or "path" not in value or "bytes" not in value:
        return repr(value).encode(errors="surrogatepass")
    if value["bytes"] is not None:
        return bytes(value["bytes"])
    if not value["path"]:
        return b""
    path = Path(value["path"])
    try:
        if contents:
            return path.name.encode(errors="surrogateescape") + hashlib.blake2b(path.read_bytes()).digest()
        status = path.stat()
        return f"{path.name} {status.st_size} {status.st_mtime_ns}".encode(errors="surrogateescape")
    except (OSError, ValueError):
        return b"missing"
