"""FANet and what it is measured beside: the plain transcription, timm's backbones, and whole segmentors of others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fanet.registry  # registers fanet_tiny in timm  # noqa: F401
from benchmarks.cases import Case
from benchmarks.loaders import write_picture
from benchmarks.measure import noise
from benchmarks.plain_fanet import ChannelNorm, PlainFANet
from benchmarks.start import Steps
from benchmarks.steps import differences, forward_pass, hold_to, optimizer_step
from fanet.config import ZEROWASTE_CLASSES, Recipe, with_classes, zerowaste_f
from fanet.convert import convert_state_dict
from fanet.modeling.backbone import create_backbone
from fanet.modeling.segmenter import Segmenter, SegmenterOutput
from papers_shared.losses import cross_entropy
from papers_shared.runs import parameter_groups

EQUALITY_BOUND = 2e-5
NETWORKS = {
    "fanet": "FANet, this package",
    "plain": "FANet, plain NCHW transcription",
    "focalnet_tiny_lrf": "FocalNet-T (timm)",
    "convnext_tiny": "ConvNeXt-T (timm)",
    "focalnet_base_lrf": "FocalNet-B (timm)",
    "deeplabv3_resnet50": "DeepLabv3, ResNet-50 (torchvision)",
    "smp_upernet": "UPerNet, ResNet-50 (segmentation_models_pytorch)",
}
SEGMENTORS = ("deeplabv3_resnet50", "smp_upernet")
"""Whole networks of other libraries, with heads of their own."""

REQUIRED = ("fanet", "plain")
"""Without these two there is nothing to report."""
PROTOCOL = (
    "Inference: eval mode, no gradients, normalised noise in the network's own memory layout. `plain` is "
    "contiguous NCHW, and so are the bare peers on the CPU, as timm builds them; FANet, and every segmentor "
    "but `plain` and those of other libraries, is channels-last, as the package runs it. The segmentors answer logits "
    "at stride 4, DeepLabv3 and segmentation_models_pytorch's UPerNet at the size of the picture.",
    "Training: forward, loss, backward, AdamW step, as the recipe `zerowaste_f` trains; UPerNet of "
    "segmentation_models_pytorch has no auxiliary head. The bare backbone's loss is the sum over its four maps of the "
    "mean square.",
    "Loader: one process, one thread; 1920x1080 PNG frames in the operating system's file cache. The first "
    "epoch fills fanet's cache of decoded frames. fanet's rate includes flip, colour distortion, class-aware "
    "crop and normalisation; PIL's does not.",
    "Cold start: the package's imports, `from_pretrained` of a folder, `predict` of a 512x512 picture.",
)


def recipe(network: str) -> Recipe:
    """The paper's training recipe with this backbone."""
    backbone = "fanet_tiny" if network in ("fanet", "plain", *SEGMENTORS) else network
    base = zerowaste_f()
    return replace(base, model=with_classes(replace(base.model, backbone=backbone), ZEROWASTE_CLASSES))


def build(case: Case) -> nn.Module:
    """The network of a case on seeded weights, in its memory layout.

    `fanet` and `plain` carry the same weights. Backbones return four maps; the segmentor is `fanet.Segmenter`
    with the recipe's heads.
    """
    torch.manual_seed(0)
    network = case.network
    if network in SEGMENTORS:
        return Foreign(network)
    model, segmentor = recipe(network).model, case.part == "segmentor"
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


class Foreign(nn.Module):
    """A segmentor of another library on random weights: logits at the size of the picture."""

    def __init__(self, name: str) -> None:
        super().__init__()
        classes = len(ZEROWASTE_CLASSES)
        if name == "smp_upernet":
            import segmentation_models_pytorch

            self.network = segmentation_models_pytorch.UPerNet(
                "resnet50", encoder_weights=None, classes=classes
            )
        else:
            from torchvision.models.segmentation import deeplabv3_resnet50

            self.network = deeplabv3_resnet50(
                weights=None, weights_backbone=None, num_classes=classes, aux_loss=True
            )

    def forward(self, images: Tensor) -> SegmenterOutput:
        output = self.network(images)
        if isinstance(output, Tensor):
            return SegmenterOutput(output, None)
        return SegmenterOutput(output["out"], output["aux"] if self.training else None)


