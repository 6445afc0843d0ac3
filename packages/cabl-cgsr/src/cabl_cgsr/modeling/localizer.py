"""The network of the paper: Conformer with CABL gates, and one head on each branch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cabl_cgsr.cam import activation_map
from cabl_cgsr.config import BACKBONES, ModelConfig, check_config
from cabl_cgsr.modeling.conformer import Conformer, ConformerFeatures, init_weights, patch_grid
from cabl_cgsr.modeling.start_weights import load_start
from papers_shared.hub import PretrainedFolder
from papers_shared.provenance import drawn

if TYPE_CHECKING:
    from cabl_cgsr.inference import Localization


class LocalizerOutput(NamedTuple):
    """Scores before the sigmoid, in float32 at least; the last logit stands for "manipulated"."""

    logits_conv: Tensor
    """(B, num_logits) of the convolution (CABL) branch."""
    logits_trans: Tensor
    """(B, num_logits) of the transformer branch."""


class LocalizerCam(NamedTuple):
    """The same, and where."""

    logits_conv: Tensor
    logits_trans: Tensor
    cam: Tensor
    """(B, h, w): the map of "manipulated", Eq. (2), unscaled."""


class LocalizerMaps(NamedTuple):
    """What Eq. (2) is made of; h = ceil(H / 16), w = ceil(W / 16)."""

    logits_conv: Tensor
    logits_trans: Tensor
    conv_map: Tensor
    """(B, num_logits, h, w): its mean is `logits_conv`."""
    trans_map: Tensor
    """(B, num_logits, h, w): the token head's weights on each patch token, without the bias."""
    attention: Tensor
    """(B, 1 + h*w, 1 + h*w): averaged over the heads, summed over the 12 blocks; the class token first."""


class Localizer(nn.Module, PretrainedFolder):
    """Backbone and heads; built by `from_config` or `from_pretrained`.

    Args:
        config: What was built: preprocessing, maps and prompts are read from it.
        backbone: Images -> features of both branches on one grid.
        conv_cls_head: The convolution branch's features (B, C, h, w) -> (B, num_logits, h, w).
        trans_cls_head: Tokens (..., D) -> (..., num_logits).
    """

    RETIRED_OPTIONS = frozenset({"loss"})
    PIPELINE_TAG: ClassVar[str] = "image-segmentation"
    LIMITS: ClassVar[str] = (
        "It was trained with image labels only: its verdict is a hint and no proof, and its map shows what the verdict "
        "rests on, not what was changed."
    )
    config: ModelConfig

    def __init__(
        self, config: ModelConfig, backbone: Conformer, conv_cls_head: nn.Conv2d, trans_cls_head: nn.Linear
    ) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.conv_cls_head = conv_cls_head
        self.trans_cls_head = trans_cls_head

    @classmethod
    def from_config(cls, config: ModelConfig) -> Localizer:
        """A network on fresh weights, or on the backbone weights that `config.pretrained` names.

        The heads start fresh in either case; torch's own draw for the convolution, whose fan-out of a logit or two
        would let Conformer's rule begin with logits beyond 10. The `config` of the network names no start weights:
        a folder saved from it stands alone.

        Raises:
            UserError: An unknown backbone, a field that does not fit, or start weights of another backbone.
        """
        check_config(config)
        backbone = Conformer(
            BACKBONES[config.backbone],
            config.cabl,
            drop_path_rate=config.drop_path_rate,
            grad_checkpointing=config.grad_checkpointing,
        )
        conv_cls_head = nn.Conv2d(backbone.num_features, config.num_logits, 3, padding=1)
        trans_cls_head = nn.Linear(backbone.embed_dim, config.num_logits)
        init_weights(trans_cls_head)
        weights = load_start(backbone, config) if config.pretrained else None
        localizer = cls(replace(config, pretrained=""), backbone, conv_cls_head, trans_cls_head)
        if weights is None:
            localizer.origin = drawn(localizer)
        else:
            source, licence = weights.sentence(), weights.licence
            localizer.origin = drawn(localizer, "backbone", source=source, licence=licence)
        return localizer

    def forward(self, images: Tensor, cam: bool = False) -> LocalizerOutput | LocalizerCam:
        """Both branches' logits and, on request, the map of where the image is manipulated.

        Args:
            images: (B, 3, H, W) float, normalised with `config.mean` and `config.std`. Sides that are no
                multiples of 16 are resized to the next one.
            cam: Also compute the map, as `config.cam` says. Attention then is not fused: each block makes its
                N x N maps.
        """
        if cam:
            maps = self.forward_maps(images)
            combined = activation_map(maps.conv_map, maps.trans_map, maps.attention, self.config.cam)
            return LocalizerCam(maps.logits_conv, maps.logits_trans, combined[:, -1])
        conv_map, logits_trans = self._heads(self.backbone(images))
        return LocalizerOutput(conv_map.mean(dim=(2, 3)), logits_trans)

    def forward_maps(self, images: Tensor) -> LocalizerMaps:
        """The logits, both branches' maps and the attention, all in float32 at least."""
        features = self.backbone(images, attention=True)
        conv_map, logits_trans = self._heads(features)
        weight = self.trans_cls_head.weight
        with torch.autocast(weight.device.type, enabled=False):
            patches = F.linear(features.tokens[:, 1:].to(weight.dtype), weight)
        trans_map = at_least_float32(patches.transpose(1, 2).unflatten(2, patch_grid(images)))
        attention = at_least_float32(features.attention)
        return LocalizerMaps(conv_map.mean(dim=(2, 3)), logits_trans, conv_map, trans_map, attention)

    def fsdp_units(self) -> list[nn.Module]:
        """Parts that are compiled, or whose weights are gathered, one at a time."""
        return self.backbone.fsdp_units()

    def predict(self, image: Any, **options: Any) -> Localization:
        """Verdict, map and masks of one image (a path, a PIL image or an RGB array); see
        `cabl_cgsr.inference.predict`."""
        from cabl_cgsr.inference import predict

        return predict(self, image, **options)

    def _heads(self, features: ConformerFeatures) -> tuple[Tensor, Tensor]:
        """The convolution branch's map, whose mean is its logits, and the other branch's logits.

        The heads run in the type of their weights, under autocast too: scores rounded to bfloat16 would tie.
        """
        weight = self.trans_cls_head.weight
        with torch.autocast(weight.device.type, enabled=False):
            conv_map = self.conv_cls_head(features.conv.to(weight.dtype))
            logits_trans = self.trans_cls_head(features.tokens[:, 0].to(weight.dtype))
        return at_least_float32(conv_map), at_least_float32(logits_trans)


def at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
