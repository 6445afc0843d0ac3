"""Start weights of a backbone: timm's, a folder's, or those of any file here, on the Hub or at an https address.

timm never opens a file: it gets tensors that were read here, so that no version of it runs a pickle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import timm
import torch
from torch import Tensor, nn

from fanet.config import ModelConfig
from fanet.names import timm_names
from fanet.registry import AUTHORS_WEIGHTS, MODELS
from papers_shared.entries import numbers_of
from papers_shared.errors import UserError
from papers_shared.foreign import check_fits, load_official
from papers_shared.hub import CONFIG, check_numbers
from papers_shared.text import read_json
from papers_shared.weights import SAME_WEIGHTS, Weights, fetch_weights

PREFIXES = ("backbone.", "model.", "body.")
"""How a backbone's entries begin in a network around it."""
HEADS = frozenset(
    {"head", "heads", "fc", "classifier", "decoder", "decode_head", "auxiliary_head", "neck", "mask_token"}
)
"""Parts that other people's files hold beside a backbone."""
TABLES = frozenset({"relative_position_index", "relative_coords_table", "attn_mask", "num_batches_tracked"})
"""Entries that some versions save and others compute."""
OF_THE_BACKBONE = ("backbone", "scm", "frm_high", "frm_low")
"""Options of the configuration that decide which entries a backbone has."""


@dataclass(frozen=True)
class StartWeights:
    """Where a backbone's start weights lie, and what is known of them."""

    weights: Weights | None = None
    saved: dict[str, Any] = field(default_factory=dict)
    """Values of `ModelConfig` that they were trained with, as far as they are known."""

    @property
    def licence(self) -> str:
        """Of the weights, as far as it is known."""
        return self.weights.licence if self.weights else ""

    @property
    def source(self) -> str:
        """Source and digest; empty without start weights."""
        return self.weights.sentence() if self.weights else ""


def find_start(config: ModelConfig) -> StartWeights:
    """The start weights that `config.pretrained` names, on this machine; none where it names none.

    Raises:
        UserError: There are none, or they are of another backbone.
    """
    if not config.pretrained:
        return StartWeights()
    if config.pretrained == "timm":
        return _of_timm(config.backbone)
    weights = fetch_weights(config.pretrained, package="fanet", beside=(CONFIG,), option="--model.pretrained")
    description = weights.file.with_name(CONFIG)
    if weights.file.name not in SAME_WEIGHTS or not description.is_file():
        return StartWeights(weights)
    saved = _described(read_json(description), str(description))
    for name in OF_THE_BACKBONE:
        if name in saved and str(saved[name]).split(".")[0] != str(getattr(config, name)).split(".")[0]:
            raise UserError(
                f"--model.pretrained {config.pretrained!r} was trained with {name} {saved[name]}, not "
                f"{getattr(config, name)}"
            )
    return StartWeights(weights, saved)


def follow_weights(config: ModelConfig, start: StartWeights | None = None) -> ModelConfig:
    """The configuration with the `mean`, `std` and image size that its start weights were trained with.

    Values of `mean` and `std` that are not the default ones were asked for, and stay.

    Raises:
        UserError: `config.pretrained` names no start weights.
    """
    saved = (find_start(config) if start is None else start).saved
    changed: dict[str, Any] = {name: tuple(saved[name]) for name in ("mean", "std") if name in saved}
    if saved.get("image_size"):
        changed["image_size"] = saved["image_size"]
    default = ModelConfig()
    for name in ("mean", "std"):
        if getattr(config, name) != getattr(default, name) or len(changed.get(name, (0,))) != 3:
            changed.pop(name, None)
    return replace(config, **changed)


def timm_entries(config: ModelConfig, start: StartWeights) -> dict[str, Tensor]:
    """timm's own weights, as `timm.create_model` takes them in `pretrained_cfg_overlay`."""
    assert start.weights is not None
    return _read(config, start.weights)


