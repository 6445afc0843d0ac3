"""Files and folders that a crash cannot spoil (temporary sibling, fsync, rename), and the user cache folder."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from papers_shared.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


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


@contextmanager
def atomic_file(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield the path of an empty temporary sibling of `path`; when the block ends well it becomes `path`.

    Safe for several processes that write the same file: the last one wins, and readers see one or the other. When
    the block raises, `path` stays as it was. The parent folder is made where it is missing.

    Args:
        durable: Force the file to disk before the rename; False for what can be made again, such as a cache.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".partial")
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(path.parent.stat().st_mode & 0o666)  # mkstemp gives the file to its owner alone
        if durable:
            fsync_path(partial)
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    if durable:
        fsync_path(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file `path` by `data` in one step."""
    with atomic_file(path) as partial:
        partial.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Replace the file `path` by `text` in UTF-8 in one step."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, obj: Any) -> None:
    """Replace the file `path` by `obj` as indented JSON in one step; a float that is not finite is a ValueError."""
    write_text(path, json.dumps(obj, indent=2, allow_nan=False) + "\n")


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors of any device and memory layout to `path` as one safetensors file, in one step.

    Tensors that share memory are written once per name.
    """
    import torch
    from safetensors.torch import save_file

    plain = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    with atomic_file(path) as partial:
        save_file(plain, partial, metadata={"format": "pt"})


def cache_folder(package: str, folder: str | Path = "") -> Path:
    """`folder` if given, else the user cache folder of `package`: `$XDG_CACHE_HOME/PACKAGE` or `~/.cache/PACKAGE`."""
    if str(folder):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / package


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


def lock_file(path: Path, message: str) -> BinaryIO:
    """Open `path` and lock it for this process; the lock ends with the process or when the file is closed.

    Where the file system knows no locks, the file is opened without one.

    Raises:
        UserError: Another process holds the lock: `message`, and who it is.
    """
    file = open(path, "a+b")  # noqa: SIM115 (the caller keeps it open)
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return file
        with suppress(OSError):
            file.seek(0)
            message += f" ({file.read().decode(errors='replace').strip()})"
        file.close()
        raise UserError(f"{message}: wait until it has ended, or choose another folder") from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    file.flush()
    return file


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
