"""PLVL and what it is measured beside: the plain transcription, and one call per sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cases import Case
from benchmarks.plain_plvl import plain
from plvl.config import ModelConfig
from plvl.losses import grounding_loss
from plvl.modeling.plvl import PLVL
from plvl.recipes import refcoco_unc
from plvl.schedule import parameter_groups

EQUALITY_BOUND = 1e-4
"""Of float32 sums in another order, relative to the largest value of an output."""
SENTENCES = 10
PATCH = 16
NETWORKS = {
    "plvl": "PLVL, this package",
    "plain": "PLVL, plain transcription with eager attention",
    "calls": f"PLVL, this package, {SENTENCES} calls",
}
REQUIRED = ("plvl", "plain")
"""Without these two there is nothing to report."""
PROTOCOL = (
    "Networks of a group run interleaved in one process (A B A B ...); figures are medians, with smallest and "
    "largest round. The first two calls are not counted; a compiled network's very first one is given apart, as "
    "compile time on an empty compiler cache.",
    "Inference: eval mode, no gradients, normalised noise, one sentence of 40 word pieces per picture, language "
    "included. `ten sentences`: about one picture; `calls` sees picture and sentence anew each time.",
    "Training: forward, the recipe's loss on boxes and masks, backward, AdamW step (with dropout and "
    "stochastic depth).",
    "GMAC: 1e9 multiply-adds of convolutions and matrix products (torch.utils.flop_counter / 2), one image.",
    "Memory: a fresh process per network; peak over three training steps minus the level after network and "
    "optimizer were built (CPU: resident set; GPU: torch's allocator).",
    "The paper's Table 3, one A100, batch 1: PLVL 45.96 ms, EEVG 50.04 ms.",
)


class Grounder(nn.Module):
    """The network on pictures alone: each gets the same 40 word pieces, as the suite counts and times pictures."""

    def __init__(self, model: PLVL, sentences: int = 1, *, shared: bool = True) -> None:
        super().__init__()
        self.model, self.sentences, self.shared = model, sentences, shared
        generator = torch.Generator().manual_seed(5)
        pieces = torch.randint(
            1000, model.config.vocab_size, (sentences, model.config.max_tokens), generator=generator
        )
        self.register_buffer("input_ids", pieces)

    def forward(self, images: Tensor) -> Any:
        """One sentence per picture; or `sentences` about the only picture, together or one by one."""
        if self.sentences == 1:
            ids = self.input_ids.expand(len(images), -1)
            return self.model(images, ids, torch.ones_like(ids))
        if not self.shared:
            ones = torch.ones_like(self.input_ids[:1])
            return [self.model(images, ids[None], ones) for ids in self.input_ids]
        seen = torch.ones_like(self.input_ids)
        text = self.model.encode_text(self.input_ids, seen)
        return self.model.ground(self.model.encode_image(images).take(seen.new_zeros(len(seen))), text, seen)


def build(case: Case) -> nn.Module:
    """The network of a case on seeded weights; all of a part carry the same."""
    torch.manual_seed(0)
    model = PLVL.from_config(ModelConfig())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    if case.part == "ten sentences":
        return Grounder(model, SENTENCES, shared=case.network != "calls")
    return Grounder(plain(model) if case.network == "plain" else model)


def inference(network: nn.Module, case: Case, device: torch.device) -> Callable[[], object]:
    """One forward pass in eval mode."""
    network.eval()
    batch = _images(case.batch, case.side).to(device)

    def forward() -> object:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=case.precision == "bf16"):
            return network(batch)

    return forward


def training_step(network: nn.Module, case: Case, device: torch.device) -> Callable[[], object]:
    """Forward, loss, backward and an AdamW step, as the recipe `refcoco_unc` trains."""
    network.train()
    plan = refcoco_unc()
    model = network.model
    assert isinstance(model, PLVL)
    optimizer = torch.optim.AdamW(parameter_groups(model, plan.optim), betas=plan.optim.betas)
    batch = _images(case.batch, case.side).to(device)
    generator = torch.Generator().manual_seed(3)
    boxes = (torch.rand(case.batch, 4, generator=generator) * 0.4 + 0.3).to(device)
    masks = (torch.rand(case.batch, 1, case.side, case.side, generator=generator) > 0.8).float().to(device)

    def step() -> float:
        with torch.autocast(device.type, torch.bfloat16, enabled=case.precision == "bf16"):
            output = network(batch)
        loss = grounding_loss(output, boxes, masks, plan.loss).total
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def measure_loader(case: Case, rounds: int, quick: bool) -> dict[str, Any]:
    raise NotImplementedError("PLVL has no loader case")


def check_equality(networks: dict[str, nn.Module], part: str, sides: tuple[int, ...]) -> dict[str, float]:
    """Largest relative difference of each output of `plvl` from `plain`'s, in eval mode on the CPU.

    Difference: max |a - b| / max |b| per tensor. Sides are rounded up to whole patches.

    Raises:
        AssertionError: one of them exceeds 1e-4. Speed of another function is not worth measuring.
    """
    found = {}
    for side in dict.fromkeys(-(-side // PATCH) * PATCH for side in sides):
        batch = _images(1, side)
        with torch.no_grad():
            ours, theirs = (networks[name].eval()(batch) for name in ("plvl", "plain"))
        for name in ("score_logits", "offset", "size", "mask_logits"):
            expected = getattr(theirs, name)
            difference = (getattr(ours, name) - expected).abs().max() / expected.abs().max()
            found[f"{part} {side}x{side} {name}"] = float(difference)
    worst = max(found, key=lambda name: found[name])
    assert found[worst] <= EQUALITY_BOUND, f"{worst}: plvl differs from plain by {found[worst]:.2e}"
    return found


def _images(batch: int, side: int) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(2))
