"""Names of devices and precisions, and what they switch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from papers_shared.dataclass_json import dataclass_from_json
from papers_shared.devices import (
    autocast,
    choose_precision,
    float32_precision,
    inputs_at_once,
    precision_name,
    select_device,
    use_precision,
)
from papers_shared.errors import UserError
from papers_shared.training.config import OptimConfig

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def _switches() -> Iterator[None]:
    """Leave torch's switches as they were."""
    matmul, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = convolutions


def _seen(monkeypatch: pytest.MonkeyPatch, gpus: int = 0, *, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_auto_takes_cuda_then_mps_then_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for gpus, mps, expected in ((2, True, "cuda"), (0, True, "mps"), (0, False, "cpu")):
        _seen(monkeypatch, gpus, mps=mps)
        assert str(select_device()) == expected
    _seen(monkeypatch, 2)
    assert str(select_device("cuda:1")) == "cuda:1"
    assert str(select_device("cpu")) == "cpu"


def test_processes_of_a_launcher_share_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    _seen(monkeypatch, 2)
    for rank, expected in enumerate(("cuda:0", "cuda:1", "cuda:0")):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        assert str(select_device()) == str(select_device("cuda")) == expected
    assert str(select_device("cuda:1")) == "cuda:1"
    assert str(select_device("cpu")) == "cpu"


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", "sees no GPU here"),
        ("cuda:0", "sees no GPU here"),
        ("mps", "no GPU of Apple's"),
        ("gpu", "give auto, cpu, cuda, cuda:N or mps"),
        ("cuda:x", "give auto, cpu, cuda, cuda:N or mps"),
    ],
)
def test_a_device_that_is_not_there_is_named(
    device: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _seen(monkeypatch)
    with pytest.raises(UserError, match=f"--device {device}.*{message}"):
        select_device(device)


def test_a_number_beyond_the_gpus_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _seen(monkeypatch, 2)
    with pytest.raises(UserError, match="--device cuda:2: torch sees 2 GPUs"):
        select_device("cuda:2")


def test_auto_is_bf16_on_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulated, has=has: has)
        assert choose_precision("auto", GPU) == expected
    assert choose_precision("auto", CPU) == choose_precision("auto", torch.device("mps")) == "fp32"
    assert choose_precision("tf32", CPU) == "fp32", "only GPUs round factors"
    assert choose_precision("tf32", GPU) == "tf32"


def test_bf16_on_a_cpu_without_it_warns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(3):
            assert choose_precision("bf16", CPU) == "bf16"
    assert ["several times slower" in str(warning.message) for warning in told] == [True]
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choose_precision("bf16", CPU)


def test_products_and_convolutions_are_switched_alike() -> None:
    for precision in ("tf32", "fp32", "bf16", "fp16"):
        assert use_precision(precision, GPU) == precision
        rounded = precision == "tf32"
        assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (rounded, rounded)
        assert float32_precision(GPU) == ("tf32" if rounded else "fp32")
        assert float32_precision(CPU) == "fp32"


def test_autocast_is_for_half_precision_alone() -> None:
    network, types = nn.Linear(2, 2), {}
    for precision in ("fp32", "tf32", "bf16", "fp16"):
        with autocast(network, precision):
            types[precision] = network(torch.ones(1, 2)).dtype
    assert list(types.values()) == [torch.float32, torch.float32, torch.bfloat16, torch.float16]
    assert [precision_name(one) for one in types] == ["float32", "tf32", "bf16", "fp16"]


def test_a_configuration_that_calls_float32_no_still_opens() -> None:
    assert dataclass_from_json(OptimConfig, {"precision": "no"}).precision == "fp32"
    with pytest.raises(UserError, match="choose one of 'fp32', 'tf32', 'bf16', 'fp16'"):
        dataclass_from_json(OptimConfig, {"precision": "half"})


def test_a_gpu_takes_several_inputs_at_once_and_a_cpu_one() -> None:
    assert inputs_at_once(CPU, 1) == 1
    assert inputs_at_once(GPU, 512 * 512) == 16
    assert inputs_at_once(GPU, 10**9) == 1
