"""Optimizer state without pickle."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from papers_shared.errors import UserError
from papers_shared.training.optimizer_state import optimizer_from_tensors, optimizer_to_tensors
from papers_shared.training.run_folder import RunFolder
from papers_shared.training.state import TrainingState

BUILD: dict[str, Callable[[list[dict[str, Any]]], torch.optim.Optimizer]] = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=1e-2, betas=(0.8, 0.95)),
    "fused": lambda groups: torch.optim.AdamW(groups, lr=1e-2, fused=True),
    "amsgrad": lambda groups: torch.optim.AdamW(groups, lr=1e-2, amsgrad=True, foreach=False),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=1e-2, momentum=0.9, nesterov=True),
    "plain sgd": lambda groups: torch.optim.SGD(groups, lr=1e-2),
    "tensor rate": lambda groups: torch.optim.AdamW(groups, lr=torch.tensor(1e-2), capturable=False),
}


def build(kind: str, width: int = 3, seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))
    weights = [p for p in model.parameters() if p.ndim > 1]
    biases = [p for p in model.parameters() if p.ndim == 1]
    return model, BUILD[kind]([{"params": weights}, {"params": biases, "weight_decay": 0.0}])


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> None:
    for seed in seeds:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", BUILD)
def test_resumed_training_is_the_same_bit_for_bit(kind: str) -> None:
    model, optimizer = build(kind)
    step(model, optimizer, range(3))
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * 0.7
    tensors, state = optimizer_to_tensors(optimizer, model.named_parameters())
    tensors = {name: value.clone() for name, value in tensors.items()}
    state = json.loads(json.dumps(state))

    other, resumed = build(kind, seed=1)
    other.load_state_dict(model.state_dict())
    optimizer_from_tensors(resumed, other.named_parameters(), tensors, state)
    for (_, a), (_, b) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        assert optimizer.state[a].keys() == resumed.state[b].keys()
        for key, value in optimizer.state[a].items():
            restored = resumed.state[b][key]
            assert type(value) is type(restored)
            if isinstance(value, torch.Tensor):
                assert value.dtype == restored.dtype
                assert torch.equal(value, restored)
    for before, after in zip(optimizer.param_groups, resumed.param_groups, strict=True):
        assert {k: v for k, v in before.items() if k != "params"} == {
            k: v for k, v in after.items() if k != "params"
        }
    step(model, optimizer, range(3, 6))
    step(other, resumed, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("fused", [False, True])
def test_convolutions_in_channels_last_resume_bit_for_bit(fused: bool) -> None:
    def network() -> nn.Module:
        return nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)

    def learn(model: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> None:
        for seed in seeds:
            optimizer.zero_grad()
            x = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(seed))
            model(x).square().mean().backward()
            optimizer.step()

    model, other = network(), network()
    first = torch.optim.AdamW(model.parameters(), fused=fused)
    learn(model, first, range(3))
    tensors, state = optimizer_to_tensors(first, model.named_parameters())
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    other.load_state_dict(model.state_dict())
    resumed = torch.optim.AdamW(other.parameters(), fused=fused)
    optimizer_from_tensors(resumed, other.named_parameters(), tensors, state)
    learn(model, first, range(3, 5))
    learn(other, resumed, range(3, 5))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_how_a_step_is_computed_is_not_resumed() -> None:
    model = nn.Linear(4, 2)
    saved = torch.optim.AdamW(model.parameters(), lr=0.5, fused=True)
    step(model, saved, range(2))
    other = torch.optim.AdamW(model.parameters(), lr=0.1)
    optimizer_from_tensors(
        other, model.named_parameters(), *optimizer_to_tensors(saved, model.named_parameters())
    )
    (group,) = other.param_groups
    assert group["lr"] == 0.5
    assert not group["fused"]
    step(model, other, range(2, 4))


def test_integer_state_keeps_its_type() -> None:
    model, optimizer = build("adamw")
    step(model, optimizer, range(1))
    weight = model[0].weight
    optimizer.state[weight]["seen"] = torch.tensor([2**53 + 1])
    tensors, state = optimizer_to_tensors(optimizer, model.named_parameters())
    optimizer_from_tensors(optimizer, model.named_parameters(), tensors, state)
    assert optimizer.state[weight]["seen"].tolist() == [2**53 + 1]


def test_mismatches_are_named() -> None:
    model, optimizer = build("adamw")
    step(model, optimizer, range(1))
    tensors, state = optimizer_to_tensors(optimizer, model.named_parameters())

    fewer = {name: value for name, value in tensors.items() if name != "0.weight/exp_avg"}
    with pytest.raises(UserError, match=r"missing here: 0\.weight/exp_avg"):
        optimizer_from_tensors(optimizer, model.named_parameters(), fewer, state)
    renamed = [(f"net.{name}", p) for name, p in model.named_parameters()]
    with pytest.raises(UserError, match=r"unexpected here: net\.0\.weight"):
        optimizer_from_tensors(optimizer, renamed, tensors, state)
    wider, wide_optimizer = build("adamw", width=5)
    with pytest.raises(UserError, match=r"0.weight has shape \[5, 4\]"):
        optimizer_from_tensors(wide_optimizer, wider.named_parameters(), tensors, state)
    _, sgd = build("sgd")
    with pytest.raises(UserError, match="parameters of optimizer group 0"):
        optimizer_from_tensors(sgd, model.named_parameters(), tensors, state)
    other, sgd = build("sgd")
    with pytest.raises(UserError, match="hyperparameters of optimizer group 0"):
        optimizer_from_tensors(sgd, other.named_parameters(), tensors, state)
    with pytest.raises(UserError, match="not a named parameter"):
        optimizer_to_tensors(optimizer, [])


def test_a_training_state_resumes_from_its_folder(tmp_path) -> None:
    run = RunFolder(tmp_path)
    model, optimizer = build("adamw")
    step(model, optimizer, range(2))
    state = TrainingState(model, optimizer)
    state.save(run, 2, 1, best=0.5)
    state.wait()
    other, resumed = build("adamw", seed=1)
    checkpoint = run.latest_checkpoint()
    assert checkpoint is not None
    assert TrainingState(other, resumed).load(run, checkpoint)["best"] == 0.5
    step(model, optimizer, range(2, 4))
    step(other, resumed, range(2, 4))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
    state.save(run, 4, 1)
    with pytest.raises(UserError, match="not finite after step 4"):
        state.wait()
    assert run.latest_checkpoint() == checkpoint
