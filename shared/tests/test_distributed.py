"""What a loop says when processes are missing; two real ones are in the tests of the whole tree."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import accelerate.utils
import pytest
import torch
from accelerate.state import AcceleratorState

from papers_shared.errors import UserError
from papers_shared.training.distributed import make_accelerator, report_lost_processes, same_everywhere

GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.2]:41234"


@pytest.fixture(autouse=True)
def _fresh_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError(GLOO), r"\(Connection closed by peer \[10\.0\.0\.2\]:41234\)"),
        (
            RuntimeError("Application timeout caused pair closure"),
            r"\(Application timeout caused pair closure\)",
        ),
        (torch.distributed.DistBackendError("NCCL error\nmore"), r"\(NCCL error\)"),
    ],
    ids=["gloo", "gloo-waiting", "nccl"],
)
def test_lost_processes_become_one_sentence(error: RuntimeError, reason: str) -> None:
    @report_lost_processes
    def train(recipe: str) -> Path:
        raise error

    with pytest.raises(UserError, match=f"no longer answer {reason}: .*resumes from the newest checkpoint"):
        train("toy")


def test_other_errors_stay_as_they_are() -> None:
    @report_lost_processes
    def train(recipe: str) -> Path:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        train("toy")


def test_a_launch_of_several_that_started_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that `accelerate launch --cpu --num_processes 2` leaves."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert make_accelerator().num_processes == 1, "asked for one"
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(UserError, match="asked for several processes and started one: give it --multi_gpu"):
        make_accelerator()


THREADS = """
import atexit, os
from pathlib import Path
atexit.register(lambda: print([task.joinpath("comm").read_text() for task in Path("/proc/self/task").iterdir()]))
from papers_shared.training.distributed import make_accelerator, same_everywhere
same_everywhere(make_accelerator(), process=os.environ["RANK"])
"""


@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="the names of threads are read from Linux's /proc"
)
def test_no_thread_of_the_exchange_outlives_the_program() -> None:
    """Here a program that ends with a refusal; one that lived on would now and then abort the process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", THREADS],
            env={
                **os.environ,
                **address,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "CUDA_VISIBLE_DEVICES": "",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for rank in ranks:
        out, errors = rank.communicate(timeout=120)
        assert "UserError: the processes do not agree on the process" in errors
        assert rank.returncode == 1, errors
        assert "python" in out
        assert "gloo" not in out


def test_the_fsdp_of_accelerate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of `accelerate launch --use_fsdp`, which on CPUs divides nothing and does not say so."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match=r"without --use_fsdp, and give the training command --optim\.shard"):
        make_accelerator()


def test_a_timeout_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="timeout of 0 s"):
        make_accelerator(timeout=0)


def test_processes_that_see_other_things_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"training_samples": 3, "checkpoint": "step-00000004"}
    monkeypatch.setattr(accelerate.utils, "gather_object", lambda seen: [*seen, other])
    accelerator = make_accelerator()
    same_everywhere(accelerator, training_samples=3, checkpoint="step-00000004")
    with pytest.raises(
        UserError, match=r"agree on the training samples \(process 0 has 5, process 1 has 3\)"
    ):
        same_everywhere(accelerator, training_samples=5, checkpoint="step-00000004")
