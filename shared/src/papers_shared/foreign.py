"""Reading other people's checkpoints without running anything in them."""

from __future__ import annotations

import argparse
import pathlib
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from papers_shared.entries import first_line, first_names
from papers_shared.errors import UserError
from papers_shared.hub import check_numbers

NUMPY_CALLS = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.empty(0).__reduce__()[0]}
NUMPY_TYPES = ("bool", "uint8", "int32", "int64", "float16", "float32", "float64")
ALLOWED: list[Any] = [
    argparse.Namespace,
    pathlib.PosixPath,
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in NUMPY_TYPES),
    *(
        (call, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name, call in NUMPY_CALLS.items()
    ),
]
"""Types of training arguments and logged numbers, beside torch's own list; none of them runs code."""
STATE_DICTS = ("state_dict", "model", "model_ema", "state_dict_ema", "ema")
"""Keys under which a checkpoint may hold its weights, averaged ones (EMA) where there are no others."""
UNREADABLE = (
    SafetensorError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What readers raise over a file that is damaged or of another kind."""
NO_CHECKPOINTS = {
    b"<": "a web page or XML",
    b"version https://git-lfs": "a pointer of Git LFS and not the file itself",
    b"{": "JSON text",
}
"""How files begin that were saved in place of a checkpoint."""


def load_official(path: Path | str) -> dict[str, Tensor]:
    """The state dict in a torch or safetensors file: bare or under one of `STATE_DICTS`; no `module.` prefix.

    Raises:
        UserError: No such file, not a checkpoint, or a pickle that holds objects other than tensors, numbers and
            training arguments; nothing of it is executed.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    check_is_checkpoint(path)
    try:
        content = load_file(path) if path.suffix == ".safetensors" else load_torch(path, path)
    except UserError:
        raise
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    return state_dict_of(content, path)


def check_is_checkpoint(path: Path) -> None:
    """Refuse a page or a pointer that was saved in place of a checkpoint, by how the file begins.

    Raises:
        UserError: It says what the file is.
    """
    if what := no_checkpoint(path):
        raise UserError(f"{path} is {what}, not a checkpoint: download the file itself again")


def no_checkpoint(path: Path) -> str:
    """What a file is that was saved in place of a checkpoint, by how it begins; empty for anything else."""
    with open(path, "rb") as file:
        start = file.read(512)
    if b"\0" in start[:8]:  # as in all safetensors files, whose first bytes are a length
        return ""
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    return next(
        (what for mark, what in NO_CHECKPOINTS.items() if start.startswith(mark)), "" if start else "empty"
    )


def load_torch(file: Path | BinaryIO, path: Path) -> Any:
    """What a torch file holds; `path` is the name for messages.

    Raises:
        UserError: It names a Python object outside `ALLOWED` and torch's own list, or would unpack to many times its
            size.
    """
    _check_packing(file, path)
    try:
        with torch.serialization.safe_globals(ALLOWED), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how the file was made
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None and path.is_file() and not path.open("rb").read(2).startswith((b"PK", b"\x80")):
            raise UserError(f"{path}: not a checkpoint that torch can read") from error
        raise refused(path, found[1] if found else "") from error


def _check_packing(file: Path | BinaryIO, path: Path) -> None:
    """Refuse a compressed archive: torch writes weights as they are, so that none is larger unpacked."""
    try:
        with zipfile.ZipFile(file) as archive:
            squeezed = any(entry.file_size > entry.compress_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        squeezed = False
    if not isinstance(file, Path):
        file.seek(0)
    if squeezed:
        raise UserError(
            f"{path}: not a checkpoint as torch writes it, it is compressed: save it anew with torch.save"
        )


def state_dict_of(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what a checkpoint holds, without a `module.` prefix.

    Raises:
        UserError: There is none.
    """
    if isinstance(content, dict):
        content = next((content[key] for key in STATE_DICTS if isinstance(content.get(key), dict)), content)
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(name, str) and torch.is_tensor(tensor) for name, tensor in content.items())
    ):
        keys = ", ".join(map(repr, STATE_DICTS))
        raise UserError(f"{path}: holds no state dict of tensors, neither by itself nor under {keys}")
    for name, tensor in content.items():
        if what := _no_numbers(tensor):
            raise UserError(f"{path}: {first_names([name])} {what}, which are no weights of a network")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


LARGEST_REPEATED = 2**32
"""Bytes of a tensor that repeats the numbers of a smaller one."""


def _no_numbers(tensor: Tensor) -> str:
    """Why a tensor is no plain numbers, or repeats a few of them without end; empty for one that is well."""
    if tensor.is_quantized or tensor.layout is not torch.strided:
        return f"holds {'quantized' if tensor.is_quantized else 'sparse'} values"
    size = tensor.numel() * tensor.element_size()
    if tensor.is_meta or (size > LARGEST_REPEATED and tensor.untyped_storage().nbytes() < size):
        return f"has the shape {list(tensor.shape)} and fewer numbers"
    return ""


def check_fits(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str, network: str
) -> None:
    """Refuse entries that are not exactly those of a network, or hold values that are no weights.

    Args:
        source: What the file is called in the message.
        network: The network, in a few words.

    Raises:
        UserError: Counts, and the first names, of what is missing, surplus or of another shape; or the first entry
            with values that are not finite.
    """
    problems = {
        "missing": [name for name in expected if name not in tensors],
        "surplus": [name for name in tensors if name not in expected],
        "of another shape": [
            f"{name} {list(tensors[name].shape)} instead of {list(own.shape)}"
            for name, own in expected.items()
            if name in tensors and tensors[name].shape != own.shape
        ],
    }
    if any(problems.values()):
        lists = [f"{len(names)} {what}: {first_names(names)}" for what, names in problems.items() if names]
        raise UserError(f"{source} does not fit {network}; entries {'; '.join(lists)}")
    check_numbers(tensors, expected, source)


def unreadable(path: Path, error: Exception) -> UserError:
    """The sentence about a file that no reader understands."""
    reason = f"{type(error).__name__}: {first_line(error, 160)}"
    return UserError(
        f"{path}: not a checkpoint that torch or safetensors can read ({reason}): copy or download it again"
    )


def refused(path: Path, found: str) -> UserError:
    """The sentence about a pickle that names the object `found`."""
    what = f"the Python object {found}" if found else "Python objects"
    return UserError(
        f"{path}: refused, it holds {what} and opening that could run a stranger's code; save only its state dict "
        "to a new file where you trust it"
    )
