"""Decoded frames and masks on disk, as memory-mapped .npy files: a PNG is decoded once, not once per epoch.

The folder is visible, bounded (`DataConfig.cache_gb`) and can be deleted at any time (`fanet data cache
--clear`). Beside the pixels it holds the lists of frames (`splits/`) and the results of checks (`checks/`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

PARTS = {
    "pixels": "decoded frames and masks",
    "splits": "lists of frames",
    "checks": "results of data checks",
}


def cache_folder(folder: str | Path = "") -> Path:
    """`folder`, or if empty the user cache folder: `$XDG_CACHE_HOME/fanet`, else `~/.cache/fanet`."""
    if str(folder):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fanet"


class PixelCache:
    """Arrays by key in `folder`/pixels; grows up to `limit_gb` * 1e9 bytes and then stays as it is.

    Safe for any number of reading and writing processes: an entry is written to a temporary file and renamed.
    A folder that cannot be written, or a full disk, costs one warning and the speed, nothing else.

    Args:
        folder: where; empty: the user cache folder.
        limit_gb: 0 turns the cache off: every `read` decodes.
    """

    def __init__(self, folder: str | Path = "", limit_gb: float = 24.0) -> None:
        self.folder = cache_folder(folder)
        self.limit = int(limit_gb * 1e9)
        self._growing = self.limit > 0
        self._counted = -1
        self._written = 0

    def read(self, key: str, decode: Callable[[], np.ndarray]) -> np.ndarray:
        """The array stored under `key`, else `decode()`, which is stored on the way.

        A stored array is a copy-on-write memory map: changing it changes neither the file nor other readers.
        """
        if not self.limit:
            return decode()
        path = self._path(key)
        try:
            return np.load(path, mmap_mode="c", allow_pickle=False)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, EOFError):  # cut short or overwritten by something else
            with contextlib.suppress(OSError):
                path.unlink()
        array = decode()
        if self._growing:
            self._write(path, array)
        return array

    def size(self) -> int:
        """Bytes of all stored arrays."""
        return _bytes_and_files(self.folder / "pixels")[0]

    def clear(self) -> None:
        """Delete everything fanet stored in the folder, and nothing else."""
        for part in PARTS:
            shutil.rmtree(self.folder / part, ignore_errors=True)
        self._counted, self._written, self._growing = -1, 0, self.limit > 0

    def describe(self) -> str:
        """Where the cache is and what each part of it takes, as lines of text."""
        lines = [f"cache folder: {self.folder}"]
        for part, what in PARTS.items():
            used, files = _bytes_and_files(self.folder / part)
            lines.append(f"  {part:<7} {used / 1e9:8.3f} GB  {files:6d} files  {what}")
        if self.limit:
            lines.append(f"  limit   {self.limit / 1e9:8.3f} GB  of decoded frames and masks")
        return "\n".join(lines)

    def _path(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode()).hexdigest()[:40]
        return self.folder / "pixels" / digest[:2] / f"{digest[2:]}.npy"

    def _write(self, path: Path, array: np.ndarray) -> None:
        if not self._fits(array.nbytes + 128):
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f"{path.stem}.{os.getpid()}-{threading.get_ident()}.tmp")
            try:
                with open(temporary, "wb") as file:
                    np.save(file, array, allow_pickle=False)
                os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
        except OSError as error:
            self._stop(
                f"frames can no longer be cached in {self.folder} ({error}); they are decoded each time"
            )
            return
        self._written += array.nbytes + 128

    def _fits(self, nbytes: int) -> bool:
        """Whether `nbytes` more stay below the limit, counting what other processes wrote too.

        The folder is counted anew whenever this process wrote 1/64 of what was left at the last count, so
        that up to 64 writers stop at the limit together, and it is counted some hundred times in all.
        """
        if self._counted < 0 or self._written + nbytes > (self.limit - self._counted) / 64:
            self._counted, self._written = self.size(), 0
        if self._counted + self._written + nbytes > self.limit:
            self._stop(
                f"the cache of decoded frames in {self.folder} is full ({self.limit / 1e9:g} GB); further "
                "frames are decoded each time. Raise --data.cache-gb, or clear it: `fanet data cache --clear`"
            )
            return False
        return True

    def _stop(self, message: str) -> None:
        """Store no more; say so once, whatever the number of loader processes."""
        from torch.utils.data import get_worker_info

        self._growing = False
        worker = get_worker_info()
        if worker is None or worker.id == 0:
            warnings.warn(message, stacklevel=2)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary sibling's path to write to, which becomes `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        yield Path(name)
        os.replace(name, path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


def _bytes_and_files(folder: Path) -> tuple[int, int]:
    total = files = 0
    pending = [folder]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:
            continue
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                else:
                    total, files = total + entry.stat().st_size, files + 1
    return total, files
