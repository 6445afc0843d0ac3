"""Reads official checkpoints without running anything in them: torch, safetensors, detectron2 and BERT archives."""

from __future__ import annotations

import io
import json
import pickle
import re
import tarfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from papers_shared.entries import first_names
from papers_shared.errors import UserError
from papers_shared.foreign import (
    NUMPY_CALLS,
    NUMPY_TYPES,
    UNREADABLE,
    load_torch,
    refused,
    state_dict_of,
    unreadable,
)
from papers_shared.pickles import LARGEST, read_pickle

ARRAYS_ONLY: dict[str, Any] = {
    **{
        f"numpy.{core}.multiarray.{name}": call
        for core in ("core", "_core")
        for name, call in NUMPY_CALLS.items()
    },
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": lambda text, encoding="latin1": text.encode("latin1"),
}
"""All that a detectron2 pickle may name."""

BERT_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
BERT_CONFIGS = ("config.json", "bert_config.json")
BERT_VOCABULARY = ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
BERT_EXTRAS = (*BERT_CONFIGS, *BERT_VOCABULARY)
ARCHIVES = (".tar.gz", ".tgz", ".tar")


def load_official(path: Path | str) -> dict[str, Tensor]:
    """The state dict in a torch or safetensors file, a detectron2 `.pkl` or a BERT `.tar.gz` archive.

    Raises:
        UserError: No such file, not a checkpoint, or a pickle that holds objects other than tensors, arrays,
            numbers and training arguments; nothing of it is executed.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        elif path.suffix == ".pkl":
            content = _load_arrays(io.BytesIO(read_pickle(path)), path)
        elif path.name.endswith(ARCHIVES):
            content = load_torch(io.BytesIO(_only_member(path, BERT_WEIGHTS[1])), path)
        else:
            content = load_torch(path, path)
    except UserError:
        raise
    except (*UNREADABLE, tarfile.TarError, zlib.error) as error:
        raise unreadable(path, error) from error
    return state_dict_of(content, path)


def read_bert_extras(source: Path) -> tuple[int | None, dict[str, bytes]]:
    """What lies in a BERT archive, or beside BERT's weights: the number of heads, and the tokenizer's files."""
    if source.name.endswith(ARCHIVES):
        files = _members(source, BERT_EXTRAS)
    elif source.name in BERT_WEIGHTS:
        beside = {name: source.with_name(name) for name in BERT_EXTRAS}
        files = {name: path.read_bytes() for name, path in beside.items() if path.is_file()}
    else:
        files = {}
    heads = None
    for name in BERT_CONFIGS:
        if name in files:
            heads = _heads(files.pop(name), f"{source}: {name}")
    return heads, files


def _heads(config: bytes, where: str) -> int | None:
    try:
        described = json.loads(config)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON: download or copy it again") from error
    heads = described.get("num_attention_heads") if isinstance(described, dict) else None
    if heads is not None and (not isinstance(heads, int) or isinstance(heads, bool) or not 0 < heads < 1024):
        raise UserError(f"{where}: num_attention_heads is {str(heads)[:40]!r}, not a number of heads")
    return heads


def _members(archive: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The named files of an archive, wherever they lie in it; nothing is unpacked to the disk."""
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            if not member.isfile() or name not in names:
                continue
            if member.size > LARGEST:
                raise UserError(f"{archive}: {name} declares {member.size:,} bytes, more than weights have")
            if (file := tar.extractfile(member)) is not None:
                found[name] = file.read()
    return found


def _only_member(archive: Path, name: str) -> bytes:
    found = _members(archive, (name,))
    if name not in found:
        raise UserError(f"{archive}: the archive holds no {name}")
    return found[name]


def _load_arrays(file: BinaryIO, path: Path) -> Any:
    """A pickle of numpy arrays, as detectron2 writes it, with its arrays as tensors."""
    try:
        content = _ArrayUnpickler(file, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None:
            raise UserError(f"{path}: not a checkpoint that can be read ({error})") from error
        raise refused(path, found[1]) from error
    state = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(state, dict):
        return None
    wrong = [name for name, value in state.items() if not _is_numbers(value)]
    if wrong:
        raise UserError(f"{path}: refused, these entries are no arrays of numbers: {first_names(wrong)}")
    return {name: torch.from_numpy(np.array(array)) for name, array in state.items()}


def _is_numbers(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.name in NUMPY_TYPES


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in ARRAYS_ONLY:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not allowed")
        return ARRAYS_ONLY[f"{module}.{name}"]
