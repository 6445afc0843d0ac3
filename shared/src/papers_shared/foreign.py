"""Reading other people's checkpoints without running anything in them."""

from __future__ import annotations

import argparse
import pathlib
import pickle
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from papers_shared.errors import UserError

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


def load_official(path: Path | str) -> dict[str, Tensor]:
    """The state dict in a torch or safetensors file: bare or under `state_dict` or `model`; no `module.` prefix.

    Raises:
        UserError: No such file, not a checkpoint, or a pickle that holds objects other than tensors, numbers and
            training arguments; nothing of it is executed.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else load_torch(path, path)
    except UserError:
        raise
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise UserError(f"{path}: not a checkpoint that torch or safetensors can read ({error})") from error
    return state_dict_of(content, path)


def load_torch(file: Path | BinaryIO, path: Path) -> Any:
    """What a torch file holds; `path` is the name for messages.

    Raises:
        UserError: It names a Python object outside `ALLOWED` and torch's own list.
    """
    try:
        with torch.serialization.safe_globals(ALLOWED):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        raise refused(path, found[1] if found else "") from error


def state_dict_of(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what a checkpoint holds, without a `module.` prefix.

    Raises:
        UserError: There is none.
    """
    if isinstance(content, dict):
        content = content.get("state_dict", content.get("model", content))
    if not isinstance(content, dict) or not content or not all(map(torch.is_tensor, content.values())):
        raise UserError(
            f"{path}: holds no state dict of tensors, neither by itself nor under 'state_dict' or 'model'"
        )
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def refused(path: Path, found: str) -> UserError:
    """The sentence about a pickle that names the object `found`."""
    what = f"the Python object {found}" if found else "Python objects"
    return UserError(
        f"{path}: refused, it holds {what} and opening that could run a stranger's code; save only its state dict "
        "to a new file where you trust it"
    )
