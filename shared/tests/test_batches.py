"""Many images through one network: what goes together, what is read ahead, what a failure costs."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from papers_shared import batches
from papers_shared.batches import Failure, Group, Item, Loaded, Steps, answered
from papers_shared.errors import UserError

NETWORK = nn.Linear(1, 1)


def read(group: Group) -> Loaded:
    """An image called KIND-NUMBER, whose kind is its size."""
    kind = group[0].path.name.partition("-")[0]
    if kind == "broken":
        raise UserError("cannot be read")
    return Loaded(kind, () if kind == "alone" else ((len(kind), 1),), 1000)


def groups(*names: str) -> list[list[Item]]:
    return [[Item(Path(name))] for name in names]


def run(names: Sequence[str], **options: Any) -> tuple[list[list[str]], dict[str, Any]]:
    """The batches, and what came of each image."""
    asked: list[list[str]] = []

    def answer(batch: Sequence[tuple[Group, str]]) -> list[list[str]]:
        asked.append([group[0].path.name for group, _ in batch])
        if len(batch) > 1 and any(kind == "large" for _, kind in batch):
            raise MemoryError
        return [[kind] for _, kind in batch]

    found = answered(
        groups(*names), Steps(read, answer, lambda item, kind: {"kind": kind}), NETWORK, **options
    )
    return asked, {item.path.name: result for item, result in found}


def test_what_has_one_shape_goes_together() -> None:
    names = ["aa-1", "b-1", "aa-2", "alone-1", "b-2", "broken-1", "aa-3", "b-3", "aa-4"]
    asked, found = run(names, batch_size=2)
    assert asked == [["aa-1", "aa-2"], ["alone-1"], ["b-1", "b-2"], ["aa-3", "aa-4"], ["b-3"]]
    assert found.pop("broken-1") == Failure("cannot be read")
    assert found == {name: {"kind": name[:-2]} for name in names if name != "broken-1"}
    assert run(["b-1", "b-2"])[0] == [["b-1"], ["b-2"]], "on a CPU one at a time unless told otherwise"


def test_images_do_not_wait_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{'a' * size}-{number}" for number in range(3) for size in range(1, 12)]
    asked, found = run(names, batch_size=2)
    assert len(found) == len(names)
    assert sorted(asked, key=len)[0] == asked[0] == ["a-0"], "the eighth that waits makes the first go alone"
    monkeypatch.setattr(batches, "WAITING_BYTES", 1500)
    assert run(["b-1", "aa-1", "b-2"], batch_size=8)[0] == [["b-1"], ["aa-1", "b-2"][:1], ["b-2"]]


def test_too_much_at_once_is_done_one_by_one() -> None:
    asked, found = run(["large-1", "large-2"], batch_size=2)
    assert asked == [["large-1", "large-2"], ["large-1"], ["large-2"]]
    assert list(found.values()) == [{"kind": "large"}] * 2


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_processes_read_the_same(workers: int) -> None:
    names = [f"{'a' * (number % 3 + 1)}-{number}" for number in range(20)] + ["broken-1"]
    asked, found = run(names, batch_size=4, workers=workers)
    assert found.pop("broken-1").reason == "cannot be read"
    assert {name: result["kind"] for name, result in found.items()} == {
        name: name.partition("-")[0] for name in names[:-1]
    }
    assert max(map(len, asked)) == 4


def test_a_fault_of_the_program_shows_its_traceback_and_a_full_disk_ends_the_work() -> None:
    def write(item: Item, kind: str) -> dict[str, Any]:
        assert threading.current_thread() is not threading.main_thread()
        if item.path.name == "full-1":
            raise OSError(errno.ENOSPC, "No space left on device")
        raise ZeroDivisionError("by zero")

    steps = Steps(read, lambda batch: [["x"] for _ in batch], write)
    ((_, found),) = answered(groups("a-1"), steps, NETWORK)
    assert isinstance(found, Failure)
    assert found.reason == "ZeroDivisionError: by zero"
    assert "in write" in found.trace
    with pytest.raises(OSError, match="No space left"):
        list(answered(groups("a-1", "full-1", "a-2"), steps, NETWORK))
