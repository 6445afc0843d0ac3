"""The benchmark suite measures one function, runs from end to end, judges honestly; no time is asserted."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("fanet")
pytest.importorskip("psutil")

from benchmarks import __main__ as command
from benchmarks import fanet_networks, memory, suite, targets
from benchmarks.cases import FANET_BACKBONES, PACKAGES, Case, cases_of, groups_of
from benchmarks.fanet_networks import build, check_equality, training_step
from benchmarks.findings import Plan
from benchmarks.steps import hold_to
from fanet.convert import convert_state_dict

CPU = torch.device("cpu")
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

    with torch.no_grad():
        networks["plain"].get_parameter("downsample_layers.0.bias")[0] += 0.01
    with pytest.raises(AssertionError, match="differs from plain"):
        check_equality(networks, "backbone", (64,))


def gradients_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.grad for name, value in network.named_parameters() if value.grad is not None}


def test_an_answer_that_is_not_a_number_is_another_function() -> None:
    with pytest.raises(AssertionError, match="b: fanet differs from plain by nan"):
        hold_to(1e-6, "fanet", {"a": 1e-9, "b": float("nan")})


@pytest.mark.parametrize("name", fanet_networks.SEGMENTORS)
def test_segmentors_of_other_libraries_train_on_the_same_loss(name: str) -> None:
    if name == "smp_upernet":
        pytest.importorskip("segmentation_models_pytorch")
    case = replace(STEP, network=name, part="segmentor")
    network = build(case)
    with torch.no_grad():
        output = network.eval()(fanet_networks.images(case, CPU))
    assert output.logits.shape == (2, 5, 64, 64)
    assert output.aux_logits is None
    before = {key: value.clone() for key, value in network.named_parameters()}
    assert training_step(network, case, CPU)() > 0
    assert any(not torch.equal(value, before[key]) for key, value in network.named_parameters())


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_list_has_every_figure(package: str, device: str) -> None:
    cases = cases_of(package, device=device)
    assert len(cases) == len(set(cases))
    modes = {case.mode for case in cases}
    assert modes >= {"inference", "training", "memory", "growth"}
    sizes = {
        axis: [c.size for c in cases if c.axis == axis] for axis in ("side", "batch", "sentences", "prompts")
    }
    assert (min(sizes["side"]), max(sizes["side"])) == (224, 1024)
    assert (min(sizes["batch"]), max(sizes["batch"])) == (1, 32)
    if package == "plvl":
        assert (min(sizes["sentences"]), max(sizes["sentences"])) == (1, 20)
    if package == "cabl-cgsr":
        assert (min(sizes["prompts"]), max(sizes["prompts"])) == (1, 16)
    if device == "cpu":
        assert modes >= {"loader", "export", "start"}
        assert {case.count for case in cases if case.axis == "processes"} == {1, 2}
        kinds = {(case.mode, case.axis) for case in cases}
        quick = {(case.mode, case.axis) for case in cases_of(package, quick=True)}
        left_out = {("memory", ""): "fanet", ("growth", "processes"): "cabl-cgsr"}
        assert quick == {kind for kind in kinds if left_out.get(kind, package) == package}
    for members in groups_of(cases).values():
        assert (
            members[0].variant in (package, "sam")
            or members[0].compiled
            or len(members) > 1
            or device == "cuda"
        )


def test_the_cases_run() -> None:
    cases = [
        case
        for case in cases_of("fanet", quick=True)
        if case.mode == "loader"
        or (case.part == "backbone" and case.mode == "inference" and case.network != "focalnet_base_lrf")
    ]
    found = suite.run("fanet", cases, Plan(CPU, 1, quick=True))
    assert (found.missing, found.skipped, found.rest(cases)) == ([], [], [])
    variants = {result["variant"] for result in found.results}
    assert variants == {*FANET_BACKBONES, "plain PIL", "fanet, first epoch", "fanet, cached epoch"}
    assert max(found.equality.values()) < 2e-5
    assert all(len(result["repeats"]) == 2 for result in found.results)
    assert 0.9 < found.networks["fanet"]["backbone"]["parameters"] / 35_951_328 < 1.1


def test_quick_run_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after its first mode, it goes on where it stopped."""
    pytest.importorskip("plvl")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    threads = torch.get_num_threads()
    arguments = ["plvl", "--quick", "--threads", str(threads), "--output", str(tmp_path)]
    assert command.main([*arguments, "--modes", "loader"]) == 0
    assert "samples, loader" in capsys.readouterr().out
    older = shutil.copy(tmp_path / "plvl-cpu-quick.json", tmp_path / "older.json")
    more = [*arguments, "--modes", "inference", "loader", "--resume", "--compare", str(older)]
    assert command.main(more) == 0
    said = capsys.readouterr().out
    assert "2 figures compared, 2 within the spread of their rounds" in said
    assert "loader" not in said.partition("# Benchmarks of")[0]
    record = json.loads((tmp_path / "plvl-cpu-quick.json").read_text())
    assert record["complete"]
    assert record["targets"] == []
    assert {result["case"]["mode"] for result in record["results"]} == {"loader", "inference"}
    page = (tmp_path / "plvl-cpu-quick.md").read_text()
    assert "clipseg" in page
    assert page in said


def test_memory_of_training_is_that_of_a_fresh_process() -> None:
    """Gradients and AdamW's two averages alone take three times the weights."""
    figures = memory.ask(replace(STEP, mode="memory", side=32), CPU, threads=1)
    assert figures["peak_bytes"] - figures["baseline_bytes"] == figures["bytes"]
    assert figures["bytes"] > 0.8 * 3 * 4 * 35_951_328


def test_a_peer_that_cannot_be_built_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    cases = [Case("fanet", "smp_upernet", "segmentor", "inference", 64, small=True)]
    found = suite.run("fanet", cases, Plan(CPU, 1, quick=True))
    assert [entry["what"] for entry in found.missing] == ["smp_upernet, segmentor"]
    assert found.results == []


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


def test_unknown_package_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["fannet"])
    assert caught.value.code == 2
    assert "no benchmarks of 'fannet'" in capsys.readouterr().err
