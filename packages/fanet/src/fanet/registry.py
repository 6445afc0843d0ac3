"""The sizes of FANet's variants, registered as timm models when this module is imported."""

from __future__ import annotations

from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from fanet.modeling.fanet import FANet
from fanet.names import timm_names
from papers_shared.errors import UserError

MODELS = ("fanet_tiny", "test_fanet")
AUTHORS_WEIGHTS = (
    "the authors' weights lie in the Hub repository mubashir04/fanet_zerowaste_segmentation; `fanet convert "
    "mubashir04/fanet_zerowaste_segmentation IMAGENET` makes the folder that --model.pretrained takes, see "
    "docs/weights.md"
)
"""Where weights of `fanet_tiny` are, which timm does not have."""


def _cfg(**kwargs: Any) -> dict[str, Any]:
    return {
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "stem.conv",
        "classifier": "head.fc",
        **kwargs,
    }


default_cfgs = generate_default_cfgs(
    {
        "fanet_tiny.untrained": _cfg(),
        "test_fanet.untrained": _cfg(input_size=(3, 160, 160), pool_size=(5, 5)),
    }
)


def checkpoint_filter_fn(state_dict: dict[str, Any], model: nn.Module) -> dict[str, Tensor]:
    """Weights under the timm model's names, from a file of ours or an official one."""
    return timm_names(state_dict.get("state_dict", state_dict))


def _create_fanet(variant: str, pretrained: bool, **kwargs: Any) -> FANet:
    try:
        return build_model_with_cfg(
            FANet,
            variant,
            pretrained,
            pretrained_filter_fn=checkpoint_filter_fn,
            feature_cfg={"out_indices": (0, 1, 2, 3)},
            **kwargs,
        )
    except RuntimeError as error:
        if "No pretrained weights exist" not in str(error):
            raise
        raise UserError(f"timm has no weights of {variant!r}: {AUTHORS_WEIGHTS}") from error


@register_model
def fanet_tiny(pretrained: bool = False, **kwargs: Any) -> FANet:
    """The network of the paper: 36.7 M parameters, 5.8 GMAC at 224x224 as an ImageNet classifier."""
    sizes = {
        "embed_dims": (96, 192, 384, 768),
        "depths": (2, 2, 8, 2),
        "kernel_sizes": (5, 5, 3, 3),
        "mlp_ratio": 4.0,
    }
    return _create_fanet("fanet_tiny", pretrained, **(sizes | kwargs))


@register_model
def test_fanet(pretrained: bool = False, **kwargs: Any) -> FANet:  # noqa: PT028 (a model, not a test)
    """A small network for tests and for the embedded scenes."""
    sizes = {
        "embed_dims": (16, 24, 32, 48),
        "depths": (1, 1, 2, 1),
        "kernel_sizes": (5, 5, 3, 3),
        "mlp_ratio": 4.0,
    }
    return _create_fanet("test_fanet", pretrained, **(sizes | kwargs))
