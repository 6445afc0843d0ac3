"""Converts checkpoints of Conformer-S (ImageNet; of its authors or of mmpretrain) and TransCAM to model folders.

Strict: unknown, missing and misshapen entries are errors; only ImageNet's linear heads are left out, and the report
lists what starts fresh. The authors' names are the network's own; `cabl_cgsr.names` has mmpretrain's. A pickle is read
with `weights_only=True` and a short list of harmless types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cabl_cgsr.config import BACKBONES, CablConfig, ModelConfig
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.names import authors_names
from papers_shared.doctor import Report
from papers_shared.entries import first_names
from papers_shared.errors import UserError
from papers_shared.files import check_replaceable
from papers_shared.foreign import load_official
from papers_shared.hub import CARD, CONFIG, TRAINING, WEIGHTS, check_numbers
from papers_shared.provenance import Origin
from papers_shared.seeding import forked_rng
from papers_shared.weights import fetch_weights

HEADS = (
    "conv_cls_head.weight",
    "conv_cls_head.bias",
    "trans_cls_head.weight",
    "trans_cls_head.bias",
)
WSCL = "sub_models."
"""How the entries of WSCL's three-stream model begin."""
MANIPULATION_CLASSES = 2
"""Manipulated, or authentic and manipulated; heads of more classes were trained for something else."""


class Converted(NamedTuple):
    """A checkpoint under the names of `Localizer`."""

    config: ModelConfig
    tensors: dict[str, Tensor]
    fresh: list[str]
    """Names that the checkpoint has no value for: they start fresh."""


def convert(
    source: Path | str, output: Path | str, cabl: CablConfig | None = None, sha256: str = ""
) -> Report:
    """Write the checkpoint `source` as the model folder `output`, which serves as `--model.pretrained`.

    TransCAM's heads, a 3x3 convolution and a linear layer on the class token, are kept, whatever number of classes they
    have. Those of more than two tell something else than manipulation: the folder says so, and `predict` refuses it
    until it is trained. ImageNet's linear heads are left out: the folder's are then drawn from seed 0.

    Args:
        source: A file, a folder with one weight file, a Hub name, a file inside a Hub repository or an https address
            (`papers_shared.weights.fetch_weights`).
        cabl: The edge gates to write into the folder's configuration; None: no operator, as the checkpoint
            was trained. They have no weights.
        sha256: What the file must have as its SHA-256; empty: anything.

    Returns:
        What was read, what starts fresh and what was written, as notes.

    Raises:
        UserError: The file cannot be read, holds other Python objects, or does not fit Conformer-S name by
            name, or `output` holds other files.
    """
    check_replaceable(output, (WEIGHTS, CONFIG, CARD, TRAINING))
    weights = fetch_weights(source, sha256=sha256, package="cabl-cgsr")
    official = load_official(weights.file)
    try:
        converted = convert_state_dict(official, cabl)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    with forked_rng(0):
        localizer = Localizer.from_config(converted.config)
    localizer.load_state_dict(converted.tensors, strict=not converted.fresh)
    localizer.origin = replace(_origin(converted, weights.sentence()), licence=weights.licence)
    localizer.save_pretrained(output)
    report = Report()
    report.add("note", weights.origin, f"its SHA-256 is {weights.digest}")
    report.add("note", weights.origin, f"{len(official):,} entries read, {len(converted.tensors):,} taken")
    for name in converted.fresh:
        report.add("note", name, "starts fresh", "train it before the logits and maps are used")
    if localizer.origin.other_task:
        told = f"the heads tell {localizer.origin.other_task}"
        report.add("note", weights.origin, told, "train on manipulated images before `predict`")
    parameters, config = sum(parameter.numel() for parameter in localizer.parameters()), converted.config
    report.add(
        "note",
        output,
        f"cabl_cgsr.Localizer with {parameters:,} parameters, {config.num_logits} logit(s) per branch "
        f"and edge operator {config.cabl.operator} written",
    )
    return report


def _origin(converted: Converted, source: str) -> Origin:
    heads = tuple(dict.fromkeys(name.partition(".")[0] for name in HEADS))
    if converted.fresh:
        return Origin(heads, (f"backbone: {source}",))
    start, classes = tuple(f"{part}: {source}" for part in ("backbone", *heads)), converted.config.num_logits
    if classes > MANIPULATION_CLASSES:
        return Origin(heads, start, other_task=f"{classes:,} classes that are no manipulations")
    return Origin(start_weights=start)


def convert_state_dict(official: Mapping[str, Tensor], cabl: CablConfig | None = None) -> Converted:
    """Entries of Conformer-S or TransCAM under the names of `Localizer`: all but the heads' lie in `backbone.`.

    Names as this package saves them, and mmpretrain's, are taken too.

    Raises:
        UserError: Unknown names, missing names, tensors of another shape, weights that are not finite; the lists name
            the first of them as the checkpoint does.
    """
    if any(name.startswith(WSCL) for name in official):
        raise UserError("this is a network of WSCL, an FCN with another backbone, not a Conformer-S")
    official = authors_names(official)
    num_logits, kept = _heads(official)
    config = ModelConfig(
        backbone=_backbone(official),
        num_logits=num_logits,
        cabl=CablConfig(operator="none") if cabl is None else cabl,
    )
    with torch.device("meta"):
        expected = {
            name.removeprefix("backbone."): tensor
            for name, tensor in Localizer.from_config(config).state_dict().items()
        }
    check_numbers(official, expected, "the checkpoint")
    tensors = {name: tensor for name, tensor in official.items() if kept or name not in HEADS}
    for name in expected:
        if name.endswith(".num_batches_tracked") and name not in tensors:
            tensors[name] = torch.zeros((), dtype=torch.long)
    needed = [name for name in expected if kept or name not in HEADS]
    problems = {
        "unknown names": [name for name in tensors if name not in expected],
        "missing names": [name for name in needed if name not in tensors],
        "tensors of another shape": [
            f"{name} {list(tensors[name].shape)} instead of {list(expected[name].shape)}"
            for name in needed
            if name in tensors and tensors[name].shape != expected[name].shape
        ],
    }
    if any(problems.values()):
        lists = [f"{len(names)} {what}: {first_names(names)}" for what, names in problems.items() if names]
        raise UserError("not a Conformer-S with patches of 16 pixels; " + "; ".join(lists))
    return Converted(
        config,
        {name if name in HEADS else f"backbone.{name}": tensor for name, tensor in tensors.items()},
        [] if kept else list(HEADS),
    )


def _heads(official: Mapping[str, Tensor]) -> tuple[int, bool]:
    """Logits of each branch, and whether the checkpoint's heads are kept.

    A checkpoint without any head is a bare backbone; one with some of the four entries is broken, and found
    to be so by the caller, as it counts as kept.
    """
    found = [name for name in HEADS if name in official]
    conv = official.get("conv_cls_head.weight")
    if conv is not None and conv.ndim == 4:
        return len(conv), True
    return 1, 0 < len(found) < len(HEADS)


def _backbone(official: Mapping[str, Tensor]) -> str:
    """The backbone whose token and map widths the checkpoint has; without one, that of the paper."""
    tokens, maps = official.get("trans_norm.weight"), official.get("conv_1.bn3.weight")
    if tokens is not None and maps is not None:
        for name, sizes in BACKBONES.items():
            if (len(tokens), len(maps)) == (sizes.embed_dim, sizes.conv_chans):
                return name
    return "conformer_small"
