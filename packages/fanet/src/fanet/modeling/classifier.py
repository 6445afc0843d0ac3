"""The image classifier: the whole timm model, saved and opened as a folder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from fanet.config import ModelConfig
from fanet.modeling.backbone import create_timm, load_backbone, model_options, set_grad_checkpointing
from fanet.modeling.blocks import Block
from papers_shared.hub import PretrainedFolder


class Classifier(nn.Module, PretrainedFolder):
    """A timm model with its classifier (without classes: its pooled features).

    Args:
        config: What was built: preprocessing and class names are read from it.
        model: Images (B, in_chans, H, W) -> logits (B, num_classes).
    """

    config: ModelConfig

    def __init__(self, config: ModelConfig, model: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.model = model

    @classmethod
    def from_config(cls, config: ModelConfig) -> Classifier:
        """A classifier on fresh weights, or a fresh classifier on the backbone that `config.pretrained` names.

        Raises:
            UserError: timm knows no such model, or an option or the start weights do not fit it.
        """
        folder = config.pretrained not in ("", "timm")
        num_classes = 0 if folder else config.num_classes
        model: Any = create_timm(config, num_classes=num_classes, **model_options(config))
        if folder:
            load_backbone(model, config)
            model.reset_classifier(config.num_classes)
        if config.grad_checkpointing:
            set_grad_checkpointing(model, config.backbone)
        return cls(replace(config, pretrained=""), model)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, in_chans, H, W), normalised -> logits (B, num_classes)."""
        return self.model(images)

    def fsdp_units(self) -> list[nn.Module]:
        """Parts whose weights are gathered one at a time with `--optim.shard`: FANet's blocks."""
        return [module for module in self.model.modules() if isinstance(module, Block)]
