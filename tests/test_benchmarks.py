"""The benchmark suite measures one function, runs from end to end, judges honestly; no time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("fanet")
pytest.importorskip("psutil")

from benchmarks import child, targets
from benchmarks.cases import Case, cases_of
from benchmarks.fanet_networks import build, check_equality
from fanet.convert import convert_state_dict

ROOT = Path(__file__).parents[1]
STEP = Case("fanet", "fanet", "backbone", "training", 64, 2)


def test_plain_transcription_is_the_same_function() -> None:
    networks = {name: build(replace(STEP, network=name)) for name in ("fanet", "plain")}
    check_equality(networks, "backbone", (64, 45))

    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for network in networks.values():
        sum(features.square().mean() for features in network.eval()(images)).backward()
    gradients = {name: gradients_of(network) for name, network in networks.items()}
    expected = convert_state_dict(gradients["plain"])
    assert expected.keys() == gradients["fanet"].keys()
    for name, gradient in expected.items():
        difference = (gradients["fanet"][name] - gradient).abs().max() / gradient.abs().max()
        assert difference < 1e-3, name


def gradients_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.grad for name, value in network.named_parameters() if value.grad is not None}


def test_another_function_is_refused() -> None:
    networks = {name: build(replace(STEP, network=name)) for name in ("fanet", "plain")}
    with torch.no_grad():
        networks["plain"].get_parameter("downsample_layers.0.bias")[0] += 0.01
    with pytest.raises(AssertionError, match="differs from plain"):
        check_equality(networks, "backbone", (64,))


def test_quick_run(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "fanet",
        "--quick",
        "--modes",
        "inference",
        "loader",
        "--threads",
        "1",
    ]
    done = subprocess.run([*command, "--output", tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "fanet-cpu-quick.json").read_text())
    networks = {result["case"]["network"] for result in record["results"]}
    assert networks == {"fanet", "plain", "focalnet_tiny_lrf", "convnext_tiny"}
    assert record["missing"] == []
    assert record["targets"] == []
    assert max(record["equality"].values()) < 2e-5
    assert all(len(result["repeats"]) == 2 for result in record["results"])
    page = (tmp_path / "fanet-cpu-quick.md").read_text()
    assert "fanet, cached epoch" in page
    assert page in done.stdout


def test_memory_child(capsys: pytest.CaptureFixture[str]) -> None:
    case = replace(STEP, mode="memory", side=32)
    child.main(json.dumps({"case": asdict(case), "device": "cpu", "threads": torch.get_num_threads()}))
    figures = json.loads(capsys.readouterr().out)
    gradients_and_adam = 3 * 4 * 35_951_328
    assert figures["peak_bytes"] - figures["baseline_bytes"] == figures["bytes"]
    assert figures["bytes"] > 0.8 * gradients_and_adam


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(1.0, "met"), (1.7, "met"), (1.8, "missed"), (None, "not measured")]
)
def test_verdict(seconds: float | None, verdict: str) -> None:
    timings = {"plain": 2.0} | ({} if seconds is None else {"fanet": seconds})
    wanted = [
        case
        for case in cases_of("fanet")
        if (case.mode, case.part, case.side, case.compiled) == ("inference", "backbone", 512, False)
    ]
    results = [
        {"case": asdict(case), "median": timings[case.network], "repeats": [timings[case.network]] * 3}
        for case in wanted
        if case.network in timings
    ]
    eager, *others = targets.judge("fanet", {"results": results, "networks": {}})
    assert eager["verdict"] == verdict
    assert {target["verdict"] for target in others} == {"not measured"}


def test_unknown_package_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "fannet"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "no benchmarks of 'fannet'" in done.stderr
