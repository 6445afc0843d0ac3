"""The loop on a few coloured blocks: crashes, processes, switches, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from shapes import small, write_shapes

from papers_shared.dataclass_json import dataclass_to_json
from papers_shared.errors import UserError
from papers_shared.files import write_json
from plvl.config import Recipe
from plvl.data import open_split
from plvl.evaluate import evaluate
from plvl.modeling.plvl import PLVL
from plvl.train import train

THREADS = 1
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "CUDA_VISIBLE_DEVICES": ""}
STILL = {"drop_path_rate": 0.0, "decoder_dropout": 0.0}


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> None:
    """Accelerate keeps one precision per process."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True, scope="module")
def _threads_of_the_started_processes() -> Iterator[None]:
    """Sums are rounded in another order with another number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("blocks") / "data", train=5, val=2)


def records(run: Path, kind: str) -> list[dict]:
    return [r for r in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if r["kind"] == kind]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "last" / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different


def test_run_folder_holds_log_models_and_bounded_checkpoints(blocks: Path, tmp_path: Path) -> None:
    run = train(small(blocks, tmp_path / "run"))
    losses = records(run, "train")
    assert [r["step"] for r in losses] == list(range(1, 13))
    terms = ("giou", "l1", "center_focal", "mask_focal", "dice")
    assert all(r["loss"] == pytest.approx(sum(r[term] for term in terms)) for r in losses)
    validations = records(run, "val")
    assert [r["step"] for r in validations] == [6, 12]
    assert all(r["joint"] == pytest.approx((r["acc_at_05"] + r["miou"]) / 2) for r in validations)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-00000008", "step-00000012"]

    rows = open_split(small(blocks, run).data, "val")
    for folder, metric in (("best", "joint"), ("best_box", "acc_at_05"), ("best_mask", "miou")):
        best = max(validations, key=lambda r: r[metric])
        model = PLVL.from_pretrained(run / folder)
        origin = json.loads((run / folder / "training.json").read_text())
        assert (origin["recipe"], origin["step"], origin["chosen_by"]) == ("toy", best["step"], metric)
        scores = evaluate(model, rows)["paper"]
        assert scores["miou"] == pytest.approx(best["miou"], abs=0)
        assert scores["acc_at_05"] == best["acc_at_05"]
    assert b"block" in (run / "last" / "vocab.txt").read_bytes()


def test_killed_and_resumed_is_bit_for_bit_the_same(blocks: Path, tmp_path: Path) -> None:
    whole = train(small(blocks, tmp_path / "whole", ema=0.9))
    recipe = small(blocks, tmp_path / "killed", ema=0.9)
    command = [sys.executable, "-m", "plvl", "train", config_file(recipe, tmp_path)]
    log = tmp_path / "killed" / "log.jsonl"
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and len(log.read_text().splitlines()) >= 6:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    assert process.wait() == -signal.SIGKILL, process.stderr.read().decode()
    assert not (tmp_path / "killed" / "last").exists(), "killed before the end"

    resumed = train(recipe)
    assert_same_weights(whole, resumed)
    assert records(whole, "train") == records(resumed, "train")
    assert records(whole, "val") == records(resumed, "val")


def config_file(recipe: Recipe, folder: Path) -> str:
    write_json(folder / "recipe.json", dataclass_to_json(recipe))
    return str(folder / "recipe.json")


def test_two_processes_take_the_steps_of_one(blocks: Path, tmp_path: Path) -> None:
    one = small(blocks, tmp_path / "one", norm_eval=True, micro_batch=2)
    one = replace(one, model=replace(one.model, **STILL))
    train(one)
    two = replace(one, run=replace(one.run, output=str(tmp_path / "two")))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    done = subprocess.run(
        [*launch, "plvl", "train", config_file(two, tmp_path)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [r["processes"] for r in records(tmp_path / "two", "start")] == [2]
    alone, together = records(tmp_path / "one", "train"), records(tmp_path / "two", "train")
    assert [r["loss"] for r in together] == pytest.approx([r["loss"] for r in alone], rel=1e-3)
    vals = [records(tmp_path / name, "val")[0] for name in ("one", "two")]
    assert vals[1]["miou"] == pytest.approx(vals[0]["miou"], abs=5e-3)
    assert [r["expressions"] for r in vals] == [6, 6], "each sentence counts once"


@pytest.mark.parametrize("form", ["sound", "official"])
def test_accumulation_takes_the_steps_of_the_whole_batch(blocks: Path, tmp_path: Path, form: str) -> None:
    def losses(name: str, micro_batch: int) -> list[float]:
        recipe = small(blocks, tmp_path / name, micro_batch=micro_batch, norm_eval=True, steps=4)
        recipe = replace(recipe, model=replace(recipe.model, **STILL), loss=replace(recipe.loss, form=form))
        return [r["loss"] for r in records(train(recipe), "train")]

    assert losses("four", 1) == pytest.approx(losses("one", 4), rel=1e-3)


@pytest.mark.parametrize(
    ("switch", "terms"), [("res", {"giou", "l1", "center_focal"}), ("rec", {"mask_focal", "dice"})]
)
def test_one_task_alone(blocks: Path, tmp_path: Path, switch: str, terms: set[str]) -> None:
    recipe = small(blocks, tmp_path / "run", steps=2)
    run = train(replace(recipe, model=replace(recipe.model, **{switch: False})))
    assert records(run, "train")[0].keys() == {"kind", "step", "loss", "lr", "grad_norm"} | terms
    assert sorted(path.name for path in run.iterdir() if path.is_dir()) == ["best", "checkpoints", "last"]


def test_validation_by_epoch(blocks: Path, tmp_path: Path) -> None:
    recipe = small(blocks, tmp_path / "run", steps=0, epochs=2, decay_per="epoch", warmup_steps=0)
    run = train(replace(recipe, run=replace(recipe.run, eval_every=0)))
    assert [r["step"] for r in records(run, "val")] == [4, 7], "15 samples in batches of 4, two epochs"
    rates = [r["lr"] for r in records(run, "train")]
    assert rates == [1e-3] * 4 + [pytest.approx(1e-3 * 0.5**0.9)] * 3


def test_loss_that_is_not_finite_stops_with_the_samples(blocks: Path, tmp_path: Path) -> None:
    recipe = small(
        blocks, tmp_path / "run", lr=1e30, lr_vision=1e30, lr_text=1e30, warmup_steps=0, clip_grad=0.0
    )
    with pytest.raises(UserError, match=r"the loss of step \d+ is (nan|inf) on the samples train/"):
        train(recipe)
    (stopped,) = (tmp_path / "run").glob("stopped-at-step-*")
    assert len(json.loads((stopped / "state.json").read_text())["samples"]) == 4


def test_data_without_masks_is_told_how_to_train(tmp_path: Path) -> None:
    root = write_shapes(tmp_path / "data", train=2, val=1)
    for split in ("train", "val"):
        lines = [json.loads(line) for line in (root / f"{split}.jsonl").read_text().splitlines()]
        text = "".join(json.dumps({k: v for k, v in line.items() if k != "mask"}) + "\n" for line in lines)
        (root / f"{split}.jsonl").write_text(text)
    recipe = small(root, tmp_path / "run", steps=2)
    with pytest.raises(UserError, match=r"has no mask: .*--model\.no-res"):
        train(recipe)
    recipe = replace(recipe, run=replace(recipe.run, output=str(tmp_path / "boxes")))
    assert records(train(replace(recipe, model=replace(recipe.model, res=False))), "val")[-1]["miou"] is None


def test_resuming_another_configuration_is_refused(blocks: Path, tmp_path: Path) -> None:
    recipe = small(blocks, tmp_path / "run", steps=2)
    train(recipe)
    with pytest.raises(UserError, match=r"optim\.lr was 0\.001, is 0\.1"):
        train(replace(recipe, optim=replace(recipe.optim, lr=0.1)))
    with pytest.raises(UserError, match="holds a run"):
        train(replace(recipe, run=replace(recipe.run, resume=False)))


def test_batch_is_computed_in_micro_batches_and_said(
    blocks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(small(blocks, tmp_path / "run", micro_batch=2, steps=1))
    assert "batch of 4: 1 process x 2 accumulation steps x 2 samples" in capsys.readouterr().err
    (start,) = records(run, "start")
    assert [start[key] for key in ("batch_size", "accumulation", "micro_batch")] == [4, 2, 2]
    with pytest.raises(UserError, match=r"1 process with --optim\.micro-batch 3 cannot compute a batch of 4"):
        train(small(blocks, tmp_path / "refused", micro_batch=3))


@pytest.mark.parametrize(
    "switch",
    [{"precision": "bf16"}, {"clip_grad": 0.1}, {"decay_norms": False}, {"lr_groups": "official"}],
    ids=lambda switch: next(iter(switch)),
)
def test_switches_change_the_run(blocks: Path, tmp_path: Path, switch: dict) -> None:
    plain = records(train(small(blocks, tmp_path / "plain", steps=3)), "train")
    AcceleratorState._reset_state(reset_partial_state=True)
    switched = records(train(small(blocks, tmp_path / "switched", steps=3, **switch)), "train")
    assert switched[0]["loss"] == pytest.approx(plain[0]["loss"], rel=0.05)
    assert len(switched) == 3


def test_recomputing_blocks_takes_the_same_steps(blocks: Path, tmp_path: Path) -> None:
    def losses(name: str, recompute: bool) -> list[float]:
        recipe = small(blocks, tmp_path / name, steps=3)
        recipe = replace(recipe, model=replace(recipe.model, grad_checkpointing=recompute))
        return [r["loss"] for r in records(train(recipe), "train")]

    assert losses("less", True) == pytest.approx(losses("more", False), rel=1e-4)


@pytest.mark.parametrize(
    ("optim", "sentence"),
    [
        ({}, "there is one: start two or more"),
        ({"ema": 0.9, "precision": "fp16"}, r"does not go with --optim\.ema and --optim\.precision fp16"),
    ],
    ids=["alone", "switches"],
)
def test_dividing_the_weights_is_refused_where_it_cannot_be(
    blocks: Path, tmp_path: Path, optim: dict, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        train(small(blocks, tmp_path / "run", shard=True, **optim))


def test_sync_bn_needs_gpus(blocks: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has GPUs")
    with pytest.raises(UserError, match="needs GPUs"):
        train(small(blocks, tmp_path / "run", sync_bn=True))


def test_trackers_by_name(blocks: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    recipe = small(blocks, tmp_path / "run", steps=2)
    run = train(replace(recipe, run=replace(recipe.run, trackers=("tensorboard",), log_every=1)))
    assert list(run.rglob("events.out.tfevents*"))
    with pytest.raises(UserError, match=r"nosuchtracker. is unknown or not installed"):
        train(replace(recipe, run=replace(recipe.run, trackers=("nosuchtracker",))))
