"""Loader processes that fail, die and hang; data that changes between two starts."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import Dataset

from papers_shared.errors import UserError
from papers_shared.loading import loaded, make_loader, worker_count
from papers_shared.training.changed_data import changed_samples


class Samples(Dataset):
    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        if index == 2 and self.fault == "unreadable":
            raise UserError("c.png is cut off: copy it again")
        if index == 2 and self.fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if index == 2 and self.fault == "hangs":
            time.sleep(60)
        if index == 2 and self.fault == "bug":
            raise KeyError("x")
        return index


def names(index: int) -> str:
    return "abcd"[index] + ".png"


@pytest.mark.parametrize("workers", [0, 1])
def test_all_samples_arrive(workers: int) -> None:
    loader = make_loader(Samples(), workers=workers, batch_size=2)
    assert [batch.tolist() for batch in loaded(loader)] == [[0, 1], [2, 3]]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_sample_is_one_sentence(workers: int) -> None:
    with pytest.raises(UserError) as caught:
        list(loaded(make_loader(Samples("unreadable"), workers=workers, batch_size=1)))
    assert str(caught.value) == "c.png is cut off: copy it again"


@pytest.mark.parametrize(
    ("fault", "told"),
    [("killed", r"ended from outside.*--data\.workers"), ("hangs", r"c\.png.*--data\.timeout")],
)
def test_lost_processes(fault: str, told: str) -> None:
    loader = make_loader(Samples(fault), workers=1, timeout=3, batch_size=1)
    with pytest.raises(UserError, match=told):
        list(loaded(loader, names))


def test_a_fault_of_the_program_stays_one() -> None:
    with pytest.raises(KeyError):
        list(loaded(make_loader(Samples("bug"), workers=1, batch_size=1)))


def test_loader_processes_by_the_spawn_method() -> None:
    loader = make_loader(Samples(), workers=1, batch_size=2, multiprocessing_context="spawn")
    assert sum(len(batch) for batch in loaded(loader)) == 4


def test_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (worker_count(0), worker_count(40)) == (0, 40)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert worker_count(-1) == 12
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert worker_count(-1) == 8


class Rows(list):
    """Rows that answer to a slice by columns, as those of `datasets` do."""

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return {key: [row[key] for row in found] for key in found[0]} if isinstance(index, slice) else found


def rows(folder: Path, label: int = 1) -> Rows:
    return Rows(
        {"name": name, "image": {"path": str(folder / f"{name}.png"), "bytes": None}, "label": number}
        for name, number in (("a", 0), ("b", label))
    )


@pytest.mark.parametrize("contents", [False, True])
def test_changed_samples_are_named(tmp_path: Path, contents: bool) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    data.mkdir(), run.mkdir()
    for name in ("a.png", "b.png"):
        (data / name).write_bytes(name.encode())
        os.utime(data / name, (1, 1))
    assert changed_samples(run, rows(data), contents=contents) == ""
    assert changed_samples(run, rows(data), contents=contents) == ""
    os.utime(data / "a.png", (2, 2))
    assert ("a" in changed_samples(run, rows(data), contents=contents)) != contents
    (data / "b.png").write_bytes(b"B.png")
    assert '("b", by' in changed_samples(run, rows(data), contents=contents)
    assert '("b", by' in changed_samples(run, rows(data, label=0), contents=contents)
    (data / "a.png").unlink()
    assert '("a", by' in changed_samples(run, rows(data, label=0), contents=contents)
    assert changed_samples(run, rows(data), contents=not contents) == ""
