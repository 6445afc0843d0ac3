"""The entry names of the official checkpoints, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

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
OWN_STEM = "stem.conv.weight"
"""An entry that every FANet of ours has, and no official file."""


def rename_official(official: Mapping[str, T]) -> tuple[dict[str, T], list[str]]:
    """Official entries under our names, and the names that have none.

    Entries that begin with `backbone.` make it a segmentor, named as in `fanet.Segmenter`; anything else is named as
    in `timm.create_model("fanet_tiny")`. A `module.` prefix is taken off.
    """
    official = {name.removeprefix("module."): value for name, value in official.items()}
    segmentor = any(name.startswith("backbone.") for name in official)
    renamed: dict[str, T] = {}
    unknown = []
    for name, value in official.items():
        own = _segmenter_name(name) if segmentor else _backbone_name(name)
        if own is None:
            unknown.append(name)
        else:
            renamed[own] = value
    return renamed, unknown


def timm_names(entries: Mapping[str, T]) -> dict[str, T]:
    """Entries of an official file, of a folder of ours or of the timm model itself, under the timm model's names.

    Of a segmenter only the backbone is kept. Names that are known to none of the three stay as they are.
    """
    entries = dict(entries)
    for prefix in ("model.", "backbone."):
        if f"{prefix}{OWN_STEM}" in entries:
            return {
                name.removeprefix(prefix): value for name, value in entries.items() if name.startswith(prefix)
            }
    if OWN_STEM in entries:
        return entries
    renamed, unknown = rename_official(entries)
    renamed = {name.removeprefix("backbone."): value for name, value in renamed.items()}
    heads = ("decode_head.", "auxiliary_head.")
    renamed = {name: value for name, value in renamed.items() if not name.startswith(heads)}
    return renamed | {name: entries[name] for name in unknown if name in entries}


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


def _segmenter_name(name: str) -> str | None:
    """The name in `fanet.modeling.segmenter.Segmenter`, or None."""
    if name.startswith("backbone."):
        part = _backbone_name(name.removeprefix("backbone."))
        return part and f"backbone.{part}"
    return head_name(name)


def head_name(name: str) -> str | None:
    """The name of a head's entry in `fanet.modeling.segmenter.Segmenter`, or None."""
    module, _, kind = name.rpartition(".")
    for pattern, own in HEAD_PARTS.items():
        if found := re.fullmatch(pattern, module):
            return f"{found.expand(own)}.{kind}"
    return None
