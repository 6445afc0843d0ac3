"""Conformer as the ImageNet classifier that the backbone's start weights come from.

The released program can be compared in this form alone; training starts from its checkpoint through `convert`.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from cabl_cgsr.config import CablConfig, ConformerSizes
from cabl_cgsr.modeling.conformer import Conformer, init_weights


class ClassifierOutput(NamedTuple):
    """Each (B, num_classes); the published prediction is the largest of their sum."""

    logits_conv: Tensor
    logits_trans: Tensor


class Classifier(nn.Module):
    """Block 12 ends with stride 2, and the convolution branch's head is linear on pooled features.

    Args:
        sizes: Widths of the backbone.
        num_classes: Classes of both heads.
    """

    def __init__(self, sizes: ConformerSizes, num_classes: int = 1000) -> None:
        super().__init__()
        self.backbone = Conformer(sizes, CablConfig(operator="none"), last_stride=2)
        self.conv_cls_head = nn.Linear(self.backbone.num_features, num_classes)
        self.trans_cls_head = nn.Linear(self.backbone.embed_dim, num_classes)
        init_weights(self.conv_cls_head)
        init_weights(self.trans_cls_head)

    def fsdp_units(self) -> list[nn.Module]:
        """Parts whose weights are gathered one at a time when they are divided among processes."""
        return self.backbone.fsdp_units()

    def forward(self, images: Tensor) -> ClassifierOutput:
        """Images (B, 3, H, W), normalised -> both heads' logits."""
        features = self.backbone(images)
        pooled = features.conv.mean(dim=(2, 3))
        return ClassifierOutput(self.conv_cls_head(pooled), self.trans_cls_head(features.tokens[:, 0]))
