"""Decoded images and masks on disk, as memory-mapped .npy files: a PNG is decoded once, not once per epoch.

The folder is visible, bounded (`DataConfig.cache_gb`) and can be deleted at any time (`fanet data cache
--clear`). Beside the pixels it holds the lists of images (`splits/`) and the results of checks (`checks/`).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from papers_shared.cache import FileCache
from papers_shared.files import cache_folder

PARTS = {
    "pixels": "decoded images and masks",
    "splits": "lists of images",
    "checks": "results of data checks",
}
ADVICE = "images are decoded each time; raise --data.cache-gb, or clear it with `fanet data cache --clear`"


class PixelCache:
    """Arrays by key in `folder`/pixels; grows up to `limit_gb` * 1e9 bytes and then stays as it is.

    Args:
        folder: Empty: the user cache folder.
        limit_gb: 0 turns the cache off: every `read` decodes.
    """

    def __init__(self, folder: str | Path = "", limit_gb: float = 24.0) -> None:
        self.folder = cache_folder("fanet", folder)
        self._files = FileCache(self.folder / "pixels", ".npy", limit_gb, evict=False, advice=ADVICE)

    def read(self, key: str, decode: Callable[[], np.ndarray]) -> np.ndarray:
        """The array stored under `key`, else `decode()`, which is stored on the way.

        A stored array is a copy-on-write memory map: changing it changes neither the file nor other readers.
        """
        digest = hashlib.sha256(key.encode()).hexdigest()[:40]
        stored = self._files.read(digest, _stored)
        if stored is not None:
            return stored
        array = decode()

        def save(path: Path) -> None:
            with open(path, "wb") as file:
                np.save(file, array, allow_pickle=False)

        self._files.write(digest, array.nbytes + 128, save)
        return array

    def size(self) -> int:
        """Bytes of all stored arrays."""
        return self._files.size()[0]

    def clear(self) -> None:
        """Delete everything fanet stored in the folder, and nothing else."""
        self._files.clear()
        for part in PARTS:
            shutil.rmtree(self.folder / part, ignore_errors=True)

    def describe(self) -> str:
        """Where the cache is and what each part of it takes, as lines of text."""
        lines = [f"cache folder: {self.folder}"]
        for part, what in PARTS.items():
            sizes = [path.stat().st_size for path in (self.folder / part).rglob("*") if path.is_file()]
            lines.append(f"  {part:<7} {sum(sizes) / 1e9:8.3f} GB  {len(sizes):6d} files  {what}")
        if self._files.limit > 0:
            lines.append(f"  limit   {self._files.limit / 1e9:8.3f} GB  of decoded images and masks")
        return "\n".join(lines)


def _stored(path: Path) -> np.ndarray:
    """A stored array of pixels, memory-mapped.

    Raises:
        OSError: It cannot be read.
        ValueError: The file holds something else.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="c")
    except OSError:
        raise
    except Exception as error:  # numpy raises many kinds for what is none of its files
        raise ValueError(f"{path} is no stored array ({error})") from error
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise ValueError(f"{path} holds no pixels")
    return array
