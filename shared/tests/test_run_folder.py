"""Run folders: checkpoints, log, atomic folders, and kills in the middle."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from pathlib import Path

import pytest
import torch

from papers_shared.errors import UserError
from papers_shared.files import writing_folder
from papers_shared.training.run_folder import RunFolder
from papers_shared.training.state import TrainingState


def save(run: RunFolder, step: int, keep: int = 3) -> Path:
    tensors = {"model": {"a.b": torch.full((4, 3), float(step))}, "rng": {"cpu": torch.get_rng_state()}}
    return run.save_checkpoint(step, tensors, {"step": step, "best": None}, keep)


def test_round_trip(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    weights = {
        "view": torch.arange(12.0).reshape(3, 4).T,
        "last": torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "count": torch.tensor(7),
        "half": torch.rand(3).bfloat16(),
    }
    weights["tied"] = weights["view"]
    path = run.save_checkpoint(400, {"model": weights}, {"step": 400, "rate": 0.1 + 0.2}, keep=1)
    assert path == run.path / "checkpoints/step-00000400" == run.latest_checkpoint()
    tensors, state = run.load_checkpoint(path)
    assert state == {"step": 400, "rate": 0.1 + 0.2}
    assert tensors["model"].keys() == weights.keys()
    for name, value in weights.items():
        assert tensors["model"][name].dtype == value.dtype
        assert torch.equal(tensors["model"][name], value)


def test_older_checkpoints_are_pruned(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in (5, 10, 20, 100_000_000):
        save(run, step, keep=2)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["step-00000020", "step-100000000"]
    save(run, 20, keep=2)
    assert run.latest_checkpoint() == run.checkpoints / "step-100000000"


@pytest.mark.parametrize("harm", ["marker", "file", "size", "content", "json", "partial"])
def test_spoilt_checkpoints_are_not_picked(tmp_path: Path, harm: str) -> None:
    run = RunFolder(tmp_path)
    good, bad = save(run, 1), save(run, 2)
    if harm == "marker":
        (bad / "COMPLETE").unlink()
    elif harm == "file":
        (bad / "model.safetensors").unlink()
    elif harm == "size":
        with open(bad / "model.safetensors", "ab") as file:
            file.truncate(20)
    elif harm == "content":
        content = bytearray((bad / "model.safetensors").read_bytes())
        content[-3] ^= 0x40
        (bad / "model.safetensors").write_bytes(content)
        with pytest.warns(
            UserWarning, match=r"step-00000002 is damaged \(not as written: model.safetensors\)"
        ):
            run.latest_checkpoint(report=True)
    elif harm == "json":
        (bad / "COMPLETE").write_text("[1, 2")
    else:
        bad = bad.rename(bad.with_name(".step-00000002.partial"))
    assert run.latest_checkpoint() == good
    if harm != "partial":
        with pytest.raises(UserError, match="cannot be loaded"):
            run.load_checkpoint(bad)


def test_files_of_other_programs_do_not_spoil_a_checkpoint(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    newest = save(run, 2)
    for name in (".DS_Store", "._model.safetensors", ".nfs0001", "more.safetensors"):
        (newest / name).write_bytes(b"x")
    (newest / "@eaDir").mkdir()
    assert run.latest_checkpoint() == newest
    assert run.load_checkpoint(newest)[0].keys() == {"model", "rng"}


def test_markers_of_earlier_versions_are_read(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    newest = save(run, 2)
    sizes = {file.name: file.stat().st_size for file in newest.iterdir() if file.name != "COMPLETE"}
    (newest / "COMPLETE").write_text(json.dumps(sizes))
    assert run.latest_checkpoint() == newest


def lock_and_wait(path: Path, ready: object) -> None:
    run = RunFolder(path)
    run.lock()
    ready.set()
    time.sleep(60)
    assert run.path == path


def test_one_process_trains_in_a_folder_and_a_killed_one_leaves_it_free(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    child = context.Process(target=lock_and_wait, args=(tmp_path, ready))
    child.start()
    try:
        assert ready.wait(60)
        with pytest.raises(UserError, match=rf"is in use by another training \(process {child.pid} on "):
            RunFolder(tmp_path).lock()
    finally:
        child.kill()
        child.join()
    RunFolder(tmp_path).lock()


def save_for_ever(path: Path, step: int) -> None:
    run, network = RunFolder(path), torch.nn.Sequential(*(torch.nn.Linear(30, 30) for _ in range(20)))
    state = TrainingState(network, torch.optim.SGD(network.parameters()))
    while True:
        step += 1
        for change in (0.0, 0.5):  # while one is written, the training goes on
            with torch.no_grad():
                for weight in network.parameters():
                    weight.fill_(step + change)
            if not change:
                state.save(run, step // 2, keep=2, count=step)
        run.log({"step": step})


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that holds torch")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_kill_in_the_middle_of_saving(tmp_path: Path) -> None:
    save(RunFolder(tmp_path), 0)
    for attempt in range(8):
        child = multiprocessing.get_context("fork").Process(
            target=save_for_ever, args=(tmp_path, attempt * 1000)
        )
        child.start()
        log, deadline = tmp_path / "log.jsonl", time.monotonic() + 60
        before = log.stat().st_size if log.exists() else 0
        while not (log.exists() and log.stat().st_size > before) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.0137 * attempt)
        child.kill()
        child.join()
        run = RunFolder(tmp_path)
        found = run.latest_checkpoint()
        assert found is not None
        tensors, state = run.load_checkpoint(found)
        count = state.get("count", state["step"])
        assert found.name == f"step-{count // 2:08d}"
        assert all((value == count).all() for value in tensors["model"].values())
    run.truncate_log(10**9)
    assert all(json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())


def test_log_is_cut_back_to_a_step(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.truncate_log(0)
    run.log({"kind": "start"})
    for step in range(1, 5):
        run.log({"kind": "train", "step": step, "loss": float("nan")})
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"kind": "tra')
    run.truncate_log(2)
    run.log({"kind": "train", "step": 3, "loss": 1.0})
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [record.get("step") for record in records] == [None, 1, 2, 3]
    assert records[1]["loss"] == "nan"


def test_foreign_lines_of_the_log_are_kept_aside(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\nnonsense\n\n{"step": "2"}\n{"step": 2}\n')
    with pytest.warns(UserWarning, match="2 lines are no records"):
        RunFolder(tmp_path).truncate_log(1)
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1}\n'
    assert (tmp_path / "log-damaged.txt").read_text() == 'nonsense\n{"step": "2"}\n'


OURS = ("a", "b")


def test_writing_folder_replaces_only_on_success(tmp_path: Path) -> None:
    final = tmp_path / "out"
    with writing_folder(final, OURS) as partial:
        (partial / "a").write_text("first")
    with pytest.raises(RuntimeError), writing_folder(final, OURS) as partial:
        raise RuntimeError
    assert (final / "a").read_text() == "first"
    with writing_folder(final, OURS) as partial:
        (partial / "b").write_text("second")
    assert [path.name for path in final.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_files_of_others_is_not_replaced(tmp_path: Path) -> None:
    final = tmp_path / "out"
    with writing_folder(final, OURS) as partial:
        (partial / "a").write_text("ours")
    for name in (".DS_Store", "._a", "runs/model.txt"):
        (final / name).parent.mkdir(exist_ok=True)
        (final / name).write_text("mine")
    with (
        pytest.raises(UserError, match=r"holds other files \('runs/model\.txt'\)"),
        writing_folder(final, OURS),
    ):
        raise AssertionError("asked before the work")
    (final / "runs/model.txt").unlink()
    late = pytest.raises(UserError, match="notes")
    with late, writing_folder(final, OURS) as partial:
        (final / "notes").write_text("mine")
    assert (final / "a").read_text() == "ours"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_lost_between_two_renames_comes_back(tmp_path: Path) -> None:
    with writing_folder(tmp_path / "best", OURS) as partial:
        (partial / "a").write_text("kept")
    (tmp_path / "best").rename(tmp_path / ".best.former")
    RunFolder(tmp_path)
    assert (tmp_path / "best/a").read_text() == "kept"


def test_leftovers_of_a_kill_are_cleared(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    newest = save(run, 2)
    for name in (".step-00000002.former", ".step-00000001.partial"):
        (run.checkpoints / name).mkdir()
    save(RunFolder(tmp_path), 2)
    assert list(run.checkpoints.iterdir()) == [newest]


def test_writing_folder_refuses_files_and_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    for name, message in (("file", "is a file"), (".", "current folder")):
        with pytest.raises(UserError, match=message), writing_folder(name, OURS):
            pass
