"""PLVL with its weights divided between two processes: the steps of data parallelism, and of a run never killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from run_logs import records
from safetensors.torch import load_file
from shapes import small, write_shapes

from papers_shared.dataclass_json import dataclass_to_json
from papers_shared.files import write_json

# sums are rounded in another order with another number of threads
ENVIRONMENT = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    """The first of some ports, of which each run takes the next."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return min(probe.getsockname()[1], 65000)


def test_divided_weights_take_the_steps_of_data_parallelism(tmp_path: Path) -> None:
    blocks = write_shapes(tmp_path / "blocks", train=5, val=2)

    def recipe_file(name: str, **optim: object) -> str:
        recipe = small(blocks, tmp_path / name, micro_batch=1, **optim)  # two accumulation steps
        # recomputed blocks gather their weights a second time
        model = replace(recipe.model, grad_checkpointing=bool(optim))
        write_json(tmp_path / f"{name}.json", dataclass_to_json(replace(recipe, model=model)))
        return str(tmp_path / f"{name}.json")

    jobs = [recipe_file("plain"), recipe_file("divided", shard=True)]
    for name, optim in (("resumed", {"shard": True}), ("joined", {})):
        jobs += [f"{tmp_path / 'divided'}:{tmp_path / name}", recipe_file(name, **optim)]
    script = Path(__file__).with_name("forked_ranks.py")
    done = subprocess.run(
        [sys.executable, str(script), f"--port={free_port()}", "plvl", *jobs],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    plain, divided, resumed, joined = (tmp_path / name for name in ("plain", "divided", "resumed", "joined"))

    # ---- the same losses as data parallelism
    ours, theirs = records(plain, "train"), records(divided, "train")
    assert len(ours) == 12
    for key in ("loss", "grad_norm"):
        assert [r[key] for r in theirs] == pytest.approx([r[key] for r in ours], rel=1e-4)
    assert [r["miou"] for r in records(divided, "val")] == pytest.approx(
        [r["miou"] for r in records(plain, "val")], abs=1e-3
    )

    # ---- the same files, whole
    for name in ("last/model.safetensors", "checkpoints/step-00000012/optimizer.safetensors"):
        shapes = [
            {key: value.shape for key, value in load_file(run / name).items()} for run in (plain, divided)
        ]
        assert shapes[0] == shapes[1]

    # ---- resumed from step 8: bit for bit with divided weights; without, as near as data parallelism is
    assert [r["step"] for r in records(resumed, "start")] == [0, 8]
    assert records(resumed, "train") == theirs
    for name in ("last/model.safetensors", "checkpoints/step-00000012/optimizer.safetensors"):
        assert (resumed / name).read_bytes() == (divided / name).read_bytes()
    assert [r["step"] for r in records(joined, "start")] == [0, 8]
    assert [r["loss"] for r in records(joined, "train")] == pytest.approx(
        [r["loss"] for r in theirs], rel=1e-4
    )
