"""Checkpoints that are written while the training goes on."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from papers_shared.errors import UserError
from papers_shared.training.background import ALIGNMENT, Copies, wait_for_writers
from papers_shared.training.run_folder import RunFolder
from papers_shared.training.state import TrainingState


class SlowFolder(RunFolder):
    """Writes when it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.may_write, self.begun = threading.Event(), threading.Event()
        self.writers: list[str] = []

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> Path:
        self.writers.append(threading.current_thread().name)
        self.begun.set()
        assert self.may_write.wait(30)
        return super().save_checkpoint(*args, **kwargs)


def trained() -> tuple[nn.Module, TrainingState]:
    network = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return network, TrainingState(network, optimizer)


def test_a_checkpoint_holds_the_weights_of_its_step_though_the_training_goes_on(tmp_path: Path) -> None:
    run, (network, state), best = SlowFolder(tmp_path), trained(), {"best": {"score": 1.0}}
    saved = network.weight.detach().clone()
    state.save(run, 1, 2, best=best)
    assert run.begun.wait(30)
    assert run.latest_checkpoint() is None
    assert run.killed_while_saving() is False
    with torch.no_grad():
        network.weight.add_(1)
        state.optimizer.state[network.weight]["exp_avg"].zero_()
    best["best"]["score"] = 2.0
    run.may_write.set()
    state.wait()
    assert run.writers == ["checkpoint writer"]
    tensors, found = run.load_checkpoint(tmp_path / "checkpoints" / "step-00000001")
    assert torch.equal(tensors["model"]["weight"], saved)
    assert tensors["optimizer"]["weight/exp_avg"].abs().sum() > 0
    assert found["best"] == {"best": {"score": 1.0}}


def test_the_next_save_waits_for_the_running_one(tmp_path: Path) -> None:
    run, (_, state) = SlowFolder(tmp_path), trained()
    state.save(run, 1, 2)
    threading.Timer(0.2, run.may_write.set).start()
    state.save(run, 2, 2)
    assert (tmp_path / "checkpoints" / "step-00000001" / "COMPLETE").exists()
    state.wait()
    assert run.latest_checkpoint() == tmp_path / "checkpoints" / "step-00000002"


@pytest.mark.parametrize("at", ["the next save", "the end"])
def test_what_a_writer_raises_is_told(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, (_, state) = RunFolder(tmp_path), trained()

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run, "save_checkpoint", full)
    state.save(run, 1, 1)
    with pytest.raises(OSError, match="No space left"):
        state.wait() if at == "the end" else state.save(run, 2, 1)
    monkeypatch.undo()
    state.save(run, 3, 1)
    state.wait()
    assert run.latest_checkpoint() == tmp_path / "checkpoints" / "step-00000003"


def test_a_program_waits_for_its_writers_and_keeps_what_they_raise(tmp_path: Path) -> None:
    run, (network, state) = RunFolder(tmp_path), trained()
    with torch.no_grad():
        network.weight.fill_(float("inf"))
    state.save(run, 1, 1)
    wait_for_writers()
    assert not [thread for thread in threading.enumerate() if thread.name == "checkpoint writer"]
    with pytest.raises(UserError, match="not finite"):
        state.wait()


def test_copies_keep_types_shapes_and_values_in_one_buffer() -> None:
    image = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    tensors = {
        "a": {"image": image, "count": torch.tensor(7), "none": torch.zeros(0, 3)},
        "b": {"flag": torch.tensor([True, False, True]), "half": torch.randn(3).bfloat16()},
    }
    copier = Copies()
    copies, wait = copier.take(tensors)
    wait()
    found = [value for entries in copies.values() for value in entries.values()]
    for value, copy in zip([x for y in tensors.values() for x in y.values()], found, strict=True):
        assert copy.dtype == value.dtype
        assert torch.equal(copy, value)
        assert copy.is_contiguous()
        assert copy.untyped_storage().data_ptr() == found[0].untyped_storage().data_ptr()
        assert (copy.data_ptr() - found[0].data_ptr()) % ALIGNMENT == 0
    again, _ = copier.take({"a": {"image": -image}})
    assert again["a"]["image"].data_ptr() == found[0].data_ptr()
    assert torch.equal(again["a"]["image"], -image)
