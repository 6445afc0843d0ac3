"""PLVL's benchmark cases on a tiny network: one function, measured from end to end, judged honestly."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch

pytest.importorskip("plvl")
pytest.importorskip("psutil")

from benchmarks import plvl_networks, report, suite, targets
from benchmarks.cases import Case, cases_of
from benchmarks.plain_plvl import plain
from benchmarks.plvl_networks import build, check_equality
from plvl.config import ModelConfig
from plvl.modeling.plvl import PLVL

TINY = ModelConfig(
    embed_dim=32,
    depth=3,
    num_heads=2,
    local_blocks=(0, 2),
    language_blocks=(1, 2),
    window_size=3,
    pos_grid=3,
    rel_pos_grid=8,
    cross_heads=2,
    adapter_dim=8,
    vocab_size=1200,
    text_dim=32,
    text_depth=1,
    text_heads=2,
    text_mlp_dim=32,
    decoder_dim=32,
    decoder_depth=1,
    decoder_heads=2,
    decoder_mlp_dim=32,
    head_dim=16,
)
STEP = Case("plvl", "plvl", "network", "training", 64, 2)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plvl_networks, "ModelConfig", lambda: TINY)


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
    ours = PLVL.from_config(TINY).double().eval()
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


def test_the_cases_run_and_become_a_page() -> None:
    plan = suite.Plan(torch.device("cpu"), 1, 2, quick=True)
    findings = asdict(suite.run("plvl", cases_of("plvl", quick=True), plan))
    assert findings["missing"] == []
    parts = {(r["case"]["part"], r["case"]["mode"], r["case"]["network"]) for r in findings["results"]}
    assert ("ten sentences", "inference", "calls") in parts
    assert ("network", "training", "plain") in parts
    record = {"package": "plvl", "command": "x", "started": "now", "seconds": 1.0, "targets": [], **findings}
    page = report.markdown(
        {**record, **report.environment(plan.device, 1), "protocol": report.protocol("plvl")}
    )
    assert "45.96 ms" in page
    assert "`plvl` and `plain` carry the same weights" in page


def test_targets_need_their_measurements() -> None:
    cases = [case for case in cases_of("plvl") if (case.mode, case.batch) == ("inference", 1)]
    seconds = {"plvl": 1.0, "plain": 1.4, "calls": 1.4}
    results = [
        {"case": asdict(case), "median": seconds[case.network], "repeats": [seconds[case.network]] * 3}
        for case in cases
    ]
    verdicts = [target["verdict"] for target in targets.judge("plvl", {"results": results, "networks": {}})]
    assert verdicts == ["met", "not measured", "not measured", "missed"]
