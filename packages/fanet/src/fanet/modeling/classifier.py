"""The image classifier: the whole timm model, saved and opened as a folder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor, nn

from fanet.config import ModelConfig
from fanet.modeling.backbone import create_timm, model_options, set_grad_checkpointing
from fanet.modeling.blocks import Block
from fanet.modeling.levels import Levels
from fanet.modeling.start_weights import find_start, follow_weights, load_backbone
from papers_shared.hub import PretrainedFolder
from papers_shared.provenance import drawn


class Classifier(nn.Module, PretrainedFolder):
    """A timm model with its classifier (without classes: its pooled features).

    Args:
        config: What was built: preprocessing and class names are read from it.
        model: Images (B, in_chans, H, W) -> logits (B, num_classes).
        levels: Fits images to the model.
    """

    PIPELINE_TAG: ClassVar[str] = "image-classification"
    config: ModelConfig
    notes: tuple[str, ...] = ()
    """What the model lacks and what is done about it."""

    def __init__(self, config: ModelConfig, model: nn.Module, levels: Levels) -> None:
        super().__init__()
        self.config = config
        self.model = model
        self.levels = levels

    @classmethod
    def from_config(cls, config: ModelConfig) -> Classifier:
        """A classifier on fresh weights, or a fresh classifier on the backbone that `config.pretrained` names.

        Raises:
            UserError: timm knows no such model, or an option or the start weights do not fit it.
        """
        start = find_start(config)
        config = follow_weights(config, start)
        folder = config.pretrained not in ("", "timm")
        num_classes = 0 if folder else config.num_classes
        model: Any
        model, fit = create_timm(config, {"num_classes": num_classes, **model_options(config)}, start)
        if folder:
            load_backbone(model, config, start)
            model.reset_classifier(config.num_classes)
        if config.grad_checkpointing:
            set_grad_checkpointing(model, config.backbone)
        licence = start.licence
        network = cls(replace(config, pretrained="", image_size=fit.side), model, Levels(fit))
        network.notes = (*fit.notes, *([f"the licence of its start weights is {licence}"] if licence else []))
        started = ["model"] if config.pretrained == "timm" else []
        network.origin = drawn(network, *started, source=start.source, licence=licence)
        return network

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, in_chans, H, W), normalised -> logits (B, num_classes)."""
        return self.model(self.levels.images(images))

    def fsdp_units(self) -> list[nn.Module]:
        """Parts that are compiled, or whose weights are gathered, one at a time: FANet's blocks, or all of it."""
        return [module for module in self.model.modules() if isinstance(module, Block)] or [self.model]
