"""CABL-CGSR's benchmark cases on tiny networks: one function, measured from end to end, judged honestly."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

pytest.importorskip("cabl_cgsr")
pytest.importorskip("psutil")

from benchmarks import cabl_cgsr_networks, report, sam_prompts, suite, targets
from benchmarks.cabl_cgsr_networks import build, check_equality, training_step
from benchmarks.cases import Case, cases_of
from cabl_cgsr.config import ModelConfig

TINY = ModelConfig(backbone="test_conformer", drop_path_rate=0.0)
TINY_SAM = replace(
    sam_prompts.VIT_B,
    embed_dim=32,
    depth=2,
    num_heads=2,
    mlp_dim=64,
    global_blocks=(1,),
    out_chans=32,
    decoder_mlp_dim=32,
    iou_dim=32,
)
STEP = Case("cabl-cgsr", "cabl-cgsr", "classifier", "training", 64, 2)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cabl_cgsr_networks, "ModelConfig", lambda: TINY)
    monkeypatch.setattr(sam_prompts, "VIT_B", TINY_SAM)


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
    losses = [training_step(network, STEP, torch.device("cpu"))() for network in pair().values()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_prompts_have_the_same_masks() -> None:
    pytest.importorskip("segment_anything")
    pytest.importorskip("transformers")
    answers = []
    for name in ("sam", "sam calls"):
        case = Case("cabl-cgsr", name, "four prompts", "inference", 64, 1)
        answers.append(build(case)(cabl_cgsr_networks._images(1, 64)))
    assert len(answers[0]) == len(answers[1]) == 4
    for ours, theirs in zip(*answers, strict=True):
        assert ours.shape == theirs.shape == (1, 64, 64)
        assert (ours != theirs).mean() < 0.01
    assert any(mask.any() and not mask.all() for mask in answers[0])


def test_the_cases_run_and_become_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segment_anything.modeling", None)
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    plan = suite.Plan(torch.device("cpu"), 1, 2, quick=True)
    findings = asdict(suite.run("cabl-cgsr", cases_of("cabl-cgsr", quick=True), plan))
    assert {missing["what"].partition(",")[0] for missing in findings["missing"]} == {"sam", "sam calls"}
    assert all("not installed" in missing["reason"] for missing in findings["missing"])
    parts = {(r["case"]["part"], r["case"]["mode"], r["case"]["network"]) for r in findings["results"]}
    assert ("three scales", "inference", "plain") in parts
    assert ("classifier", "training", "cabl-cgsr") in parts
    record = {"package": "cabl-cgsr", "command": "x", "started": "now", "seconds": 1.0, "targets": []}
    page = report.markdown(
        {**record, **findings, **report.environment(plan.device, 1), "protocol": report.protocol("cabl-cgsr")}
    )
    assert "`cabl-cgsr` and `plain` carry the same weights" in page
    assert "## Not measured\n\n- sam, four prompts: UserError" in page


def test_targets_need_their_measurements() -> None:
    seconds = {"cabl-cgsr": 1.0, "plain": 1.4, "sam": 1.0, "sam calls": 3.6}
    results = [
        {"case": asdict(case), "median": seconds[case.network], "repeats": [seconds[case.network]] * 3}
        for case in cases_of("cabl-cgsr")
        if case.side != 224
    ]
    judged = targets.judge("cabl-cgsr", {"results": results, "networks": {}})
    verdicts = [target["verdict"] for target in judged]
    assert verdicts == ["missed", "not measured", "met", "not measured", "missed", "met", "met"]
