from __future__ import annotations

import multiprocessing
import warnings
from pathlib import Path

import numpy as np
import pytest

from fanet.data.cache import PixelCache


def _array(value: int, size: int = 1000) -> np.ndarray:
    return np.full((size, 10), value, np.uint8)


def _refuse() -> np.ndarray:
    raise AssertionError("decoded again")


def test_decodes_once_and_returns_the_same_pixels(tmp_path: Path) -> None:
    cache = PixelCache(tmp_path, 1.0)
    assert not isinstance(cache.read("a", lambda: _array(1)), np.memmap)
    stored = PixelCache(tmp_path, 1.0).read("a", _refuse)
    assert isinstance(stored, np.memmap)
    np.testing.assert_array_equal(stored, _array(1))
    stored[:] = 9  # a map of its own: the file stays
    np.testing.assert_array_equal(cache.read("a", _refuse), _array(1))


def test_stays_below_its_limit_with_one_warning(tmp_path: Path) -> None:
    cache = PixelCache(tmp_path, 35e-6)
    with pytest.warns(UserWarning, match="full") as caught:
        arrays = [cache.read(str(number), lambda n=number: _array(n)) for number in range(8)]
    assert all((array == number).all() for number, array in enumerate(arrays))
    assert len(caught) == 1
    assert 30_000 < cache.size() <= 35_000
    cache.read("2", _refuse)


@pytest.mark.parametrize("damage", ["truncate", "garbage", "empty"])
def test_damaged_entry_is_decoded_again(tmp_path: Path, damage: str) -> None:
    cache = PixelCache(tmp_path, 1.0)
    cache.read("a", lambda: _array(1))
    (entry,) = tmp_path.rglob("*.npy")
    whole = entry.read_bytes()
    entry.write_bytes({"truncate": whole[:-5], "garbage": b"not numpy" * 40, "empty": b""}[damage])
    np.testing.assert_array_equal(cache.read("a", lambda: _array(1)), _array(1))
    assert entry.read_bytes() == whole


def test_unusable_folder_costs_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = PixelCache(tmp_path / "file", 1.0)
    with pytest.warns(UserWarning, match="nothing more can be kept") as caught:
        arrays = [cache.read("a", lambda: _array(1)) for _ in range(3)]
    assert all((array == 1).all() for array in arrays)
    assert len(caught) == 1


def test_full_disk_costs_one_warning_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(file, array, allow_pickle) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", no_space)
    cache = PixelCache(tmp_path, 1.0)
    with pytest.warns(UserWarning, match="No space left") as caught:
        arrays = [cache.read("a", lambda: _array(1)) for _ in range(3)]
    assert all((array == 1).all() for array in arrays)
    assert len(caught) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_clear_deletes_what_is_its_own_only(tmp_path: Path) -> None:
    cache = PixelCache(tmp_path, 1.0)
    cache.read("a", lambda: _array(1))
    (tmp_path / "mine.txt").write_text("keep")
    assert "1 files  decoded images" in cache.describe()
    cache.clear()
    assert cache.size() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_limit_zero_writes_nothing(tmp_path: Path) -> None:
    cache = PixelCache(tmp_path, 0.0)
    cache.read("a", lambda: _array(1))
    assert not list(tmp_path.iterdir())


def _write_all(folder: str, count: int) -> None:
    warnings.simplefilter("ignore")
    cache = PixelCache(folder, 200e-6)
    for number in range(count):
        assert (cache.read(str(number), lambda n=number: _array(n)) == number).all()


def test_concurrent_writers_stop_at_the_limit_together(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_all, args=(str(tmp_path), 40)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert 150_000 < PixelCache(tmp_path, 1.0).size() <= 230_000
    assert not list(tmp_path.rglob("*.partial"))
