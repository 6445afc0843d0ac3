"""Files by key in a bounded folder that may be deleted at any time: what is costly to compute is computed once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from papers_shared.files import atomic_file, tensors_digest

T = TypeVar("T")
DAMAGED = (OSError, ValueError, EOFError, KeyError, SafetensorError)
"""What reading a file that was cut short or overwritten raises."""


class FileCache:
    """Files `folder`/ab/cdef...SUFFIX by hexadecimal key.

    Safe for any number of reading and writing processes: a file is written to a temporary sibling and renamed. A
    damaged file counts as missing. A folder that cannot be written, or a full disk, costs one warning and the speed,
    nothing else.

    Args:
        folder: Made when first written to; holds nothing else.
        suffix: Of the files.
        limit_gb: The files take at most so many times 1e9 bytes; 0: nothing is kept.
        evict: When the limit is reached, delete the files that were not used for longest; otherwise keep those that
            are there and add no more.
        advice: What to do when the cache is full or cannot be written; for the warning.
    """

    def __init__(
        self, folder: str | Path, suffix: str, limit_gb: float, *, evict: bool = True, advice: str = ""
    ) -> None:
        self.folder, self.suffix, self.limit = Path(folder).expanduser(), suffix, int(limit_gb * 1e9)
        self.evict, self.advice = evict, advice
        self._stopped = self.limit <= 0
        self._counted, self._written = -1, 0

    def read(self, key: str, load: Callable[[Path], T]) -> T | None:
        """What `load` makes of the file stored under `key`; None if there is none, or a damaged one."""
        if self.limit <= 0:
            return None
        file = self.path(key)
        try:
            value = load(file)
        except FileNotFoundError:
            return None
        except DAMAGED:
            with contextlib.suppress(OSError):
                file.unlink()
            return None
        if self.evict:
            with contextlib.suppress(OSError):
                os.utime(file)
        return value

    def write(self, key: str, nbytes: int, save: Callable[[Path], object]) -> None:
        """Store about `nbytes` under `key`: `save` is given a path to write to; unless they do not fit."""
        if self._stopped or nbytes > self.limit or not self._fits(nbytes):
            return
        try:
            with atomic_file(self.path(key), durable=False) as partial:
                save(partial)
        except OSError as error:
            self._stop(f"nothing more can be kept in the cache {self.folder} ({error})")
            return
        self._written += nbytes

    def path(self, key: str) -> Path:
        """Where the file of `key` lies."""
        return self.folder / key[:2] / f"{key[2:]}{self.suffix}"

    def size(self) -> tuple[int, int]:
        """(bytes, number) of the files."""
        files = self._files()
        return sum(size for _, size, _ in files), len(files)

    def clear(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._counted, self._written, self._stopped = -1, 0, self.limit <= 0

    def _files(self) -> list[tuple[int, int, Path]]:
        found = []
        for path in self.folder.glob(f"*/*{self.suffix}"):
            with contextlib.suppress(OSError):  # another process was faster
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_size, path))
        return found

    def _fits(self, nbytes: int) -> bool:
        """Make room for `nbytes`, counting what other processes wrote too.

        The folder is counted anew whenever this process wrote 1/64 of what was left at the last count, so that up to 64
        writers stop at the limit together, and it is counted some hundred times in all.
        """
        if self._counted < 0 or self._written + nbytes > (self.limit - self._counted) / 64:
            self._counted, self._written = self.size()[0], 0
        if self._counted + nbytes > self.limit and self.evict:
            for _, size, path in sorted(self._files()):
                if self._counted + nbytes <= self.limit:
                    break
                path.unlink(missing_ok=True)
                self._counted -= size
        if self._counted + self._written + nbytes <= self.limit:
            return True
        if not self.evict:
            self._stop(f"the cache {self.folder} is full ({self.limit / 1e9:g} GB)")
        return False

    def _stop(self, message: str) -> None:
        """Store no more; say so once, whatever the number of loader processes."""
        from torch.utils.data import get_worker_info

        self._stopped = True
        worker = get_worker_info()
        if worker is None or worker.id == 0:
            warnings.warn(f"{message}: {self.advice}" if self.advice else message, stacklevel=3)


class TensorCache(FileCache):
    """Named tensors by key, one safetensors file each; the least recently used ones make room for new ones.

    A file holds a digest of its key and tensors, so that one with other content counts as missing.
    """

    def __init__(self, folder: str | Path, limit_gb: float = 20.0) -> None:
        super().__init__(folder, ".safetensors", limit_gb, advice="what is missing is computed again")

    def tensors(self, key: str) -> dict[str, Tensor] | None:
        """The tensors stored under `key`, on the CPU; None if there are none."""
        return self.read(key, lambda path: _load_verified(path, key))

    def store(self, key: str, tensors: dict[str, Tensor]) -> None:
        """Keep tensors of any device."""
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        nbytes = 256 * (1 + len(plain)) + sum(tensor.nbytes for tensor in plain.values())
        metadata = {"digest": _digest(key, plain)}
        self.write(key, nbytes, lambda path: save_file(plain, path, metadata))


def _load_verified(path: Path, key: str) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        metadata = file.metadata() or {}
    if metadata.get("digest") != _digest(key, tensors):
        raise ValueError("not what was stored under this key")
    return tensors


def _digest(key: str, tensors: dict[str, Tensor]) -> str:
    return hashlib.sha256(f"{key}\0{tensors_digest(tensors)}".encode()).hexdigest()
