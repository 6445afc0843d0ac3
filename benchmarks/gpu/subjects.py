"""The networks that are timed: ours in the papers' sizes, and other libraries' beside them; random weights."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import cabl_cgsr_jobs, plvl_jobs
from benchmarks.jobs import Job
from cabl_cgsr.inference import run_scales
from cabl_cgsr.losses import classification_loss
from fanet.config import ZEROWASTE_CLASSES, LossConfig
from fanet.config import ModelConfig as FanetConfig
from fanet.losses import count_pixels, segmentation_losses
from fanet.modeling.segmenter import Segmenter
from papers_shared.sam import TransformersSam
from plvl.config import ModelConfig as PlvlConfig
from plvl.losses import grounding_loss
from plvl.modeling.plvl import PLVL

Inputs = tuple[Tensor, ...]
REPEATED = re.compile(r"(Block|EncoderLayer|DecoderLayer|VisionLayer)$")
"""Class names of the blocks that other libraries' networks repeat."""


@dataclass(frozen=True)
class Subject:
    """A kind of network, built by `build`; the batch comes first in each of its inputs."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs]
    """Batch size -> the tensors that `forward` takes, on the CPU."""
    forward: Callable[..., Any]
    """Network and inputs -> output."""
    batches: tuple[int, ...]
    """Of inference."""
    training: int = 0
    """Batch size of a training step; 0: it is not trained here."""
    targets: Callable[[int], Inputs] = lambda batch: ()
    loss: Callable[..., Tensor] | None = None
    """Output and targets -> the loss."""
    unit: str = "images"
    ours: bool = True
    capturable: bool = True
    """False: its forward pass copies from the CPU, which no CUDA graph allows."""


def subjects(*, quick: bool) -> dict[str, Subject]:
    """By name, ours first. `quick`: small networks and images, to see that all works."""
    found = [*_fanet(quick), *_plvl(quick), *_cabl_cgsr(quick), *_sam(quick)]
    return {subject.name: subject for subject in found}


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The repeated parts of a network, which are compiled one by one."""
    units: Any = getattr(network, "fsdp_units", None)
    named = [module for module in network.modules() if REPEATED.search(type(module).__name__)]
    inner = {id(part) for module in named for part in module.modules() if part is not module}
    outer = [module for module in named if id(module) not in inner]
    own = units() if units is not None else []
    return own + [module for module in outer if not any(module in unit.modules() for unit in own)]


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def _fanet(quick: bool) -> list[Subject]:
    side, classes = (64, 3) if quick else (512, len(ZEROWASTE_CLASSES))
    config = FanetConfig(class_names=ZEROWASTE_CLASSES[:classes])
    if quick:
        config = replace(config, backbone="test_fanet", decoder_channels=16, auxiliary_channels=16)
    batches, training = ((2,), 2) if quick else ((1, 32), 16)

    def inputs(batch: int) -> Inputs:
        return (noise(batch, 3, side, side).contiguous(memory_format=torch.channels_last),)

    def targets(batch: int) -> Inputs:
        return (torch.arange(batch * side * side).view(batch, side, side) // 7 % classes,)

    def loss(output: Any, labels: Tensor) -> Tensor:
        counts = count_pixels(labels, 255)
        return torch.stack(
            list(segmentation_losses(output, labels, LossConfig(), counts, 255).values())
        ).sum()

    def of(name: str, backbone: str, *, ours: bool) -> Subject:
        return Subject(
            name,
            lambda: Segmenter.from_config(replace(config, backbone=backbone)),
            inputs,
            lambda network, images: network(images),
            batches,
            training,
            targets,
            loss,
            ours=ours,
        )

    peers = ("focalnet_tiny_lrf", "convnext_tiny")
    beside = ["test_convnext"] if quick else peers
    return [
        of("fanet", config.backbone, ours=True),
        *(of(f"{peer} (timm)", peer, ours=False) for peer in beside),
    ]


def _plvl(quick: bool) -> list[Subject]:
    side, config = (64, plvl_jobs.SMALL) if quick else (448, PlvlConfig())
    batches, training = ((2,), 2) if quick else ((1, 32), 20)

    def inputs(batch: int) -> Inputs:
        given = plvl_jobs.inputs(Job("plvl", "network", "inference", side, batch=batch), "")
        return given[0], given[1], given[2]

    def targets(batch: int) -> Inputs:
        boxes = torch.tensor([[0.5, 0.5, 0.25, 0.5]]).repeat(batch, 1)
        masks = torch.zeros(batch, side, side)
        masks[:, side // 4 : side // 2, side // 4 : side // 2] = 1
        return boxes, masks

    def forward(network: Any, images: Tensor, ids: Tensor, seen: Tensor) -> Any:
        return network(images, ids, seen)

    return [
        Subject(
            "plvl",
            lambda: PLVL.from_config(config),
            inputs,
            forward,
            batches,
            training,
            targets,
            lambda output, boxes, masks: grounding_loss(output, boxes, masks).total,
        ),
        Subject(
            "CLIPSeg (transformers)",
            lambda: plvl_jobs.ClipSeg(small=quick),
            inputs,
            forward,
            batches,
            ours=False,
        ),
    ]


def _cabl_cgsr(quick: bool) -> list[Subject]:
    small = replace(Job("cabl-cgsr", "classifier", "inference", 512), small=quick)
    sides = (32, 48, 64) if quick else (256, 512, 768)
    batches, training = ((2,), 2) if quick else ((1, 8), 8)

    def build() -> nn.Module:
        return cabl_cgsr_jobs.build(small, "ours")

    def six(network: Any, *views: Tensor) -> Any:
        return run_scales(network, views)

    def loss(output: Any, labels: Tensor) -> Tensor:
        return classification_loss(output.logits_conv, output.logits_trans, labels)

    return [
        Subject(
            "cabl-cgsr, six views",
            build,
            lambda batch: tuple(noise(batch, 3, side, side) for side in sides),
            six,
            batches,
        ),
        Subject(
            "cabl-cgsr",
            build,
            lambda batch: (noise(batch, 3, sides[1], sides[1]),),
            lambda network, images: network(images),
            (2,) if quick else (1, 32),
            training,
            lambda batch: (torch.arange(batch) % 2,),
            loss,
        ),
    ]


def _sam(quick: bool) -> list[Subject]:
    sizes: dict[str, dict[str, Any]] = {
        "ViT-B": {},
        "ViT-H": {
            "hidden_size": 1280,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "mlp_dim": 5120,
            "global_attn_indexes": [7, 15, 23, 31],
        },
    }
    side = 1024
    if quick:
        side = 64
        sizes = {
            "small": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 64}
        }
        sizes["small"] |= {"image_size": side, "window_size": 2, "global_attn_indexes": [1]}

    def network(size: str) -> Any:
        from transformers import SamConfig, SamModel

        prompts = {"image_size": side}
        return SamModel(SamConfig(vision_config=sizes[size], prompt_encoder_config=prompts))

    def ours(size: str) -> nn.Module:
        with tempfile.TemporaryDirectory() as folder:
            network(size).save_pretrained(Path(folder))
            return Encoder(TransformersSam(folder))

    def of(name: str, build: Callable[[], nn.Module], *, ours: bool) -> Subject:
        images = lambda batch: (noise(batch, 3, side, side),)  # noqa: E731
        return Subject(
            name,
            build,
            images,
            lambda encoder, x: encoder(x),
            (2,) if quick else (1, 8),
            ours=ours,
            capturable=False,
        )

    found = []
    for size in sizes:
        found.append(of(f"SAM {size}", lambda size=size: ours(size), ours=True))  # type: ignore[misc]
        peer = lambda size=size: network(size).vision_encoder  # type: ignore[misc]  # noqa: E731
        found.append(of(f"SAM {size} (transformers)", peer, ours=False))
    return found


class Encoder(nn.Module):
    """Images -> embeddings, as our segmenter computes them."""

    def __init__(self, segmenter: TransformersSam) -> None:
        super().__init__()
        self.encoder = segmenter.network.get_submodule("vision_encoder")

    def forward(self, images: Tensor) -> Tensor:
        embedding: Tensor = self.encoder(images)[0]
        return embedding
