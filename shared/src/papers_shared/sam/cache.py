"""Embeddings of pictures on disk."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor


class EmbeddingCache:
    """Tensors by key in a folder of safetensors files; the least recently used ones make room for new ones.

    Safe for several processes: a file is written to a temporary sibling and renamed. A damaged file counts as
    missing; a folder that cannot be written costs a warning and the speed, nothing else.

    Args:
        folder: Made when first written to; holds nothing else and can be deleted at any time.
        limit_gb: The files take at most so many times 1e9 bytes. SAM's embedding of a picture takes 4.2 MB.
    """

    def __init__(self, folder: str | Path, limit_gb: float = 20.0) -> None:
        self.folder, self.limit = Path(folder).expanduser(), int(limit_gb * 1e9)
        self._size: int | None = None

    def read(self, key: str) -> Tensor | None:
        """The tensor stored under `key`, None if there is none; reading makes it recent."""
        file = self._file(key)
        try:
            tensor = load_file(file)["embedding"]
        except (OSError, SafetensorError, KeyError):
            return None
        with contextlib.suppress(OSError):
            os.utime(file)
        return tensor

    def write(self, key: str, tensor: Tensor) -> None:
        """Store a tensor, unless it alone is over the limit."""
        data = save({"embedding": tensor.detach().cpu().contiguous()})
        if len(data) > self.limit:
            return
        file = self._file(key)
        try:
            self._make_room(len(data))
            file.parent.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".partial")
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(data)
                os.replace(partial, file)
            except BaseException:
                Path(partial).unlink(missing_ok=True)
                raise
        except OSError as error:
            warnings.warn(
                f"embeddings cannot be kept in {self.folder} ({error}): they are computed again", stacklevel=3
            )
            return
        self._size = (self._size or 0) + len(data)

    def _make_room(self, needed: int) -> None:
        """Delete the files that were not used for longest; the folder is counted once, and when it seems full."""
        if self._size is not None and self._size + needed <= self.limit:
            return
        files = []
        for path in self.folder.glob("*/*.safetensors"):
            with contextlib.suppress(OSError):  # another process was faster
                stat = path.stat()
                files.append((stat.st_mtime_ns, stat.st_size, path))
        self._size = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if self._size + needed <= self.limit:
                break
            path.unlink(missing_ok=True)
            self._size -= size

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.safetensors"
