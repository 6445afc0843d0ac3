"""The loop on small images: learning, crashes, processes, switches, and that no mask is opened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import manipulation_sets as releases
import pytest
import torch
from accelerate.state import AcceleratorState
from calibrated_localizer import calibrated
from safetensors.torch import load_file

from cabl_cgsr.config import DataConfig, LossConfig, ModelConfig, Recipe
from cabl_cgsr.data import check, training_split
from cabl_cgsr.evaluate import image_metrics
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.recipes import toy
from cabl_cgsr.train import train
from papers_shared.dataclass_json import dataclass_to_json
from papers_shared.errors import UserError
from papers_shared.files import write_json
from papers_shared.training.schedule import durations, learning_rate

THREADS = 1
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "CUDA_VISIBLE_DEVICES": ""}
# glibc or pybind11 abort a process of divided weights on gloo once in some hundred runs, in memory Python cannot reach
ABORTED = pytest.mark.flaky(reruns=1, only_rerun=["exitcode: -6"])


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


@pytest.fixture
def small(image_root: Path, small_config: ModelConfig, tmp_path: Path):
    """Ten steps on 32-pixel crops."""

    def make(name: str, **optim: object) -> Recipe:
        recipe = toy()
        return replace(
            recipe,
            model=small_config,
            data=replace(
                recipe.data,
                root=str(image_root),
                layout="folders",
                val_share=0.34,
                long_side=(36, 56),
                crop_size=32,
                jitter=(0.3, 0.3, 0.3, 0.1),
            ),
            optim=replace(recipe.optim, **{"batch_size": 4, "steps": 10, "warmup_steps": 2, **optim}),
            run=replace(recipe.run, output=str(tmp_path / name), eval_every=5, checkpoint_every=4),
        )

    return make


def records(run: Path, kind: str) -> list[dict]:
    return [r for r in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if r["kind"] == kind]


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = (load_file(run / "last" / "model.safetensors") for run in (one, other))
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different


def config_file(recipe: Recipe, folder: Path) -> str:
    write_json(folder / "recipe.json", dataclass_to_json(recipe))
    return str(folder / "recipe.json")


OPENED: list[str] = []
sys.addaudithook(lambda event, arguments: OPENED.append(str(arguments[0])) if event == "open" else None)


def names_in_a_list(root: Path, suffix: str) -> DataConfig:
    """Lists that people write, of images with and without masks."""
    releases.folders(root)
    entries = [(f"authentic/{name}", "", 0) for name in ("a.jpg", "b.png")]
    entries += [
        (f"manipulated/batch/{name}", f"masks/batch/{Path(name).stem}.png", 1) for name in ("a.jpg", "b.png")
    ]
    path = root / f"list{suffix}"
    if suffix == ".json":
        keys = ("image", "mask", "label")
        listed = [{k: v for k, v in zip(keys, entry, strict=True) if v != ""} for entry in entries]
        path.write_text(json.dumps(listed))
    elif suffix == ".csv":
        path.write_text("image,mask,label\n" + "".join(",".join(map(str, entry)) + "\n" for entry in entries))
    else:
        path.write_text("".join(entry[0] + "\r\n" for entry in entries), encoding="utf-8-sig")
    return DataConfig(root=str(root), list=str(path))


ON_RAMPS: dict[str, Callable[[Path], Any]] = {
    write.__name__: write
    for write in (
        releases.casia1, releases.casia1_kaggle, releases.casia2, releases.casia2_kaggle, releases.columbia,
        releases.coverage, releases.imd2020, releases.folders, releases.imdlbenco, releases.nist16, releases.dso1,
        releases.korus, releases.autosplice, releases.openforensics, releases.image_folders,
        releases.beside,
    )
}  # fmt: skip
ON_RAMPS |= {suffix: partial(names_in_a_list, suffix=suffix) for suffix in (".txt", ".csv", ".json")}


@pytest.mark.parametrize("name", ON_RAMPS)
def test_training_starts_on_every_layout(name: str, small, tmp_path: Path) -> None:
    written = ON_RAMPS[name](tmp_path / "set")
    data = written if isinstance(written, DataConfig) else DataConfig(root=str(tmp_path / "set"))
    recipe = small("run", steps=1, warmup_steps=0, batch_size=2)
    shape = {"val_share": 0.0, "long_side": (36, 56), "crop_size": 32, "workers": 0}
    recipe = replace(recipe, data=replace(data, **shape))
    assert not check(recipe.data, progress=False).errors
    run = train(recipe)
    assert [r["step"] for r in records(run, "train")] == [1]
    assert (run / "last" / "model.safetensors").is_file()


def test_run_folder_holds_log_models_and_checkpoints_and_no_mask_is_opened(small, image_root: Path) -> None:
    OPENED.clear()
    run = train(small("run"))
    read = [path for path in OPENED if str(image_root) in path]
    assert any("manipulated/m" in path for path in read), "the audit hook sees images"
    assert not [path for path in read if "/masks" in path]

    losses = records(run, "train")
    assert [r["step"] for r in losses] == list(range(1, 11))
    assert all(r["loss"] == pytest.approx(r["conv_loss"] + r["trans_loss"]) for r in losses)
    validations = records(run, "val")
    assert [r["step"] for r in validations] == [5, 10]
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-00000008", "step-00000010"]
    best = max(validations, key=lambda r: r["i_auc"])
    rows = training_split(small("run").data, "val")
    assert {"label", "name", "image"} <= set(rows.column_names)
    assert image_metrics(Localizer.from_pretrained(run / "best"), rows)["i_auc"] == best["i_auc"]


def test_killed_and_resumed_is_bit_for_bit_the_same(small, tmp_path: Path) -> None:
    whole = train(small("whole", ema=0.9))
    recipe = small("killed", ema=0.9)
    command = [sys.executable, "-m", "cabl_cgsr", "train", config_file(recipe, tmp_path)]
    log = tmp_path / "killed" / "log.jsonl"
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and len(log.read_text().splitlines()) >= 6:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    assert process.wait() == -signal.SIGKILL, process.stderr.read().decode()
    assert not (tmp_path / "killed" / "last").exists(), "killed before the end"

    resumed = train(recipe)
    assert_same_weights(whole, resumed)
    assert records(whole, "train") == records(resumed, "train")
    assert records(whole, "val") == records(resumed, "val")


@pytest.fixture
def comparable(small, small_config: ModelConfig, tmp_path: Path):
    """Six steps whose losses two ways of computing agree on: frozen statistics of batch norm that fit the weights (with
    those of a fresh network 12 blocks grow to losses of 1e5), no stochastic depth, and small smooth updates."""
    start = calibrated(small_config).save_pretrained(tmp_path / "start")

    def make(name: str, **optim: object) -> Recipe:
        recipe = small(name, **{"norm_eval": True, "steps": 6, "lr": 1e-4, "eps": 1e-3, **optim})
        return replace(recipe, model=replace(recipe.model, drop_path_rate=0.0, pretrained=str(start)))

    return make


def losses_of(run: Path) -> list[float]:
    found = [r["loss"] for r in records(run, "train")]
    assert len(found) == 6
    assert max(found) < 10
    return found


@pytest.mark.parametrize("shard", [False, pytest.param(True, marks=ABORTED)], ids=["whole", "shard"])
def test_two_processes_take_the_steps_of_one(comparable, shard: bool, tmp_path: Path) -> None:
    train(comparable("one"))
    two = config_file(comparable("two", shard=shard), tmp_path)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    done = subprocess.run(
        [*launch, "cabl_cgsr", "train", two],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [r["processes"] for r in records(tmp_path / "two", "start")] == [2]
    assert losses_of(tmp_path / "two") == pytest.approx(losses_of(tmp_path / "one"), rel=1e-3)
    scores = [[r["images"] for r in records(tmp_path / name, "val")] for name in ("one", "two")]
    assert scores[0] == scores[1]


def test_micro_batches_take_the_steps_of_the_whole_batch(comparable) -> None:
    whole, micro = (
        losses_of(train(comparable(name, micro_batch=size))) for name, size in (("4", 4), ("1", 1))
    )
    assert micro == pytest.approx(whole, rel=1e-4)


def test_batch_is_computed_in_micro_batches_and_said(small, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(small("run", micro_batch=2, steps=1))
    assert "batch of 4: 1 process x 2 accumulation steps x 2 samples" in capsys.readouterr().err
    (start,) = records(run, "start")
    assert [start[key] for key in ("batch_size", "accumulation", "micro_batch")] == [4, 2, 2]
    with pytest.raises(UserError, match=r"--optim\.micro-batch 3"):
        train(small("refused", micro_batch=3))


def test_loss_that_is_not_finite_stops_with_the_samples(small, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the loss of step \d+ is (nan|inf) on the samples "):
        train(small("run", lr=1e30, warmup_steps=0, clip_grad=0.0))
    (stopped,) = (tmp_path / "run").glob("stopped-at-step-*")
    assert len(json.loads((stopped / "state.json").read_text())["samples"]) == 4


def test_resuming_another_configuration_is_refused(small) -> None:
    recipe = small("run", steps=1)
    train(recipe)
    with pytest.raises(UserError, match=r"optim\.lr was 0\.00\d+, is 0\.1"):
        train(replace(recipe, optim=replace(recipe.optim, lr=0.1)))
    with pytest.raises(UserError, match="holds a run"):
        train(replace(recipe, run=replace(recipe.run, resume=False)))


def test_without_a_validation_part_the_last_step_is_the_result(small) -> None:
    recipe = small("run", steps=2)
    run = train(replace(recipe, data=replace(recipe.data, val_share=0.0)))
    assert not records(run, "val")
    assert not (run / "best").exists()
    assert Localizer.from_pretrained(run / "last").config == recipe.model


LAYOUTS = (
    releases.casia2,
    releases.casia1_kaggle,
    releases.coverage,
    releases.nist16,
    releases.korus,
    releases.image_folders,
    releases.wscl_list,
    releases.imdlbenco_list,
)


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_training_starts_on_what_people_have(write, small, tmp_path: Path) -> None:
    made = write(tmp_path / "set")
    recipe = small("run", steps=1, batch_size=2, warmup_steps=0)
    listed = {"list": str(made)} if made.is_file() else {}
    data = replace(recipe.data, root=str(tmp_path / "set"), layout="auto", val_share=0.0, **listed)
    assert check(data, progress=False).exit_code == 0
    assert records(train(replace(recipe, data=data)), "train")[0]["loss"] > 0


def test_a_file_that_cannot_be_read_is_named_before_the_first_step(
    small, image_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(image_root, tmp_path / "set")
    victim = tmp_path / "set/manipulated/m04.png"
    recipe = small("run")
    recipe = replace(recipe, data=replace(recipe.data, root=str(tmp_path / "set")))
    content = victim.read_bytes()
    for spoil in (
        lambda: victim.symlink_to(tmp_path / "nowhere.png"),
        lambda: victim.write_bytes(content[: len(content) // 2]),
    ):
        victim.unlink()
        spoil()
        with pytest.raises(UserError, match=r"m04\.png: .*cabl-cgsr data check") as told:
            train(recipe)
        assert len(str(told.value)) < 600
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "switch",
    [{"precision": "bf16"}, {"decay_norms": False}, {"schedule": "constant"}],
    ids=lambda switch: next(iter(switch)),
)
def test_switches_train(small, switch: dict) -> None:
    losses = records(train(small("switched", steps=2, **switch)), "train")
    assert len(losses) == 2
    assert all(0 < r["loss"] < 20 for r in losses)


@pytest.mark.parametrize(
    "changes",
    [{"loss": LossConfig("summed_logits")}, {"model": {"num_logits": 2, "activation": "softmax"}}],
    ids=["summed_logits", "softmax"],
)
def test_other_heads_and_losses_train(small, changes: dict) -> None:
    recipe = small("run", steps=1)
    recipe = replace(
        recipe,
        model=replace(recipe.model, **changes.get("model", {})),
        loss=changes.get("loss", recipe.loss),
    )
    assert records(train(recipe), "train")[0]["loss"] > 0


def test_epochs_steps_and_rates() -> None:
    optim = replace(toy().optim, epochs=30, steps=0, batch_size=8, warmup_steps=0)
    assert durations(optim, 11_353) == (42_573, 0)
    with pytest.raises(UserError, match="nothing to train"):
        durations(replace(optim, epochs=0), 10)
    optim = replace(optim, steps=100)
    constant = replace(optim, schedule="constant", lr=5e-5)
    assert {learning_rate(constant, step, 10) for step in (0, 50, 99)} == {5e-5}
    assert learning_rate(replace(optim, schedule="poly", lr=1.0), 25, 10) == pytest.approx(0.75)
    assert learning_rate(replace(optim, schedule="cosine", lr=1.0), 50, 10) == pytest.approx(0.5)
