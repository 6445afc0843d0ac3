"""CABL-CGSR and what it is measured beside: the plain transcription, and one SAM encoder pass per prompt."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.cases import Case
from benchmarks.loaders import write_picture
from benchmarks.measure import noise
from benchmarks.plain_cabl_cgsr import PATCH, PlainLocalizer, plain_maps
from benchmarks.sam_prompts import PROMPTS, Calls, Shared, build_prompter
from benchmarks.start import Steps
from benchmarks.steps import differences, forward_pass, hold_to, optimizer_step, whole_patches
from cabl_cgsr.cam import aggregate, run_scales
from cabl_cgsr.config import BACKBONES, ModelConfig, casia2
from cabl_cgsr.losses import classification_loss
from cabl_cgsr.modeling.localizer import Localizer, LocalizerOutput
from papers_shared.runs import parameter_groups

EQUALITY_BOUND = 1e-6
"""Relative to the largest value of an output, in float64: a float32 logit is a mean that nearly cancels, and 12 gated
blocks make a rounding of its own 1e-4 of it."""
NETWORKS = {
    "cabl-cgsr": "Conformer-S with CABL, this package",
    "plain": "the same, plain transcription that keeps all attention",
    "sam": "SAM ViT-B, transformers as this package runs it, one embedding",
    "sam calls": "SAM ViT-B, segment_anything's predictor, set anew for each prompt",
}
REQUIRED = ("cabl-cgsr", "plain")
"""Without these two there is nothing to report."""
PROTOCOL = (
    "`classifier`: both branches' logits of normalised noise, eval mode, no gradients; `plain` keeps the attention of "
    "all blocks and heads, as code written for maps does.",
    "`three scales`: score and aggregated map at a third, two thirds and all of the stated side (256, 512 and 768 of "
    "768), each also mirrored; resizing by torch included.",
    "Training: forward, the recipe `casia2`'s loss on image labels, backward, AdamW step (with stochastic depth).",
    f"`prompts`: {', '.join(PROMPTS)} in turn, about one picture, from pixels to masks. Table VI's null row asks no "
    "segmenter; both points without the box take its place. `sam calls` embeds the picture for each prompt. "
    "`embedding`: the image encoder with its preprocessing alone. Random weights, the same in both.",
    "Loader: one process, one thread; 384x256 JPEG pictures, as CASIA's, in the operating system's file cache. "
    "cabl-cgsr's rate includes mirroring, colour jitter and normalisation; PIL's, the same resize and crop, does not.",
    "Cold start: the package's imports, `from_pretrained` of a folder, `predict` of a picture at three sizes with "
    "mirrors, without a segmenter.",
)
SMALL = ModelConfig(backbone="test_conformer", drop_path_rate=0.0)
"""What `Case.small` builds."""


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
    config = SMALL if case.small else ModelConfig()
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
    prompts = (case.count,) if isinstance(network, Calls | Shared) else ()
    return forward_pass(network, case, device, noise(case.batch, case.side).to(device), *prompts)


def training_step(
    network: nn.Module,
    case: Case,
    device: torch.device,
    wrap: Callable[[nn.Module], nn.Module] = lambda own: own,
) -> Callable[[], object]:
    """Forward, loss, backward and an AdamW step, as the recipe `casia2` trains.

    `wrap` is what the forward pass goes through.
    """
    network.train()
    called = wrap(network)
    optim = casia2().optim
    groups = parameter_groups(network, optim)
    optimizer = torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps)
    batch = noise(case.batch, case.side).to(device)
    labels = (torch.arange(case.batch) % 2).to(device)

    def loss_of(output: LocalizerOutput) -> Tensor:
        return classification_loss(output.logits_conv.float(), output.logits_trans.float(), labels)

    return optimizer_step(called, batch, loss_of, optimizer, case)


def measure_loader(case: Case, rounds: int) -> dict[str, Any]:
    """Rates of the training loader beside PIL's; see `benchmarks.cabl_cgsr_loader.measure`."""
    from benchmarks.cabl_cgsr_loader import measure

    return measure(pictures=4 if case.small else 64, rounds=rounds, side=case.side)


def cold_start(case: Case, folder: Path) -> dict[str, Steps]:
    """The package as a user runs it, on a model folder with random weights and a picture."""
    picture = folder / "picture.png"
    write_picture(picture, case.side)
    model: Any = build(case)
    model.model.save_pretrained(folder / "model")
    opened = f"model = cabl_cgsr.Localizer.from_pretrained({str(folder / 'model')!r})"
    return {"cabl-cgsr": ("import cabl_cgsr", opened, f"model.predict({str(picture)!r}, refiner=None)")}


def check_equality(networks: dict[str, nn.Module], part: str, sides: tuple[int, ...]) -> dict[str, float]:
    """Largest relative difference of each output of `cabl-cgsr` from `plain`'s, in eval mode on the CPU, in float64.

    Difference: max |a - b| / max |b| per tensor. Sides are rounded up to whole patches.

    Raises:
        AssertionError: one of them exceeds 1e-6. Speed of another function is not worth measuring.
    """
    found: dict[str, float] = {}
    names = ("score", "map") if part == "three scales" else ("logits_conv", "logits_trans")
    for side in whole_patches(sides, PATCH):
        batch = noise(1, side).double()
        with torch.no_grad():
            ours, theirs = (
                dict(zip(names, copy.deepcopy(networks[name]).eval().double()(batch), strict=False))
                for name in REQUIRED
            )
        found |= differences(f"{part} {side}x{side}", ours, theirs)
    return hold_to(EQUALITY_BOUND, "cabl-cgsr", found)


def _see_noise(model: nn.Module) -> None:
    """Give batch norm the statistics of noise: untrained ones let 12 gated blocks grow without end."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        model.train()(noise(4, 64))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