def memory_layout(case: Case) -> torch.memory_format:
    """Contiguous for `plain`, and for bare peers on the CPU, as timm builds them; else channels-last."""
    bare_peer = case.network != "fanet" and case.part == "backbone" and case.precision == "float32"
    contiguous = case.network in ("plain", *SEGMENTORS) or bare_peer
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
    return noise(case.batch, case.side).to(device).contiguous(memory_format=memory_layout(case))


def inference(network: nn.Module, case: Case, device: torch.device) -> Callable[[], object]:
    """One forward pass in eval mode."""
    return forward_pass(network, case, device, images(case, device))


def training_step(
    network: nn.Module,
    case: Case,
    device: torch.device,
    wrap: Callable[[nn.Module], nn.Module] = lambda own: own,
) -> Callable[[], object]:
    """Forward, loss, backward and an AdamW step, as the recipe trains (with stochastic depth and dropout).

    The segmentor's loss is the recipe's: cross-entropy at label size plus 0.5 of the auxiliary head's. The
    bare backbone's is the sum over its four maps of the mean square. `wrap` is what the forward pass goes through.
    """
    network.train()
    called = wrap(network)
    plan = recipe(case.network)
    optimizer = torch.optim.AdamW(
        parameter_groups(network, plan.optim), lr=plan.optim.lr, betas=plan.optim.betas
    )
    shape = (case.batch, case.side, case.side)
    labels = torch.randint(0, 5, shape, generator=torch.Generator().manual_seed(3)).to(device)

    def segmentation_loss(logits: Tensor) -> Tensor:
        logits = F.interpolate(logits.float(), labels.shape[-2:], mode="bilinear", align_corners=False)
        return cross_entropy(logits, labels, average=plan.loss.average)

    def loss_of(output: Any) -> Tensor:
        if case.part == "backbone":
            return torch.stack([features.float().square().mean() for features in output]).sum()
        loss = segmentation_loss(output.logits)
        if output.aux_logits is not None:
            loss = loss + plan.loss.auxiliary_weight * segmentation_loss(output.aux_logits)
        return loss

    return optimizer_step(called, images(case, device), loss_of, optimizer, case)


def measure_loader(case: Case, rounds: int) -> dict[str, Any]:
    """Rates of the training loader beside PIL's; see `benchmarks.fanet_loader.measure`."""
    from benchmarks.fanet_loader import measure

    return measure(frames=2 if case.small else 16, rounds=rounds, crop=case.side)


def cold_start(case: Case, folder: Path) -> dict[str, Steps]:
    """The package as a user runs it, on a model folder with random weights and a picture."""
    picture = folder / "picture.png"
    write_picture(picture, case.side)
    build(case).save_pretrained(folder / "model")
    opened = f"model = fanet.Segmenter.from_pretrained({str(folder / 'model')!r})"
    return {"fanet": ("import fanet", opened, f"model.predict({str(picture)!r})")}


def check_equality(networks: dict[str, nn.Module], part: str, sides: tuple[int, ...]) -> dict[str, float]:
    """Largest relative difference of each output of `fanet` from `plain`'s, in eval mode on the CPU.

    Difference: max |a - b| / max |b| per tensor.

    Raises:
        AssertionError: one of them exceeds 2e-5. Speed of another function is not worth measuring.
    """
    found: dict[str, float] = {}
    for side in sides:
        batch = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(4))
        with torch.no_grad():
            ours, theirs = (_outputs(networks[name].eval()(batch)) for name in REQUIRED)
        found |= differences(f"{part} {side}x{side}", ours, theirs)
    return hold_to(EQUALITY_BOUND, "fanet", found)


def _outputs(output: list[Tensor] | tuple[Tensor, ...]) -> dict[str, Tensor]:
    if hasattr(output, "logits"):
        return {"logits": output.logits}
    return {f"stage {number}": value for number, value in enumerate(output, start=1)}
