"""CABL-CGSR's benchmark cases on tiny networks: one function, measured from end to end, judged honestly."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from benchmark_records import about_run

pytest.importorskip("cabl_cgsr")
pytest.importorskip("psutil")

import psutil

from benchmarks import growth, machine, measure, page, report, suite, targets
from benchmarks.cabl_cgsr_networks import build, check_equality, inference, training_step
from benchmarks.cases import Case, cases_of, groups_of
from benchmarks.findings import Findings, Plan

CPU = torch.device("cpu")
STEP = Case("cabl-cgsr", "cabl-cgsr", "classifier", "training", 64, 2, small=True)
TOO_FEW_CORES = "2 processes of one thread need as many cores, here is 1"


def pair(part: str = "classifier") -> dict[str, torch.nn.Module]:
    return {name: build(replace(STEP, network=name, part=part)) for name in ("cabl-cgsr", "plain")}


@pytest.mark.parametrize("part", ["classifier", "three scales"])
def test_plain_transcription_is_the_same_function(part: str) -> None:
    networks = pair(part)
    assert len(check_equality(networks, part, (64, 97))) == 2 * 2
    with torch.no_grad():
        for name, value in networks["plain"].named_parameters():
            if name.endswith("conv_trans_5.trans_block.attn.qkv.weight"):
                value.mul_(1.5)
    with pytest.raises(AssertionError, match="differs from plain"):
        check_equality(networks, part, (64,))


def test_a_training_step_has_the_same_gradients() -> None:
    images = torch.randn(2, 3, 48, 80, generator=torch.Generator().manual_seed(0)).double()
    gradients = []
    for network in pair().values():
        output: Any = network.double().train()(images)
        (output.logits_conv.square().mean() + output.logits_trans.square().mean()).backward()
        gradients.append({n: p.grad for n, p in network.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    largest = max(float(gradient.abs().max()) for gradient in gradients[1].values())
    for name, expected in gradients[1].items():
        assert (gradients[0][name] - expected).abs().max() < 1e-7 * largest, name


def test_the_first_losses_are_the_same() -> None:
    losses = [training_step(network, STEP, CPU)() for network in pair().values()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_prompts_have_the_same_masks() -> None:
    pytest.importorskip("segment_anything")
    pytest.importorskip("transformers")
    answers = []
    for name in ("sam", "sam calls"):
        case = Case("cabl-cgsr", name, "prompts", "inference", 64, count=6, small=True)
        runner = inference(build(case), case, CPU)
        assert measure.gmac(runner) > 0
        found: Any = runner()
        answers.append(found)
    assert len(answers[0]) == len(answers[1]) == 6
    for ours, theirs in zip(*answers, strict=True):
        assert ours.shape == theirs.shape == (1, 64, 64)
        assert (ours != theirs).mean() < 0.01
    assert any(mask.any() and not mask.all() for mask in answers[0])


def test_all_kinds_of_cases_run_without_the_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loader, export, cold start, two processes: each once, small; SAM is missing, and said so."""
    monkeypatch.setitem(sys.modules, "segment_anything.modeling", None)
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    cases = [case for case in cases_of("cabl-cgsr", quick=True) if case.mode != "memory"]
    cases = [case for case in cases if case.axis != "processes" or case.count == 2]
    saved = []
    found = suite.run(
        "cabl-cgsr",
        cases,
        Plan(CPU, 1, quick=True),
        save=lambda findings: saved.append(len(findings.finished)),
    )
    assert saved == list(range(1, len(groups_of(cases)) + 1))
    assert found.rest(cases) == []
    assert {missing["what"].partition(",")[0] for missing in found.missing} == {"sam", "sam calls"}
    assert all("not installed" in missing["reason"] for missing in found.missing)
    parts = {(r["case"]["part"], r["case"]["mode"], r["variant"]) for r in found.results}
    assert {
        ("three scales", "inference", "plain"),
        ("classifier", "training", "cabl-cgsr"),
        ("classifier", "export", "exported"),
        ("samples", "loader", "plain PIL"),
        ("three scales", "start", "torch alone"),
    } < parts
    launched = [r["case"]["count"] for r in found.results if r["case"]["axis"] == "processes"]
    if (psutil.cpu_count(logical=False) or 1) > 1:
        assert launched == [2]
        assert found.skipped == []
    else:
        assert launched == []
        assert [skipped["reason"] for skipped in found.skipped] == [TOO_FEW_CORES]
    about = about_run("cabl-cgsr", quick=True, protocol=report.PROTOCOL, **machine.environment(CPU, 1))
    text = report.markdown({**about, **asdict(found)})
    assert "`cabl-cgsr` and `plain` carry the same weights" in text
    assert "## Not measured\n\n- sam, prompts: UserError" in text
    assert "ideal slope" in page.html([{**about, **asdict(found)}])


def test_more_processes_than_cores_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 1)
    found = Findings()
    growth.run_processes(replace(STEP, mode="growth", axis="processes", count=2), Plan(CPU, 1), found)
    assert found.results == []
    assert [skipped["reason"] for skipped in found.skipped] == [TOO_FEW_CORES]


def test_targets_need_their_measurements() -> None:
    seconds = {"cabl-cgsr": 1.0, "plain": 1.4, "sam": 1.0, "sam calls": 3.6}
    results = [
        {"case": asdict(case), "median": seconds[case.network], "repeats": [seconds[case.network]] * 3}
        for case in cases_of("cabl-cgsr")
        if case.side != 224
        and case.network in seconds
        and case.mode not in ("loader", "growth", "start", "export")
    ]
    judged = targets.judge("cabl-cgsr", {"results": results, "networks": {}})
    verdicts = [target["verdict"] for target in judged]
    assert verdicts == ["missed", "not measured", "met", "not measured", "missed", "met", "met"]
