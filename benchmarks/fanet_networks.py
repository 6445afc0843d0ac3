"""FANet and what it is measured beside: the plain transcription, FocalNet-T and ConvNeXt-T."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fanet.registry  # registers fanet_tiny in timm  # noqa: F401
from benchmarks.cases import Case
from benchmarks.plain_fanet import ChannelNorm, PlainFANet
from fanet.config import ZEROWASTE_CLASSES, Recipe, with_classes, zerowaste_f
from fanet.convert import convert_state_dict
from fanet.modeling.backbone import create_backbone
from fanet.modeling.segmenter import Segmenter
from papers_shared.losses import cross_entropy
from papers_shared.runs import parameter_groups

EQUALITY_BOUND = 2e-5
NETWORKS = {
    "fanet": "FANet, this package",
    "plain": "FANet, plain NCHW transcription",
    "focalnet_tiny_lrf": "FocalNet-T (timm)",
    "convnext_tiny": "ConvNeXt-T (timm)",
}

REQUIRED = ("fanet", "plain")
"""Without these two there is nothing to report."""


def recipe(network: str) -> Recipe:
    """The paper's training recipe with this backbone."""
    backbone = "fanet_tiny" if network in ("fanet", "plain") else network
    base = zerowaste_f()
    return replace(base, model=with_classes(replace(base.model, backbone=backbone), ZEROWASTE_CLASSES))


def build(case: Case) -> nn.Module:
    """The network of a case on seeded weights, in its memory layout.

    `fanet` and `plain` carry the same weights. Backbones return four maps; the segmentor is `fanet.Segmenter`
    with the recipe's heads.
    """
    torch.manual_seed(0)
    network, model = case.network, recipe(case.network).model
    segmentor = case.part == "segmentor"
    built: nn.Module = Segmenter.from_config(model) if segmentor else create_backbone(model)
    if network not in ("fanet", "plain"):
        return built.to(memory_format=memory_layout(case))
    plain = _seeded_plain(model.drop_path_rate)
    if network == "fanet":
        backbone = built.backbone if isinstance(built, Segmenter) else built
        backbone.load_state_dict(convert_state_dict(plain.state_dict()))
        return built
    if isinstance(built, Segmenter):
        built = Segmenter(model, plain, built.decode_head, built.auxiliary_head)
        return built.to(memory_format=memory_layout(case))
    return plain


def memory_layout(case: Case) -> torch.memory_format:
    """Contiguous for `plain`, and for bare peers on the CPU, as timm builds them; else channels-last."""
    bare_peer = case.network != "fanet" and case.part == "backbone" and case.precision == "float32"
    contiguous = case.network == "plain" or bare_peer
    return torch.contiguous_format if contiguous else torch.channels_last


def _seeded_plain(drop_path_rate: float) -> PlainFANet:
    """Weights as torch draws them for convolutions, and norms that are not the identity."""
    torch.manual_seed(1)
    plain = PlainFANet(drop_path_rate)
    for module in plain.modules():
        if isinstance(module, ChannelNorm):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return plain


def images(case: Case, device: torch.device) -> Tensor:
    """Normalised noise (batch, 3, side, side), in the layout of the network."""
    noise = torch.randn(case.batch, 3, case.side, case.side, generator=torch.Generator().manual_seed(2))
    return noise.to(device).contiguous(memory_format=memory_layout(case))


def inference(network: nn.Module, case: Case, device: torch.device) -> Callable[[], object]:
    """One forward pass in eval mode."""
    network.eval()
    batch = images(case, device)

    def forward() -> object:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=case.precision == "bf16"):
            return network(batch)

    return forward


def training_step(network: nn.Module, case: Case, device: torch.device) -> Callable[[], object]:
    """Forward, loss, backward and an AdamW step, as the recipe trains (with stochastic depth and dropout).

    The segmentor's loss is the recipe's: cross-entropy at label size plus 0.5 of the auxiliary head's. The
    bare backbone's is the sum over its four maps of the mean square.
    """
    network.train()
    plan = recipe(case.network)
    optimizer = torch.optim.AdamW(
        parameter_groups(network, plan.optim), lr=plan.optim.lr, betas=plan.optim.betas
    )
    batch = images(case, device)
    shape = (case.batch, case.side, case.side)
    labels = torch.randint(0, 5, shape, generator=torch.Generator().manual_seed(3)).to(device)

    def segmentation_loss(logits: Tensor) -> Tensor:
        logits = F.interpolate(logits.float(), labels.shape[-2:], mode="bilinear", align_corners=False)
        return cross_entropy(logits, labels, average=plan.loss.average)

    def step() -> float:
        with torch.autocast(device.type, torch.bfloat16, enabled=case.precision == "bf16"):
            output = network(batch)
        if case.part == "backbone":
            loss = torch.stack([features.float().square().mean() for features in output]).sum()
        else:
            loss = segmentation_loss(output.logits)
            loss = loss + plan.loss.auxiliary_weight * segmentation_loss(output.aux_logits)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def measure_loader(case: Case, rounds: int, quick: bool) -> dict[str, Any]:
    """Rates of the training loader beside PIL's; see `benchmarks.fanet_loader.measure`."""
    from benchmarks.fanet_loader import measure

    return measure(frames=2 if quick else 16, rounds=rounds, crop=case.side)


def check_equality(networks: dict[str, nn.Module], part: str, sides: tuple[int, ...]) -> dict[str, float]:
    """Largest relative difference of each output of `fanet` from `plain`'s, in eval mode on the CPU.

    Difference: max |a - b| / max |b| per tensor.

    Raises:
        AssertionError: one of them exceeds 2e-5. Speed of another function is not worth measuring.
    """
    found = {}
    for side in sides:
        batch = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(4))
        with torch.no_grad():
            ours, theirs = (_outputs(networks[name].eval()(batch)) for name in ("fanet", "plain"))
        for name, expected in theirs.items():
            difference = (ours[name] - expected).abs().max() / expected.abs().max()
            found[f"{part} {side}x{side} {name}"] = float(difference)
    worst = max(found, key=lambda name: found[name])
    assert found[worst] <= EQUALITY_BOUND, f"{worst}: fanet differs from plain by {found[worst]:.2e}"
    return found


def _outputs(output: list[Tensor] | tuple[Tensor, ...]) -> dict[str, Tensor]:
    if hasattr(output, "logits"):
        return {"logits": output.logits}
    return {f"stage {number}": value for number, value in enumerate(output, start=1)}
