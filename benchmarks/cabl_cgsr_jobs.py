"""CABL-CGSR's jobs, beside its plain transcription."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from benchmarks.jobs import PLAIN, Job, noise
from benchmarks.plain_cabl_cgsr import PlainLocalizer, plain_maps
from cabl_cgsr.config import BACKBONES, CamConfig, ModelConfig
from cabl_cgsr.modeling.localizer import Localizer

PEERS: dict[str, str] = {}
JOBS = (
    Job("cabl-cgsr", "classifier", "inference", 512),
    Job("cabl-cgsr", "three scales", "inference", 768),
    Job("cabl-cgsr", "classifier", "training", 512, batch=2),
    Job("cabl-cgsr", "classifier", "inference", 256),
    Job("cabl-cgsr", "classifier", "inference", 768),
)
BOUND = 1e-4
"""In float32 a logit is a mean that nearly cancels, and twelve gated blocks make a rounding of their own 1e-4 of it."""
NOTES = (
    "`classifier` answers both branches' logits. `three scales` is `model.predict(image, refiner=None)`: score and map "
    "from 256x256, 512x512 and 768x768 pixels, each also mirrored. The loss is the binary cross-entropy of both "
    "branches on image labels.",
    "The plain form keeps the attention of all blocks and heads, as code written for maps does, and takes one image, "
    "one size and one mirror at a time.",
)
SMALL = ModelConfig(backbone="test_conformer", drop_path_rate=0.0, cam=CamConfig(sizes=(32, 48, 64)))


class Predicted(nn.Module):
    """The model as a user asks it: an image (H, W, 3) uint8 -> its score and its map (H, W), unscaled."""

    def __init__(self, model: Localizer) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: np.ndarray) -> tuple[float, np.ndarray]:
        found = self.model.predict(image, refiner=None)
        return found.score, found.raw_map


class PlainPredicted(nn.Module):
    """The same by the plain form."""

    def __init__(self, model: PlainLocalizer, config: ModelConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, image: np.ndarray) -> tuple[float, np.ndarray]:
        views = []
        for side in self.config.cam.sizes:
            resized = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
            pixels = (np.asarray(resized, np.float32) - self.config.mean) / self.config.std
            view = torch.from_numpy(pixels.astype(np.float32).transpose(2, 0, 1).copy())[None]
            views.append(view.to(self.model.conv_cls_head.weight.device))
        score, found = plain_maps(self.model, views, image.shape[:2])
        return score.item(), found.cpu().numpy()


def build(job: Job, variant: str) -> nn.Module:
    """A network on seeded weights; those of ours and of the plain form are the same."""
    config = SMALL if job.small else ModelConfig()
    model: Any = Localizer.from_config(config)
    _see_noise(model)
    if variant == PLAIN:
        plain = PlainLocalizer(*(*astuple(BACKBONES[config.backbone]), config.drop_path_rate))
        plain.load_state_dict(model.state_dict())
        model = plain
    if job.part == "classifier":
        return model
    return PlainPredicted(model, config) if variant == PLAIN else Predicted(model)


def _see_noise(model: nn.Module) -> None:
    """Give batch norm the statistics of noise: untrained ones let twelve gated blocks grow without end."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        model.train()(noise(Job("cabl-cgsr", "classifier", "inference", 64, batch=4)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def inputs(job: Job, variant: str) -> tuple[Any]:
    if job.part == "classifier":
        return (noise(job),)
    return (np.random.default_rng(2).integers(0, 256, (job.side, job.side, 3), dtype=np.uint8),)


def outputs(output: Any) -> Mapping[str, Tensor]:
    if hasattr(output, "logits_conv"):
        return {"logits": torch.cat([output.logits_conv, output.logits_trans], dim=1)}
    score, found = output
    return {"score": torch.tensor(score), "map": torch.from_numpy(found)}


def loss(output: Any, job: Job) -> Tensor:
    targets = (torch.arange(job.batch, device=output.logits_conv.device) % 2).float()[:, None]
    terms = [
        F.binary_cross_entropy_with_logits(x.float(), targets)
        for x in (output.logits_conv, output.logits_trans)
    ]
    return torch.stack(terms).sum()
