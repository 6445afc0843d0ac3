"""Files and folders that a crash cannot spoil (temporary sibling, fsync, rename), and the user cache folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from papers_shared.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


REPLACE_TRIES, REPLACE_PAUSE = 50, 0.1
"""How often a replacement is tried on Windows, and the seconds between."""
LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", "@eaDir", ".ipynb_checkpoints", "__MACOSX"})
"""Files and folders that are nobody's data."""


def fsync_path(path: Path) -> None:
    """Force a file, or the list of names in a folder, to disk; Windows opens no folder and needs no list forced."""
    windows = os.name == "nt"
    if windows and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if windows else os.O_RDONLY)  # Windows flushes what may be written alone
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
        _replace(partial, path)
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

    Raises:
        OSError: The file cannot be written; safetensors' own error does not say so.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    with atomic_file(path) as partial:
        try:
            save_file(plain, partial, metadata={"format": "pt"})
        except SafetensorError as error:
            number = errno.ENOSPC if "code: 28" in str(error) else errno.EIO
            raise OSError(number, os.strerror(number), str(path)) from error


def file_digest(path: Path) -> str:
    """SHA-256 of the bytes of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, in hexadecimal: the same on every device and in every layout."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        if tensor.numel():
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def cache_folder(package: str, folder: str | Path = "") -> Path:
    """`folder` if given, else the user cache folder of `package`: `$XDG_CACHE_HOME/PACKAGE` or `~/.cache/PACKAGE`."""
    if str(folder):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / package


@contextmanager
def writing_folder(final: str | Path, ours: Sequence[str]) -> Iterator[Path]:
    """Yield an empty temporary sibling of `final`; when the block ends well it becomes `final`.

    The files are on disk before the rename. An existing folder `final` is replaced only if all files in it are
    `ours` (see `check_replaceable`), asked before the block and again at its end; when the block raises, it stays
    as it was and the temporary folder is removed. A process killed between the two renames of a replacement leaves
    the former folder as `.NAME.former`: `restore_folders` puts it back.

    Args:
        ours: Patterns of the files that this folder holds, such as `*.safetensors` or `masks/*.png`; `*` takes
            slashes too.

    Raises:
        UserError: `final` is a file, the current folder, or holds anything else.
    """
    final = Path(final).expanduser().resolve()
    check_replaceable(final, ours)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial, former = _sibling(final, "partial"), _sibling(final, "former")
    _remove(partial)
    partial.mkdir()
    try:
        yield partial
        fsync_tree(partial)
        check_replaceable(final, ours)
    except BaseException:
        _remove(partial)
        raise
    if final.exists():
        _remove(former)
        _replace(final, former)
    _replace(partial, final)
    fsync_path(final.parent)
    shutil.rmtree(former, ignore_errors=True)


def check_replaceable(final: str | Path, ours: Sequence[str]) -> None:
    """Refuse to replace a folder that holds anything but files that match `ours`; a missing one may be made.

    Files that operating systems and network drives leave in folders do not count (see `is_litter`).

    Raises:
        UserError: `final` is a file, the current folder, or holds other files.
    """
    final = Path(final).expanduser().resolve()
    if not final.exists():
        return
    if not final.is_dir():
        raise UserError(f"{final} is a file: name a folder to write to")
    if final == Path.cwd():
        raise UserError(f"{final} is the current folder and cannot be replaced: name a folder inside it")
    others = sorted(name for name in _names_below(final) if not any(fnmatchcase(name, one) for one in ours))
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise UserError(
            f"{final} holds other files ({', '.join(map(repr, others[:3]))}{more}) and would be replaced: "
            "name a new folder"
        )


def is_litter(name: str) -> bool:
    """Whether a file's name is one that macOS, Windows or a network drive gives to files of its own."""
    return name in LITTER or name.startswith(("._", ".nfs"))


def check_writable(path: str | Path) -> None:
    """Refuse, before any work is done, a file that could not be written; its folder is made where it is missing.

    Raises:
        UserError: It is a folder, a part of its path is a file, or nothing can be written there.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file to write")
    make_folder(path.parent)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another path") from None


def check_new(path: str | Path, overwrite: bool) -> None:
    """Refuse, before any work is done, an output file that is there already, unless `overwrite`, or cannot be written.

    Raises:
        UserError: As `check_writable`, or the file exists.
    """
    check_writable(path)
    if not overwrite and os.path.lexists(Path(path).expanduser()):
        raise UserError(f"{path} exists: name another file, or give --overwrite")


def check_room(folder: Path, needed: int) -> None:
    """Refuse to begin what will write `needed` bytes below `folder` where the disk has no room for them.

    Raises:
        UserError: It says how much is free and how much is needed.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {free / 1e9:.1f} GB are free and about {needed / 1e9:.1f} GB will be written: make room, "
            "or choose another folder"
        )


def make_folder(path: str | Path) -> Path:
    """The folder `path`, made with its parents where it is missing.

    Raises:
        UserError: A part of the path is a file, or it may not be made.
    """
    path = Path(path).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {path} cannot be made ({error.strerror}): choose another path") from None
    return path


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


def _replace(source: Path, target: Path) -> None:
    """Rename; on Windows, where a file that a virus scanner or a reader has open cannot be replaced, again for a while.

    Raises:
        OSError: It stays impossible.
    """
    for _ in range(REPLACE_TRIES if os.name == "nt" else 0):
        try:
            os.replace(source, target)
        except PermissionError:
            time.sleep(REPLACE_PAUSE)
        else:
            return
    os.replace(source, target)


def _sibling(final: Path, suffix: str) -> Path:
    return final.with_name(f".{final.name}.{suffix}")


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _names_below(folder: Path) -> Iterator[str]:
    """Names of all files below a folder, relative to it, with slashes; litter aside."""
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_litter(name)]
        links = [name for name in folders if Path(root, name).is_symlink()]
        for name in [*links, *files]:
            if not is_litter(name):
                yield Path(root, name).relative_to(folder).as_posix()
