"""CABL-CGSR and what it is measured beside: the plain transcription, and one SAM encoder pass per prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.cases import Case
from benchmarks.plain_cabl_cgsr import PATCH, PlainLocalizer, plain_maps
from benchmarks.sam_prompts import PROMPTS, build_prompter
from cabl_cgsr.cam import aggregate, run_scales
from cabl_cgsr.config import BACKBONES, ModelConfig, casia2
from cabl_cgsr.losses import classification_loss
from cabl_cgsr.modeling.localizer import Localizer
from papers_shared.runs import parameter_groups

EQUALITY_BOUND = 1e-4
"""Of float32 sums in another order through 12 blocks, relative to the largest value of an output."""
NETWORKS = {
    "cabl-cgsr": "Conformer-S with CABL, this package",
    "plain": "the same, plain transcription that keeps all attention",
    "sam": "SAM ViT-B, transformers as this package runs it, one embedding",
    "sam calls": "SAM ViT-B, segment_anything's predictor, set anew for each prompt",
}
REQUIRED = ("cabl-cgsr", "plain")
"""Without these two there is nothing to report."""
PROTOCOL = (
    "Networks of a group run interleaved in one process (A B A B ...); figures are medians, with smallest and "
    "largest round. The first two calls are not counted; a compiled network's very first one is given apart, as "
    "compile time on an empty compiler cache.",
    "`classifier`: both branches' logits of normalised noise, eval mode, no gradients; `plain` keeps the attention of "
    "all blocks and heads, as code written for maps does.",
    "`three scales`: score and aggregated map at a third, two thirds and all of the stated side (256, 512 and 768 of "
    "768), each also mirrored; resizing by torch included.",
    "Training: forward, the recipe `casia2`'s loss on image labels, backward, AdamW step (with stochastic depth).",
    f"`four prompts`: {', '.join(PROMPTS)}, about one picture, from pixels to masks. Table VI's null row asks no "
    "segmenter; both points without the box take its place. `sam calls` embeds the picture for each prompt. "
    "`embedding`: the image encoder with its preprocessing alone. Random weights, the same in both.",
    "GMAC: 1e9 multiply-adds of convolutions and matrix products (torch.utils.flop_counter / 2), one image.",
    "Memory: a fresh process per network; peak over three training steps minus the level after network and "
    "optimizer were built (CPU: resident set; GPU: torch's allocator).",
)


class Maps(nn.Module):
    """Pictures (B, 3, S, S), normalised -> scores (B,) and aggregated maps (B, S, S), three sizes with mirrors."""

    def __init__(self, model: Localizer | PlainLocalizer) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        sides = scales(images.shape[-1])
        if isinstance(self.model, PlainLocalizer):
            return plain_maps(self.model, images, sides)
        views = [F.interpolate(images, (side, side), mode="bilinear", align_corners=False) for side in sides]
        found = run_scales(self.model, views)
        return found.scores.mean(dim=1), aggregate(found.maps, (images.shape[-2], images.shape[-1]))


def scales(side: int) -> tuple[int, ...]:
    """A third, two thirds and all of a side, in whole patches: 256, 512, 768 of 768."""
    return tuple(max(1, round(side * part / 3 / PATCH)) * PATCH for part in (1, 2, 3))


def build(case: Case) -> nn.Module:
    """The network of a case on seeded weights; all of a part carry the same.

    Raises:
        UserError: a part with SAM, and the library it needs is not installed.
    """
    torch.manual_seed(0)
    if case.network in ("sam", "sam calls"):
        return build_prompter(case)
    config = ModelConfig()
    model: Any = Localizer.from_config(config)
    _see_noise(model)
    if case.network == "plain":
        sizes = astuple(BACKBONES[config.backbone])
        plain = PlainLocalizer(*(*sizes, config.drop_path_rate))
        plain.load_state_dict(model.state_dict())
        model = plain
    return Maps(model) if case.part == "three scales" else model


def inference(network: nn.Module, case: Case, device: torch.device) -> Callable[[], object]:
    """One forward pass in eval mode."""
    network.eval()
    batch = _images(case.batch, case.side).to(device)

    def forward() -> object:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=case.precision == "bf16"):
            return network(batch)

    return forward


def training_step(network: nn.Module, case: Case, device: torch.device) -> Callable[[], object]:
    """Forward, loss, backward and an AdamW step, as the recipe `casia2` trains."""
    network.train()
    optim = casia2().optim
    groups = parameter_groups(network, optim)
    optimizer = torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps)
    batch = _images(case.batch, case.side).to(device)
    labels = (torch.arange(case.batch) % 2).to(device)

    def step() -> float:
        with torch.autocast(device.type, torch.bfloat16, enabled=case.precision == "bf16"):
            output = network(batch)
        loss = classification_loss(output.logits_conv.float(), output.logits_trans.float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def measure_loader(case: Case, rounds: int, quick: bool) -> dict[str, Any]:
    raise NotImplementedError("CABL-CGSR has no loader case")


def check_equality(networks: dict[str, nn.Module], part: str, sides: tuple[int, ...]) -> dict[str, float]:
    """Largest relative difference of each output of `cabl-cgsr` from `plain`'s, in eval mode on the CPU.

    Difference: max |a - b| / max |b| per tensor. Sides are rounded up to whole patches.

    Raises:
        AssertionError: one of them exceeds 1e-4. Speed of another function is not worth measuring.
    """
    found = {}
    names = ("score", "map") if part == "three scales" else ("logits_conv", "logits_trans")
    for side in dict.fromkeys(-(-side // PATCH) * PATCH for side in sides):
        batch = _images(1, side)
        with torch.no_grad():
            ours, theirs = (networks[name].eval()(batch) for name in REQUIRED)
        for index, name in enumerate(names):
            difference = (ours[index] - theirs[index]).abs().max() / theirs[index].abs().max()
            found[f"{part} {side}x{side} {name}"] = float(difference)
    worst = max(found, key=lambda name: found[name])
    assert found[worst] <= EQUALITY_BOUND, f"{worst}: cabl-cgsr differs from plain by {found[worst]:.2e}"
    return found


def _see_noise(model: nn.Module) -> None:
    """Give batch norm the statistics of noise: untrained ones let 12 gated blocks grow without end."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        model.train()(_images(4, 64))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _images(batch: int, side: int) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(2))
