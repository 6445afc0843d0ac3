"""The rules of Windows for files, emulated: no folder is opened, no open file is replaced; and workers by spawn."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from papers_shared import files
from papers_shared.errors import UserError
from papers_shared.loading import loaded, make_loader
from papers_shared.training.run_folder import RunFolder


class Windows:
    """`os` as Windows has it; `held` are paths that another program has open, and for how many tries."""

    name = "nt"

    def __init__(self) -> None:
        self.held: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Any, flags: int) -> int:
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", str(path))
        assert flags & os.O_RDWR, "a handle that may not write cannot be flushed"
        return os.open(path, flags)

    def replace(self, source: Any, target: Any) -> None:
        left = self.held.get(Path(target).name, 0)
        if left:
            self.held[Path(target).name] = left - 1
            raise PermissionError(13, "Access is denied", str(target))
        if os.path.isdir(source) and os.path.exists(target):
            raise FileExistsError(17, "the folder is there", str(target))
        os.replace(source, target)


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Windows:
    emulated = Windows()
    monkeypatch.setattr(files, "os", emulated)
    monkeypatch.setattr(files, "REPLACE_PAUSE", 0.0)
    return emulated


def test_a_file_is_replaced_though_a_reader_had_it_open(windows: Windows, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    files.write_json(file, 1)
    windows.held["a.json"] = 5
    files.write_json(file, 2)
    assert file.read_text() == "2\n"
    windows.held["a.json"] = 10**6
    with pytest.raises(PermissionError):
        files.write_json(file, 3)
    assert file.read_text() == "2\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_folders_and_checkpoints_are_written(windows: Windows, tmp_path: Path) -> None:
    for text in ("first", "second"):
        with files.writing_folder(tmp_path / "model", ("*.txt",)) as partial:
            (partial / "a.txt").write_text(text)
        assert (tmp_path / "model" / "a.txt").read_text() == text
    run = RunFolder(tmp_path / "run")
    windows.held["step-00000001"] = 3
    for step in (1, 2):
        run.save_checkpoint(step, {"model": {"w": torch.ones(3)}}, {"step": step}, keep=1)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000002"]
    assert run.load_checkpoint(run.latest_checkpoint())[1]["step"] == 2


def test_a_lock_of_windows_names_its_holder(
    windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: set[int] = set()

    def locking(number: int, mode: int, count: int) -> None:
        assert (mode, count, os.lseek(number, 0, os.SEEK_CUR)) == (2, 1, 0), "the first byte, without waiting"
        inode = os.fstat(number).st_ino
        if inode in held:
            raise PermissionError(errno.EACCES, "Permission denied")
        held.add(inode)

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(LK_NBLCK=2, locking=locking))
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with files.lock_file(tmp_path / "lock", "the run is in use"):
        with pytest.raises(UserError, match=rf"the run is in use \(process {os.getpid()} on .*\): wait"):
            files.lock_file(tmp_path / "lock", "the run is in use")
        with files.lock_file(tmp_path / "another", "the run is in use"):
            pass


class Squares(Dataset):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> int:
        return index**2


def test_loader_processes_are_spawned() -> None:
    loader = make_loader(Squares(), workers=2, batch_size=2, multiprocessing_context="spawn")
    assert [batch.tolist() for batch in loaded(loader)] == [[0, 1], [4, 9], [16, 25]]
