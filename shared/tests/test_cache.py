"""Files by key in a bounded folder."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from papers_shared.cache import FileCache, TensorCache


def test_folder_stays_within_its_limit_and_forgets_the_least_recently_used(tmp_path: Path) -> None:
    entry = torch.zeros(1000)
    cache = TensorCache(tmp_path, limit_gb=3 * 4600e-9)
    for number, key in enumerate(("aa1", "bb2", "cc3")):
        cache.store(key, {"x": entry + number})
        os.utime(cache.path(key), (number, number))
    assert torch.equal(cache.tensors("aa1")["x"], entry)  # now the most recent one
    cache.store("dd4", {"x": entry + 3})
    assert [key for key in ("aa1", "bb2", "cc3", "dd4") if cache.tensors(key)] == ["aa1", "cc3", "dd4"]
    assert cache.size()[0] <= cache.limit
    cache.store("ee5", {"x": torch.zeros(9000)})
    assert cache.tensors("ee5") is None  # larger than the limit
    assert not list(tmp_path.rglob("*.partial"))


def test_without_eviction_a_full_folder_keeps_what_it_has_and_says_so_once(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, ".bin", 2500e-9, evict=False, advice="raise the limit")
    cache.write("aa1", 1000, lambda path: path.write_bytes(bytes(1000)))
    cache.write("bb2", 1000, lambda path: path.write_bytes(bytes(1000)))
    with pytest.warns(UserWarning, match="is full .* raise the limit"):
        cache.write("cc3", 1000, lambda path: path.write_bytes(bytes(1000)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.write("dd4", 1000, lambda path: path.write_bytes(bytes(1000)))
    kept = [key for key in ("aa1", "bb2", "cc3", "dd4") if cache.read(key, Path.read_bytes) is not None]
    assert kept == ["aa1", "bb2"]


def test_damaged_entries_and_unwritable_folders_cost_only_time(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path)
    cache.store("ab1", {"x": torch.ones(3)})
    cache.path("ab1").write_bytes(b"damaged")
    assert cache.tensors("ab1") is None
    cache.store("ab1", {"x": torch.ones(3)})
    assert torch.equal(cache.tensors("ab1")["x"], torch.ones(3))
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="computed again"):
        TensorCache(tmp_path / "file").store("ab1", {"x": torch.ones(3)})


def test_an_entry_with_other_content_counts_as_missing(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path)
    cache.store("ab1", {"x": torch.ones(3), "none": torch.zeros(0), "flags": torch.tensor([True, False])})
    assert {name: value.tolist() for name, value in cache.tensors("ab1").items()} == {
        "x": [1, 1, 1],
        "none": [],
        "flags": [True, False],
    }
    kept = cache.path("ab1").read_bytes()
    save_file({"x": torch.ones(3)}, cache.path("ab1"))  # another program's
    assert cache.tensors("ab1") is None
    cache.path("ab1").write_bytes(kept[:-1] + b"\x7f")
    assert cache.tensors("ab1") is None
    cache.path("cd2").parent.mkdir(parents=True)
    cache.path("cd2").write_bytes(kept)  # the file of another key
    assert cache.tensors("cd2") is None


def test_a_limit_of_zero_keeps_nothing(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "none", ".bin", 0.0)
    cache.write("ab1", 10, lambda path: path.write_bytes(b"x"))
    assert cache.read("ab1", Path.read_bytes) is None
    assert not (tmp_path / "none").exists()
