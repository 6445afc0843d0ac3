"""Any timm backbone with four feature levels, and start weights for it."""

from __future__ import annotations

from typing import Any

import timm
from safetensors.torch import load_file
from torch import Tensor, nn

from fanet.config import ModelConfig
from fanet.modeling.fanet import Stage
from fanet.registry import MODELS
from papers_shared.errors import UserError
from papers_shared.hub import CONFIG, WEIGHTS, local_folder
from papers_shared.text import read_json

LEVELS = (-4, -3, -2, -1)


def create_backbone(config: ModelConfig) -> nn.Module:
    """The last four feature levels of the timm model `config.backbone`, with its start weights.

    Returns:
        A timm feature extractor: images (B, in_chans, H, W) -> list of four maps; `feature_info` describes them.

    Raises:
        UserError: timm knows no such model, the model cannot give four levels, an option does not fit it, or
            the start weights do not.
    """
    options = {"features_only": True, "out_indices": LEVELS, **model_options(config)}
    if config.head == "deeplabv3plus":
        options["output_stride"] = 16
    try:
        backbone = create_timm(config, **options)
    except (IndexError, AssertionError) as error:
        raise UserError(
            f"--model.backbone: {config.backbone!r} does not give four feature levels (timm says: {error}); choose a "
            "hierarchical model such as fanet_tiny, focalnet_tiny_lrf or convnext_tiny"
        ) from error
    if config.grad_checkpointing:
        set_grad_checkpointing(backbone, config.backbone)
    if config.pretrained not in ("", "timm"):
        load_backbone(backbone, config)
    return backbone


def model_options(config: ModelConfig) -> dict[str, Any]:
    """Arguments of `timm.create_model` that the configuration decides for any task."""
    options: dict[str, Any] = {"in_chans": config.in_chans, "pretrained": config.pretrained == "timm"}
    if config.drop_path_rate > 0:
        options["drop_path_rate"] = config.drop_path_rate
    switches = {name: getattr(config, name) for name in ("scm", "frm_high", "frm_low")}
    if is_fanet(config.backbone):
        options |= switches | {"drop_path_rate": config.drop_path_rate}
    elif not all(switches.values()):
        off = ", ".join(f"--model.no-{name.replace('_', '-')}" for name, on in switches.items() if not on)
        raise UserError(
            f"{off}: only a FANet backbone has this part, and --model.backbone is {config.backbone!r}"
        )
    return options


def is_fanet(backbone: str) -> bool:
    return backbone.split(".")[0] in MODELS


def create_timm(config: ModelConfig, **options: Any) -> nn.Module:
    """`timm.create_model`, with the mistakes of a configuration named."""
    name = config.backbone
    if not timm.is_model(name.split(".")[0]) and ":" not in name:
        raise UserError(f"--model.backbone: timm knows no model {name!r}; `timm.list_models()` lists them")
    any_size: tuple[dict[str, Any], ...] = ({},)
    if ":" not in name and timm.get_pretrained_cfg_value(name, "fixed_input_size"):
        any_size = ({"strict_img_size": False}, {"dynamic_img_size": True})
    problem: Exception | None = None
    for size_option in any_size:
        try:
            return timm.create_model(name, **options, **size_option)
        except TypeError as error:
            problem = error
        except RuntimeError as error:
            raise UserError(f"--model.backbone: timm cannot create {name!r}: {error}") from error
    raise UserError(
        f"--model.backbone: {name!r} takes images of one size only, or lacks an option of ours (--model.drop-path-rate "
        f"0 leaves that one out): {problem}"
    )


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


def load_backbone(backbone: nn.Module, config: ModelConfig) -> None:
    """Start weights for every entry of `backbone` from the model folder or Hub name `config.pretrained`.

    The folder may hold a segmenter or a classifier. A feature extractor of timm renames the parts of its model
    (`layers.0` becomes `layers_0`), so that names are compared with their dots as underscores.

    Raises:
        UserError: The folder is of another backbone, or an entry is missing or of another shape.
    """
    saved, tensors = read_folder(config.pretrained)
    source = f"--model.pretrained {config.pretrained!r}"
    for name in ("backbone", "scm", "frm_high", "frm_low"):
        if saved.get(name) != getattr(config, name):
            raise UserError(
                f"{source} was trained with {name} {saved.get(name)}, not {getattr(config, name)}"
            )
    found = {_flat_name(name): tensor for name, tensor in tensors.items()}
    state = backbone.state_dict()
    problems = []
    for name, tensor in state.items():
        start = found.get(_flat_name(name))
        if start is None:
            problems.append(f"{name} is missing")
        elif start.shape != tensor.shape:
            problems.append(f"{name} has shape {tuple(start.shape)} and not {tuple(tensor.shape)}")
        else:
            state[name] = start
    if problems:
        raise UserError(f"{source} does not fit the backbone {config.backbone!r}: {'; '.join(problems)}")
    backbone.load_state_dict(state)


def _flat_name(name: str) -> str:
    for prefix in ("backbone.", "model.", "body."):
        name = name.removeprefix(prefix)
    return name.replace(".", "_")


def read_folder(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and the tensors of a model folder, or of a Hub repository, written by this package."""
    try:
        folder = local_folder(name)
    except UserError as error:
        raise UserError(f"--model.pretrained: {error}") from error
    files = folder / CONFIG, folder / WEIGHTS
    if not all(file.is_file() for file in files):
        raise UserError(
            f"--model.pretrained: {name!r} is not a model folder ({CONFIG} and {WEIGHTS}); official files become "
            "one with `fanet convert`"
        )
    return read_json(files[0])["config"], load_file(files[1])
