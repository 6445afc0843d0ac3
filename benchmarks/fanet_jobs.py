"""FANet's jobs, beside its plain transcription and the backbones of timm under the same heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.jobs import OURS, PLAIN, Job, noise
from benchmarks.plain_fanet import PlainFANet, PlainSegmenter, PlainSegmenterOutput, draw_norms
from fanet.config import ZEROWASTE_CLASSES, ModelConfig
from fanet.convert import convert_state_dict
from fanet.modeling.backbone import create_backbone
from fanet.modeling.segmenter import Segmenter

PEERS = {
    "focalnet_tiny_lrf": "FocalNet-T (timm)",
    "convnext_tiny": "ConvNeXt-T (timm)",
    "deeplabv3_resnet50": "DeepLabv3, ResNet-50 (torchvision)",
}
BACKBONES = (OURS, PLAIN, "focalnet_tiny_lrf", "convnext_tiny")
SEGMENTORS = (*BACKBONES, "deeplabv3_resnet50")
JOBS = (
    Job("fanet", "segmentor", "inference", 512, variants=SEGMENTORS),
    Job("fanet", "segmentor", "training", 512, batch=2, variants=SEGMENTORS),
    Job("fanet", "backbone", "inference", 512, variants=BACKBONES),
    Job("fanet", "backbone", "training", 512, batch=2, variants=BACKBONES),
    Job("fanet", "segmentor", "inference", 256),
    Job("fanet", "segmentor", "inference", 1024),
)
BOUND = 2e-5
NOTES = (
    "The segmentor is the backbone with UperNet and, in training, the auxiliary FCN head; timm's backbones stand under "
    "the same heads, DeepLabv3 has its own. Its loss is the cross-entropy at the size of the labels plus 0.5 of the "
    "auxiliary head's; that of the backbone is the sum over its four maps of the mean square.",
    "The plain form is the authors' backbone and mmsegmentation's UPerHead and FCNHead, contiguous NCHW everywhere. "
    "Ours and timm's backbones under our heads get channels-last images, bare timm backbones contiguous ones.",
)


def build(job: Job, variant: str) -> nn.Module:
    """A network on seeded weights; those of ours and of the plain form are the same."""
    segmentor = job.part == "segmentor"
    if variant == "deeplabv3_resnet50":
        return DeepLab()
    config = ModelConfig(class_names=ZEROWASTE_CLASSES)
    if variant in PEERS:
        config = replace(config, backbone=variant)
        return Segmenter.from_config(config) if segmentor else create_backbone(config)[0]
    plain = (
        PlainSegmenter(len(config.class_names), config.drop_path_rate)
        if segmentor
        else PlainFANet(config.drop_path_rate)
    )
    draw_norms(plain)
    if variant == PLAIN:
        return plain
    network: nn.Module = Segmenter.from_config(config) if segmentor else create_backbone(config)[0]
    network.load_state_dict(convert_state_dict(plain.state_dict()))
    return network


class DeepLab(nn.Module):
    """torchvision's, with logits at the size of the images."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models.segmentation import deeplabv3_resnet50

        classes = len(ZEROWASTE_CLASSES)
        self.network = deeplabv3_resnet50(
            weights=None, weights_backbone=None, num_classes=classes, aux_loss=True
        )

    def forward(self, images: Tensor) -> PlainSegmenterOutput:
        output = self.network(images)
        return PlainSegmenterOutput(output["out"], output["aux"] if self.training else None)


def inputs(job: Job, variant: str) -> tuple[Tensor]:
    contiguous = variant in (PLAIN, "deeplabv3_resnet50") or (variant in PEERS and job.part == "backbone")
    layout = torch.contiguous_format if contiguous else torch.channels_last
    return (noise(job).contiguous(memory_format=layout),)


def outputs(output: Any) -> Mapping[str, Tensor]:
    if hasattr(output, "logits"):
        return {"logits": output.logits}
    return {f"stage {number}": features for number, features in enumerate(output, start=1)}


def loss(output: Any, job: Job) -> Tensor:
    if job.part == "backbone":
        return _mean_squares(output)
    labels = torch.randint(0, 5, (job.batch, job.side, job.side), generator=torch.Generator().manual_seed(3))
    labels = labels.to(output.logits.device)
    total = _cross_entropy(output.logits, labels)
    return total if output.aux_logits is None else total + 0.5 * _cross_entropy(output.aux_logits, labels)


def _mean_squares(maps: Sequence[Tensor]) -> Tensor:
    return torch.stack([features.float().square().mean() for features in maps]).sum()


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    full = F.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(full, labels)
