"""Any timm model as a backbone or a classifier, on its start weights."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import timm
from torch import nn

from fanet.config import ModelConfig
from fanet.modeling.fanet import Stage
from fanet.modeling.fitting import Fit, fit
from fanet.modeling.start_weights import (
    StartWeights,
    check_taken,
    find_start,
    load_backbone,
    timm_entries,
)
from fanet.registry import MODELS
from papers_shared.errors import UserError

DECIDED = frozenset(
    {"pretrained", "features_only", "out_indices", "in_chans", "num_classes", "drop_path_rate", "img_size"}
)
"""Arguments of `timm.create_model` that the configuration has options of its own for."""


def create_backbone(config: ModelConfig, start: StartWeights | None = None) -> tuple[nn.Module, Fit]:
    """The last four feature levels of the timm model `config.backbone` (or as many as it has), with its start weights.

    Returns:
        A timm feature extractor, images (B, in_chans, H, W) -> list of maps; and what it takes and gives.

    Raises:
        UserError: timm knows no such model, an option does not fit it, or the start weights do not.
    """
    start = find_start(config) if start is None else start
    options: dict[str, Any] = {"features_only": True, **model_options(config)}
    if config.head == "deeplabv3plus":
        options["output_stride"] = 16
    backbone, found = create_timm(config, options, start)
    if config.grad_checkpointing:
        set_grad_checkpointing(backbone, config.backbone)
    if config.pretrained not in ("", "timm"):
        load_backbone(backbone, config, start)
    return backbone, found


def model_options(config: ModelConfig) -> dict[str, Any]:
    """Arguments of `timm.create_model` that the configuration decides for any task."""
    options: dict[str, Any] = {"in_chans": config.in_chans}
    if config.drop_path_rate > 0:
        options["drop_path_rate"] = config.drop_path_rate
    options |= dict(_backbone_option(text) for text in config.backbone_options)
    switches = {name: getattr(config, name) for name in ("scm", "frm_high", "frm_low")}
    if is_fanet(config.backbone):
        options |= switches | {"drop_path_rate": config.drop_path_rate}
    elif not all(switches.values()):
        off = ", ".join(f"--model.no-{name.replace('_', '-')}" for name, on in switches.items() if not on)
        raise UserError(
            f"{off}: only a FANet backbone has this part, and --model.backbone is {config.backbone!r}"
        )
    return options


def _backbone_option(text: str) -> tuple[str, Any]:
    """The name and the value of one of `config.backbone_options`: numbers, or a tuple of them.

    Raises:
        UserError: It is written otherwise, or names what another option decides.
    """
    name, _, value = text.partition("=")
    try:
        numbers = json.loads(f"[{value}]")
    except ValueError:
        numbers = []
    if not name.isidentifier() or not numbers or not all(isinstance(x, (int, float)) for x in numbers):
        raise UserError(f"--model.backbone-options {text!r}: write NAME=NUMBERS, such as depths=2,2,6,2")
    if name in DECIDED:
        raise UserError(f"--model.backbone-options {text!r}: {name} is decided by other options")
    return name, numbers[0] if len(numbers) == 1 else tuple(numbers)


def is_fanet(backbone: str) -> bool:
    return backbone.split(".")[0] in MODELS


def create_timm(config: ModelConfig, options: dict[str, Any], start: StartWeights) -> tuple[nn.Module, Fit]:
    """`timm.create_model` with `options`, adapted to what the model takes, on timm's own weights if `start` has them.

    Raises:
        UserError: A mistake of the configuration, or start weights that do not fit.
    """
    name = config.backbone
    if ":" in name or not timm.is_model(
        name.split(".")[0]
    ):  # `hf-hub:` and `local-dir:` open other people's files
        raise UserError(f"--model.backbone: timm knows no model {name!r}; `timm.list_models()` lists them")
    if is_fanet(name):
        found = Fit(options)
    else:
        found = fit(name, options, config.image_size)
    given: dict[str, Any] = {}
    if config.pretrained == "timm":
        entries = timm_entries(config, start)
        given = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": entries}}
    try:
        model: Any = timm.create_model(name, **found.options, **given)
    except (RuntimeError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"--model.backbone: timm cannot create {name!r}: {reason}") from error
    if given:
        check_taken(model, entries, start)
    if is_fanet(name) and options.get("features_only"):
        levels = model.feature_info
        found = replace(found, chans=tuple(levels.channels()), strides=tuple(levels.reduction()))
    return model, found


def set_grad_checkpointing(backbone: nn.Module, name: str) -> None:
    """Recompute the blocks of a timm model, or of a feature extractor around it, in the backward pass."""
    stages = [module for module in backbone.modules() if isinstance(module, Stage)]
    if stages:
        for stage in stages:
            stage.grad_checkpointing = True
        return
    model: Any = backbone
    if not hasattr(model, "set_grad_checkpointing"):
        model = getattr(backbone, "model", backbone)
    if not hasattr(model, "set_grad_checkpointing"):
        raise UserError(f"--model.grad-checkpointing: {name!r} does not support it; leave it off")
    model.set_grad_checkpointing(True)
