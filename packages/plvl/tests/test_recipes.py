"""The recipes: their rates by step and by group of parameters, their docstrings, their networks."""

from __future__ import annotations

import pytest
import torch

from papers_shared.training.schedule import durations, epoch_of, learning_rate
from plvl.config import LossConfig, ModelConfig, OptimConfig
from plvl.modeling.plvl import PLVL
from plvl.recipes import RECIPES
from plvl.train import parameter_groups, rate_of

REFCOCO = 120_624


def test_the_official_schedule_falls_once_an_epoch() -> None:
    optim = OptimConfig()
    steps, _ = durations(optim, REFCOCO)
    assert steps == 150 * REFCOCO // 80
    rates = [learning_rate(optim, step, REFCOCO) for step in (0, 1507, 1508, 3016, steps - 1)]
    assert rates == pytest.approx([2.5e-5 * (1 - epoch / 150) ** 0.9 for epoch in (0, 0, 1, 2, 149)])
    assert epoch_of(1508, 80, REFCOCO) == 1


def test_steps_for_epochs_never_reach_a_rate_of_zero() -> None:
    optim = OptimConfig(steps=30, batch_size=4)
    assert all(learning_rate(optim, step, 15) > 0 for step in range(30))


@pytest.mark.parametrize(("reading", "guides"), [("paper", "lr"), ("official", "lr_vision")])
def test_both_readings_of_the_rates(reading: str, guides: str) -> None:
    optim = OptimConfig(lr_groups=reading)
    with torch.device("meta"):
        network = PLVL.from_config(ModelConfig())
    parts = {rate_of(name, optim) for name, _ in network.named_parameters() if ".guide." in name}
    assert parts == {guides}
    assert rate_of("backbone.blocks.2.attn.qkv.weight", optim) == "lr_vision"
    assert rate_of("language.embeddings.LayerNorm.bias", optim) == "lr_text"
    assert rate_of("decoder.vision_proj.weight", optim) == rate_of("head.stems.0.bn.weight", optim) == "lr"
    groups = parameter_groups(network, optim)
    assert {group["lr"] for group in groups} == {5e-6, 1e-5, 2.5e-5}
    assert {group["weight_decay"] for group in groups} == {1e-4}
    assert sum(p.numel() for group in groups for p in group["params"]) == 217_018_655


def test_norms_without_decay_are_groups_of_their_own() -> None:
    with torch.device("meta"):
        network = PLVL.from_config(ModelConfig())
    groups = parameter_groups(network, OptimConfig(decay_norms=False))
    assert len(groups) == 6
    assert all(p.ndim <= 1 for group in groups if not group["weight_decay"] for p in group["params"])


def test_every_recipe_is_named_documented_and_buildable() -> None:
    for name, recipe in RECIPES.items():
        made, about = recipe(), recipe.__doc__ or ""
        assert made.name == name
        assert f"plvl train {name} " in about, name
        assert "Table" in about or "no number" in about.lower() or "table" in about, name
        assert made.optim.batch_size % made.optim.micro_batch == 0
        with torch.device("meta"):
            PLVL.from_config(made.model)


def test_the_two_forms_differ_where_paper_and_code_do() -> None:
    paper, official = RECIPES["refcoco_unc"](), RECIPES["refcoco_unc_official"]()
    assert (paper.loss.form, official.loss.form) == ("sound", "official")
    assert (paper.data.transform, official.data.transform) == ("default", "official")
    assert (paper.optim.lr_groups, official.optim.lr_groups) == ("paper", "official")
    assert official.model == paper.model
    assert RECIPES["mixed_coco"]().loss == LossConfig(det_weight=0.05)
