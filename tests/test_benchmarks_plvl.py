"""PLVL's benchmark cases on a tiny network: one function, measured from end to end, judged honestly."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from benchmark_records import about_run

pytest.importorskip("plvl")
pytest.importorskip("psutil")

from benchmarks import machine, report, suite, targets
from benchmarks.cases import Case, cases_of
from benchmarks.findings import Plan
from benchmarks.plain_plvl import plain
from benchmarks.plvl_networks import SMALL, Grounder, build, check_equality, inference, paper_gmac
from plvl.config import ModelConfig
from plvl.modeling.plvl import PLVL

CPU = torch.device("cpu")
STEP = Case("plvl", "plvl", "network", "training", 64, 2, small=True)


def test_plain_transcription_is_the_same_function() -> None:
    networks = {name: build(replace(STEP, network=name)) for name in ("plvl", "plain")}
    found = check_equality(networks, "network", (64, 97))
    assert len(found) == 2 * 4
    with torch.no_grad():
        networks["plain"].get_parameter("model.decoder.vision_proj.weight").add_(0.05)
    with pytest.raises(AssertionError, match="differs from plain"):
        check_equality(networks, "network", (64,))


def test_padding_and_gradients_are_the_same() -> None:
    torch.manual_seed(0)
    ours = PLVL.from_config(SMALL).double().eval()
    images, ids = torch.randn(2, 3, 48, 80).double(), torch.randint(0, 1200, (2, 7))
    words, pixels = torch.ones(2, 7, dtype=torch.long), torch.ones(2, 48, 80)
    words[0, 4:], pixels[1, :, 48:] = 0, 0
    gradients = []
    for network in (ours, plain(ours)):
        output = network(images, ids, words, pixels)
        (output.mask_logits.square().mean() + output.score_logits.square().mean()).backward()
        gradients.append({n: p.grad for n, p in network.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[1].items():
        difference = (gradients[0][name] - expected).abs().max() / expected.abs().max().clamp(min=1e-8)
        assert difference < 1e-6, name


def test_ten_sentences_get_one_answer_however_they_are_asked() -> None:
    case = replace(STEP, part="sentences", mode="inference", batch=1, count=10)
    answers = {}
    for name in ("plvl", "calls", "plain calls"):
        one = replace(case, network=name)
        found: Any = inference(build(one), one, CPU)()
        rows = found.boxes if name == "plvl" else torch.cat([answer.boxes for answer in found])
        answers[name] = rows
        assert rows.shape == (10, 4)
    assert not torch.allclose(answers["plvl"][0], answers["plvl"][1])
    for name in ("calls", "plain calls"):
        torch.testing.assert_close(answers[name], answers["plvl"], rtol=1e-4, atol=1e-5)


def test_clipseg_answers_with_a_mask_for_each_picture() -> None:
    case = replace(STEP, network="clipseg", mode="inference")
    answer: Any = inference(build(case), case, CPU)()
    assert answer.shape == (2, 64, 64)


def test_the_papers_count_leaves_attention_out() -> None:
    """Of the default network on the meta device: the paper's 75.04 G, the authors' tool 75.008."""
    with torch.device("meta"):
        network = Grounder(PLVL.from_config(ModelConfig()))
    assert paper_gmac(network) == pytest.approx(75.0, abs=0.05)


def test_the_cases_run_and_become_a_page() -> None:
    cases = [
        case for case in cases_of("plvl", quick=True) if case.mode in ("inference", "training", "loader")
    ]
    cases += [
        case for case in cases_of("plvl", quick=True) if case.mode == "growth" and case.axis != "processes"
    ]
    findings = suite.run("plvl", cases, Plan(CPU, 1, quick=True))
    assert findings.missing == []
    assert findings.skipped == []
    parts = {(r["case"]["part"], r["case"]["mode"], r["variant"]) for r in findings.results}
    assert {("sentences", "inference", name) for name in ("plvl", "calls", "plain calls")} < parts
    assert {
        ("network", "training", "plain"),
        ("samples", "loader", "plvl"),
        ("network", "growth", "clipseg"),
    } < parts
    assert findings.rest(cases) == []
    about = about_run("plvl", quick=True, protocol=report.PROTOCOL, **machine.environment(CPU, 1))
    page = report.markdown({**about, **asdict(findings)})
    assert "45.96 ms" in page
    assert "`plvl` and `plain` carry the same weights" in page
    assert "| 2 | calls |" in page


def test_targets_need_their_measurements() -> None:
    cases = [case for case in cases_of("plvl") if (case.mode, case.batch) == ("inference", 1)]
    seconds = {"plvl": 1.0, "plain": 1.4, "calls": 1.4, "plain calls": 1.6, "clipseg": 1.0}
    results = [
        {"case": asdict(case), "median": seconds[case.network], "repeats": [seconds[case.network]] * 3}
        for case in cases
    ]
    verdicts = [target["verdict"] for target in targets.judge("plvl", {"results": results, "networks": {}})]
    assert verdicts == ["met", "not measured", "not measured", "missed", "met"]
