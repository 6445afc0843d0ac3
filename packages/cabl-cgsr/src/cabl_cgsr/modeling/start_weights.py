"""Start weights of the backbone: a model folder's, or any checkpoint's, here, on the Hub or at an https address."""

from __future__ import annotations

import torch

from cabl_cgsr.config import ModelConfig
from cabl_cgsr.modeling.conformer import Conformer
from cabl_cgsr.names import authors_names
from papers_shared.errors import UserError
from papers_shared.foreign import check_fits, load_official
from papers_shared.hub import CONFIG
from papers_shared.text import read_json
from papers_shared.weights import SAME_WEIGHTS, Weights, fetch_weights


def load_start(backbone: Conformer, config: ModelConfig) -> Weights:
    """Give `backbone` the weights that `config.pretrained` names; heads in the file are left out.

    Raises:
        UserError: There are no such weights, or they are not exactly those of this backbone.
    """
    option = f"--model.pretrained {config.pretrained!r}"
    weights = fetch_weights(
        config.pretrained, package="cabl-cgsr", beside=(CONFIG,), option="--model.pretrained"
    )
    description = weights.file.with_name(CONFIG)
    if weights.file.name in SAME_WEIGHTS and description.is_file():
        _check_backbone(read_json(description), config.backbone, option)
    own = backbone.state_dict()
    tensors = {
        name: tensor
        for name, tensor in authors_names(load_official(weights.file)).items()
        if not name.startswith(("conv_cls_head.", "trans_cls_head."))
    }
    for name in own:
        if name.endswith(".num_batches_tracked"):  # older checkpoints lack the counters
            tensors.setdefault(name, torch.zeros((), dtype=torch.long))
    check_fits(tensors, own, option, f"a {config.backbone}")
    backbone.load_state_dict(tensors)
    return weights


def _check_backbone(description: object, backbone: str, option: str) -> None:
    """Name another backbone before its entries are compared; folders of other libraries say nothing of it."""
    saved = description.get("config") if isinstance(description, dict) else None
    found = saved.get("backbone", backbone) if isinstance(saved, dict) else backbone
    if found != backbone:
        raise UserError(f"{option} holds a {found}, not a {backbone}")
