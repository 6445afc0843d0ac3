"""The segmentation network: a backbone, the UperNet head, and in training the auxiliary FCN head."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from fanet.config import ModelConfig
from fanet.modeling.backbone import create_backbone
from fanet.modeling.blocks import Block
from fanet.modeling.fitting import in_order
from fanet.modeling.heads import DeepLabV3PlusHead, FCNHead, UPerHead
from fanet.modeling.levels import Levels
from fanet.modeling.start_weights import find_start, follow_weights
from papers_shared.errors import UserError
from papers_shared.hub import PretrainedFolder
from papers_shared.provenance import drawn

if TYPE_CHECKING:
    from fanet.inference import Segmentation


class SegmenterOutput(NamedTuple):
    """Scores before the softmax, in training."""

    logits: Tensor
    """(B, num_classes, H/4, W/4), rounded up."""
    aux_logits: Tensor | None
    """(B, num_classes, h, w) at the auxiliary stage's size."""


class SegmenterLogits(NamedTuple):
    """Scores before the softmax, without an auxiliary head: a tuple of tensors alone, as tracing asks for."""

    logits: Tensor
    """(B, num_classes, H/4, W/4), rounded up."""

    @property
    def aux_logits(self) -> None:
        """There are none."""
        return None


class Segmenter(nn.Module, PretrainedFolder):
    """Backbone and heads; built by `from_config` or `from_pretrained`.

    Args:
        config: What was built: preprocessing and class names are read from it.
        backbone: Images (B, in_chans, H, W) -> list of maps, from fine to coarse.
        levels: Fits images to the backbone and its maps to the heads.
        decode_head: The maps -> logits at the size of the first.
        auxiliary_head: The map of stage `config.auxiliary_stage` -> logits at its size.
    """

    PIPELINE_TAG: ClassVar[str] = "image-segmentation"
    LIMITS: ClassVar[str] = (
        "It knows the classes in config.json and gives each pixel one of them, whatever the image shows."
    )
    config: ModelConfig
    notes: tuple[str, ...] = ()
    """What the backbone lacks and what is done about it."""

    def __init__(
        self,
        config: ModelConfig,
        backbone: nn.Module,
        levels: Levels,
        decode_head: nn.Module,
        auxiliary_head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.levels = levels
        self.decode_head = decode_head
        self.auxiliary_head = auxiliary_head

    @classmethod
    def from_config(cls, config: ModelConfig) -> Segmenter:
        """A network on fresh weights, or on the backbone weights that `config.pretrained` names.

        The `config` of the network names no start weights: a folder saved from it stands alone.

        Raises:
            UserError: No class names, or what `fanet.modeling.backbone.create_backbone` refuses.
        """
        if not config.class_names:
            raise UserError("--model.class-names is empty: a segmenter needs the names of its classes")
        start = find_start(config)
        config = follow_weights(config, start)
        backbone, fit = create_backbone(config, start)
        levels = Levels(fit, config.level_norm)
        chans, notes = levels.chans, list(fit.notes)
        auxiliary_head = None
        if config.auxiliary:
            if config.auxiliary_stage > 3:
                raise UserError(f"--model.auxiliary-stage is {config.auxiliary_stage}: choose 0 to 3")
            if config.auxiliary_stage >= len(chans):
                notes.append(
                    f"the auxiliary head stands on its last map, --model.auxiliary-stage {len(chans) - 1}"
                )
                config = replace(config, auxiliary_stage=len(chans) - 1)
            auxiliary_head = FCNHead(
                chans[config.auxiliary_stage], config.num_classes, config.auxiliary_channels, config.dropout
            )
        channels, dropout = config.decoder_channels, config.dropout
        decode_head: nn.Module
        if config.head == "deeplabv3plus":
            decode_head = DeepLabV3PlusHead(chans, config.num_classes, channels, dropout)
        else:
            decode_head = UPerHead(chans, config.num_classes, channels, config.pool_scales, dropout)
        if start.licence:
            notes.append(f"the licence of its start weights is {start.licence}")
        own = replace(config, pretrained="", image_size=fit.side)
        model = cls(own, backbone, levels, decode_head, auxiliary_head)
        model.notes = tuple(notes)
        started = ["backbone"] if config.pretrained else []
        model.origin = drawn(model, *started, source=start.source, licence=start.licence)
        return model

    def forward_features(self, images: Tensor) -> list[Tensor]:
        """Images (B, in_chans, H, W), normalised -> the maps (B, C, h, w) of the heads, from fine to coarse."""
        return self.levels(in_order(self.backbone, self.backbone(self.levels.images(images))))

    def forward(self, images: Tensor) -> SegmenterOutput | SegmenterLogits:
        """Scores of every class at a quarter of the size of the images.

        Args:
            images: (B, in_chans, H, W) float, normalised with `config.mean` and `config.std`.

        Raises:
            UserError: A single image in training while batch norm learns.
        """
        features = self.forward_features(images)
        size = [-(-side // 4) for side in images.shape[-2:]]
        logits = self.decode_head(features)
        if list(logits.shape[-2:]) != size:
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        if self.training and self.auxiliary_head is not None:
            return SegmenterOutput(logits, self.auxiliary_head(features[self.config.auxiliary_stage]))
        return SegmenterLogits(logits)

    def fsdp_units(self) -> list[nn.Module]:
        """Parts that are compiled, or whose weights are gathered, one at a time: FANet's blocks, and the heads.

        Other backbones are one part: what timm calls in them is known to timm alone.
        """
        blocks: list[nn.Module] = [module for module in self.backbone.modules() if isinstance(module, Block)]
        heads = [self.decode_head, self.auxiliary_head]
        return [*(blocks or [self.backbone]), *(head for head in heads if head is not None)]

    def predict(self, image: Any, **options: Any) -> Segmentation:
        """The mask of one image (a path, a Pillow image or an RGB array); see `fanet.inference.predict`."""
        from fanet.inference import predict

        return predict(self, image, **options)
