"""Other people's checkpoints in: the authors' ImageNet file and their segmentor, as folders of ours.

Strict: a name that has no place here, a name of ours that stays without a value and a tensor of another shape are
each an error. A pickle is read with `weights_only=True` and a short list of harmless types.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fanet.config import ZEROWASTE_CLASSES, ZEROWASTE_PALETTE, ModelConfig
from fanet.modeling.classifier import Classifier
from fanet.modeling.segmenter import Segmenter
from fanet.options import ConvertOptions
from papers_shared.checkpoints import load_official
from papers_shared.doctor import Report
from papers_shared.errors import UserError

BLOCK_PARTS = {
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "attn.dwconv": "afe.ce.conv",
    "attn.norm1": "afe.ce.norm",
    "attn.proj1": "afe.squeeze.conv",
    "attn.norm2": "afe.squeeze.norm",
    "attn.ctx_conv": "afe.scm.conv",
    "attn.norm3": "afe.scm.norm",
    "attn.proj2": "afe.fuse",
    "attn.enhance.down": "afe.frm.down",
    "attn.enhance.lconv": "afe.frm.low.conv",
    "attn.enhance.norm1": "afe.frm.low.norm",
    "attn.enhance.hconv": "afe.frm.high.conv",
    "attn.enhance.norm2": "afe.frm.high.norm",
    "attn.enhance.proj": "afe.frm.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.pos": "mlp.conv",
    "mlp.fc2": "mlp.fc2",
}
HEAD_PARTS = {
    r"decode_head\.psp_modules\.(\d+)\.1\.(conv|bn)": r"decode_head.pools.\1.\2",
    r"decode_head\.bottleneck\.(conv|bn)": r"decode_head.bottleneck.\1",
    r"decode_head\.lateral_convs\.(\d+)\.(conv|bn)": r"decode_head.laterals.\1.\2",
    r"decode_head\.fpn_convs\.(\d+)\.(conv|bn)": r"decode_head.smooths.\1.\2",
    r"decode_head\.fpn_bottleneck\.(conv|bn)": r"decode_head.fusion.\1",
    r"decode_head\.conv_seg": r"decode_head.classifier",
    r"auxiliary_head\.convs\.0\.(conv|bn)": r"auxiliary_head.conv.\1",
    r"auxiliary_head\.conv_seg": r"auxiliary_head.classifier",
}


def convert(source: Path | str, output: Path | str) -> Report:
    """Write the authors' file `source` as the model folder `output`.

    A segmentor becomes a `fanet.Segmenter`; an ImageNet file becomes a `fanet.Classifier`, without classes where it
    holds the backbone alone. Either folder serves as `--model.pretrained`.

    Returns:
        What was read and what was written, as notes.

    Raises:
        UserError: The file cannot be read, holds other Python objects, or does not fit FANet name by name.
    """
    official = load_official(source)
    try:
        tensors = convert_state_dict(official)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    model = _build(tensors)
    prefix = "model." if isinstance(model, Classifier) else ""
    model.load_state_dict({prefix + name: tensor for name, tensor in tensors.items()})
    model.save_pretrained(output)
    report = Report()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    report.add("note", source, f"{len(official):,} entries read, every one placed")
    report.add("note", output, f"fanet.{type(model).__name__} with {parameters:,} parameters written")
    return report


def run(options: ConvertOptions) -> int:
    """`fanet convert SOURCE OUTPUT`; 0 only when every name is placed."""
    report = convert(options.source, options.output)
    report.print()
    return report.exit_code


def convert_state_dict(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' entries under our names.

    Entries that begin with `backbone.` make it a segmentor, named as in `fanet.Segmenter`. Anything else is
    named as in `timm.create_model("fanet_tiny")`, for the bare backbone with `num_classes=0` or `features_only=True`.
    A `module.` prefix is taken off.

    Raises:
        UserError: Names without a place here, names of ours without a value, tensors of another shape.
    """
    official = {name.removeprefix("module."): tensor for name, tensor in official.items()}
    segmentor = any(name.startswith("backbone.") for name in official)
    tensors, unknown = {}, []
    for name, tensor in official.items():
        ours = _segmentor_name(name) if segmentor else _backbone_name(name)
        if ours is None:
            unknown.append(name)
        else:
            tensors[ours] = tensor
    with torch.device("meta"):
        model = _build(tensors)
    expected = (model.model if isinstance(model, Classifier) else model).state_dict()
    for name in expected:
        if name.endswith(".num_batches_tracked") and name not in tensors:
            tensors[name] = torch.zeros((), dtype=torch.long)
    shapes = [
        f"{name} {list(tensors[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    problems = {
        "names without a place in FANet": unknown,
        "names of FANet without a value": [name for name in expected if name not in tensors],
        "names without a place in this variant": [name for name in tensors if name not in expected],
        "tensors of another shape": shapes,
    }
    if any(problems.values()):
        lists = [f"{len(names)} {what}: {', '.join(names)}" for what, names in problems.items() if names]
        raise UserError("not the authors' FANet; " + "; ".join(lists))
    return tensors


def _backbone_name(name: str) -> str | None:
    """The name in `fanet.modeling.fanet.FANet`, or None."""
    if found := re.fullmatch(r"(norm|head)\.(weight|bias)", name):
        return f"head.{'norm' if found[1] == 'norm' else 'fc'}.{found[2]}"
    if found := re.fullmatch(r"downsample_layers\.([0-3])\.(weight|bias)", name):
        stage = int(found[1])
        return f"stage{stage + 1}.downsample.{found[2]}" if stage else f"stem.conv.{found[2]}"
    if found := re.fullmatch(r"stages\.([0-3])\.(\d+)\.(.+)\.(weight|bias)", name):
        part = BLOCK_PARTS.get(found[3])
        return part and f"stage{int(found[1]) + 1}.blocks.{found[2]}.{part}.{found[4]}"
    return None


def _segmentor_name(name: str) -> str | None:
    """The name in `fanet.modeling.segmenter.Segmenter`, or None."""
    if name.startswith("backbone."):
        part = _backbone_name(name.removeprefix("backbone."))
        return part and f"backbone.{part}"
    place, _, kind = name.rpartition(".")
    for pattern, ours in HEAD_PARTS.items():
        if found := re.fullmatch(pattern, place):
            return f"{found.expand(ours)}.{kind}"
    return None


def _build(tensors: Mapping[str, Tensor]) -> Segmenter | Classifier:
    """The network that the tensors (under our names) are of; its sizes are read from their shapes."""
    segmentor = any(name.startswith("backbone.") for name in tensors)
    stem = tensors.get("backbone.stem.conv.weight" if segmentor else "stem.conv.weight")
    classifier = tensors.get("decode_head.classifier.weight" if segmentor else "head.fc.weight")
    num_classes = 0 if classifier is None else len(classifier)
    config = ModelConfig(in_chans=3 if stem is None else stem.shape[1])
    if not segmentor:
        names = tuple(f"class_{i}" for i in range(num_classes))
        return Classifier.from_config(replace(config, task="classify", class_names=names))
    config = replace(config, auxiliary=any(name.startswith("auxiliary_head.") for name in tensors))
    if num_classes == len(ZEROWASTE_CLASSES):
        config = replace(config, class_names=ZEROWASTE_CLASSES, palette=ZEROWASTE_PALETTE)
    else:
        config = replace(config, class_names=tuple(f"class_{i}" for i in range(max(num_classes, 1))))
    return Segmenter.from_config(config)