def check_taken(model: nn.Module, entries: dict[str, Tensor], start: StartWeights) -> None:
    """Refuse weights that timm left out in silence, and let go of what it keeps of them beside the network.

    Raises:
        UserError: Most entries of `model` have no counterpart of their shape: the file is of another network.
    """
    described: Any = getattr(model, "pretrained_cfg", None)
    if isinstance(described, dict):
        described.pop("state_dict", None)
    counts = Counter(tuple(tensor.shape) for tensor in entries.values())
    shapes = [tuple(tensor.shape) for tensor in model.state_dict().values()]
    common = (Counter(shapes) & counts).total()
    if 2 * common < len(shapes):
        raise UserError(
            f"--model.pretrained timm: {start.weights.origin if start.weights else ''} is of another network: only "
            f"{common:,} of {len(shapes):,} entries have a counterpart of their shape"
        )
    check_numbers(entries, entries, start.weights.origin if start.weights else "timm")


def load_backbone(backbone: nn.Module, config: ModelConfig, start: StartWeights) -> None:
    """Give `backbone` a value for every entry; the whole timm model's other entries and heads are left out.

    A feature extractor of timm renames the parts of its model (`layers.0` becomes `layers_0`), so that names are
    compared with their dots as underscores.

    Raises:
        UserError: The file is of another backbone, or an entry is missing, surplus, of another shape or not finite.
    """
    assert start.weights is not None
    tensors = _read(config, start.weights)
    found = {_flat_name(name): tensor for name, tensor in tensors.items()}
    state = backbone.state_dict()
    given = {name: found[_flat_name(name)] for name in state if _flat_name(name) in found}
    surplus = {name: tensors[name] for name in _surplus(tensors, state, config)}
    check_fits(
        given | surplus,
        state,
        f"--model.pretrained {config.pretrained!r}",
        f"the backbone {config.backbone!r}",
    )
    backbone.load_state_dict(given)


def _surplus(tensors: Mapping[str, Tensor], state: Mapping[str, Tensor], config: ModelConfig) -> list[str]:
    """Names that neither the backbone nor the whole timm model has, and that are no heads.

    Where the backbone's entries have a prefix, the others are those of parts beside it.
    """
    with torch.device("meta"):
        whole = timm.create_model(config.backbone).state_dict()
    known = {_flat_name(name) for name in (*state, *whole)}
    prefixed = any(_flat_name(name) in known and name.startswith(PREFIXES) for name in tensors)
    return [
        name
        for name in tensors
        if _flat_name(name) not in known
        and name.startswith(PREFIXES) >= prefixed
        and name.partition(".")[0] not in HEADS
        and name.rpartition(".")[2] not in TABLES
    ]


def _read(config: ModelConfig, weights: Weights) -> dict[str, Tensor]:
    tensors = load_official(weights.file)
    return timm_names(tensors) if config.backbone.split(".")[0] in MODELS else tensors


def _flat_name(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name.replace(".", "_")


def _of_timm(backbone: str) -> StartWeights:
    described = timm.get_pretrained_cfg(backbone)
    source = described and (described.hf_hub_id or described.url)
    if described is None or not source:
        where = f": {AUTHORS_WEIGHTS}" if backbone.split(".")[0] in MODELS else ""
        raise UserError(f"--model.pretrained timm: timm has no weights of {backbone!r}{where}")
    name = source if isinstance(source, str) else "/".join(source)  # a repository, and a file in it
    weights = fetch_weights(name, package="fanet", option="--model.pretrained timm")
    saved = {name: _scaled(getattr(described, name)) for name in ("mean", "std")}
    return StartWeights(replace(weights, licence=described.license or weights.licence), saved)


def _described(description: Any, where: str) -> dict[str, Any]:
    """What a `config.json` of ours or of timm says; of other libraries nothing is known."""
    if not isinstance(description, dict):
        return {}
    own, of_timm = description.get("config"), description.get("pretrained_cfg")
    if isinstance(own, dict):
        return own
    if "architecture" not in description or not isinstance(of_timm, dict):
        return {}
    saved: dict[str, Any] = {
        name: _scaled(numbers_of(of_timm[name], f"{where}: {name}", count=3))
        for name in ("mean", "std")
        if name in of_timm and len(of_timm[name]) == 3
    }
    saved["backbone"] = description["architecture"]
    return saved


def _scaled(values: Any) -> tuple[float, ...]:
    """timm's means and deviations of colours in 0..1, for colours in 0..255."""
    return tuple(round(255 * x, 4) for x in values)
