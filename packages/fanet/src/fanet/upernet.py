"""UperNet models of transformers and mmsegmentation with a ConvNeXt or a Swin backbone, under our names.

They put a layer norm on each map of the backbone (`ModelConfig.level_norm`). Swin's patch merging gathers the four
pixels of a patch in another order in mmsegmentation than in timm and transformers; the weights are sorted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fanet.config import ModelConfig
from fanet.data.published import ADE20K_CLASSES, ADE20K_PALETTE
from fanet.names import head_name
from papers_shared.errors import UserError

LEAF = r"\.(weight|bias)"
CELL = r"(?:encoder\.)?stages\.(\d)\.(?:layers\.)?(\d+)\."
CONVNEXT = {
    rf"(?:embeddings\.patch_embeddings|downsample_layers\.0\.0){LEAF}": r"stem_0.\1",
    rf"(?:embeddings\.layernorm|downsample_layers\.0\.1){LEAF}": r"stem_1.\1",
    rf"encoder\.stages\.(\d)\.downsampling_layer\.([01]){LEAF}": r"stages_\1.downsample.\2.\3",
    rf"downsample_layers\.([1-3])\.([01]){LEAF}": r"stages_\1.downsample.\2.\3",
    rf"{CELL}(?:layer_scale_parameter|gamma)": r"stages_\1.blocks.\2.gamma",
    rf"{CELL}(?:dwconv|depthwise_conv){LEAF}": r"stages_\1.blocks.\2.conv_dw.\3",
    rf"{CELL}(?:layernorm|norm){LEAF}": r"stages_\1.blocks.\2.norm.\3",
    rf"{CELL}(?:pwconv|pointwise_conv)([12]){LEAF}": (r"stages_\1.blocks.\2.mlp.fc\3.\4"),
}
BLOCK = r"(?:(?:swin\.)?encoder\.layers|stages)\.(\d)\.blocks\.(\d+)\."
SWIN = {
    rf"(?:swin\.)?(?:embeddings\.patch_embeddings|patch_embed)\.projection{LEAF}": r"patch_embed.proj.\1",
    rf"(?:swin\.)?(?:embeddings|patch_embed)\.norm{LEAF}": r"patch_embed.norm.\1",
    rf"{BLOCK}(?:layernorm_before|norm1){LEAF}": r"layers_\1.blocks.\2.norm1.\3",
    rf"{BLOCK}(?:layernorm_after|norm2){LEAF}": r"layers_\1.blocks.\2.norm2.\3",
    rf"{BLOCK}(?:attention|attn)\.(?:self|relative_position_bias|w_msa)\.relative_position_bias_table": (
        r"layers_\1.blocks.\2.attn.relative_position_bias_table"
    ),
    rf"{BLOCK}attention\.(?:self\.)?(q)(?:uery|_proj){LEAF}": r"layers_\1.blocks.\2.attn.\3.\4",
    rf"{BLOCK}attention\.(?:self\.)?(k)(?:ey|_proj){LEAF}": r"layers_\1.blocks.\2.attn.\3.\4",
    rf"{BLOCK}attention\.(?:self\.)?(v)(?:alue|_proj){LEAF}": r"layers_\1.blocks.\2.attn.\3.\4",
    rf"{BLOCK}attn\.w_msa\.qkv{LEAF}": r"layers_\1.blocks.\2.attn.qkv.\3",
    rf"{BLOCK}(?:attention\.output\.dense|attention\.o_proj|attn\.w_msa\.proj){LEAF}": (
        r"layers_\1.blocks.\2.attn.proj.\3"
    ),
    rf"{BLOCK}(?:mlp\.fc1|intermediate\.dense|ffn\.layers\.0\.0){LEAF}": r"layers_\1.blocks.\2.mlp.fc1.\3",
    rf"{BLOCK}(?:mlp\.fc2|output\.dense|ffn\.layers\.1){LEAF}": r"layers_\1.blocks.\2.mlp.fc2.\3",
}
MERGING = rf"(?:(?:swin\.)?encoder\.layers|(stages))\.(\d)\.downsample\.(reduction|norm){LEAF}"
LEVEL_NORM = rf"(?:hidden_states_norms\.stage([1-4])|norm([0-3])){LEAF}"
LEFT_OUT = re.compile(r"backbone\.(swin\.layernorm\.|.*\.relative_position_index$)")
"""Entries that no output depends on."""
BACKBONES: dict[str, dict[str, Any]] = {
    "convnext_tiny": {"depths": (3, 3, 9, 3), "dims": (96, 192, 384, 768)},
    "convnext_small": {"depths": (3, 3, 27, 3), "dims": (96, 192, 384, 768)},
    "convnext_base": {"depths": (3, 3, 27, 3), "dims": (128, 256, 512, 1024)},
    "convnext_large": {"depths": (3, 3, 27, 3), "dims": (192, 384, 768, 1536)},
    "convnext_xlarge": {"depths": (3, 3, 27, 3), "dims": (256, 512, 1024, 2048)},
    "swin_tiny_patch4_window7_224": {
        "depths": (2, 2, 6, 2), "embed_dim": 96, "num_heads": (3, 6, 12, 24), "window_size": 7,
    },
    "swin_small_patch4_window7_224": {
        "depths": (2, 2, 18, 2), "embed_dim": 96, "num_heads": (3, 6, 12, 24), "window_size": 7,
    },
    "swin_base_patch4_window7_224": {
        "depths": (2, 2, 18, 2), "embed_dim": 128, "num_heads": (4, 8, 16, 32), "window_size": 7,
    },
    "swin_base_patch4_window12_384": {
        "depths": (2, 2, 18, 2), "embed_dim": 128, "num_heads": (4, 8, 16, 32), "window_size": 12,
    },
    "swin_large_patch4_window7_224": {
        "depths": (2, 2, 18, 2), "embed_dim": 192, "num_heads": (6, 12, 24, 48), "window_size": 7,
    },
    "swin_large_patch4_window12_384": {
        "depths": (2, 2, 18, 2), "embed_dim": 192, "num_heads": (6, 12, 24, 48), "window_size": 12,
    },
}  # fmt: skip
"""timm's names of the sizes that have trained weights; other sizes become `ModelConfig.backbone_options`."""


def is_upernet(entries: Mapping[str, Any]) -> bool:
    """Are these the entries of such a model?"""
    return any(re.fullmatch(rf"backbone\.{LEVEL_NORM}", name) for name in entries)


def rename_upernet(entries: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The entries under the names of `fanet.Segmenter`, and the names that have none."""
    renamed: dict[str, Tensor] = {}
    unknown = []
    swin = any(name.endswith("relative_position_bias_table") for name in entries)
    for name, value in entries.items():
        if LEFT_OUT.match(name):
            continue
        own = None
        if not name.startswith("backbone."):
            own = head_name(
                name.replace(".batch_norm.", ".bn.").replace("_head.classifier.", "_head.conv_seg.")
            )
        elif found := re.fullmatch(LEVEL_NORM, name.removeprefix("backbone.")):
            own = f"levels.norms.{int(found[1]) - 1 if found[1] else found[2]}.{found[3]}"
        elif swin and (found := re.fullmatch(MERGING, name.removeprefix("backbone."))):
            own = f"backbone.layers_{int(found[2]) + 1}.downsample.{found[3]}.{found[4]}"
            value = _patch_by_patch(value) if found[1] else value
        else:
            part = _part(name.removeprefix("backbone."), SWIN if swin else CONVNEXT)
            own = part and f"backbone.{part}"
            if own and re.search(r"\.mlp\.fc\d\.weight$", own):
                value = value.flatten(1)  # a 1x1 convolution or a linear layer
        if own is None:
            unknown.append(name)
        else:
            renamed[own] = value
    return _joined(renamed), unknown


def upernet_config(tensors: Mapping[str, Tensor]) -> ModelConfig:
    """The configuration of the network that these entries, under our names, belong to; sizes are read from shapes.

    Raises:
        UserError: An entry is missing that tells a size.
    """
    sizes = _sizes(tensors)
    backbone = next((name for name, known in BACKBONES.items() if known == sizes), "")
    options: tuple[str, ...] = ()
    if not backbone:
        backbone = "convnext_tiny" if "dims" in sizes else "swin_tiny_patch4_window7_224"
        values = {name: value if isinstance(value, tuple) else (value,) for name, value in sizes.items()}
        options = tuple(f"{name}={','.join(map(str, value))}" for name, value in values.items())
    pools = len({name.split(".")[2] for name in tensors if name.startswith("decode_head.pools.")})
    if pools != len(ModelConfig.pool_scales):
        raise UserError(
            f"its head pools to {pools} sizes, and UperNet's pyramid has {len(ModelConfig.pool_scales)}"
        )
    classes, channels = _entry(tensors, "decode_head.classifier.weight").shape[:2]
    names = ADE20K_CLASSES if classes == len(ADE20K_CLASSES) else tuple(f"class_{i}" for i in range(classes))
    auxiliary = tensors.get("auxiliary_head.classifier.weight")
    return ModelConfig(
        backbone=backbone,
        backbone_options=options,
        level_norm=1e-6 if "dims" in sizes else 1e-5,
        class_names=names,
        palette=ADE20K_PALETTE if names == ADE20K_CLASSES else (),
        decoder_channels=channels,
        auxiliary=auxiliary is not None,
        auxiliary_channels=256 if auxiliary is None else auxiliary.shape[1],
    )


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of the timm model."""
    swin = "backbone.patch_embed.proj.weight" in tensors
    stage = "layers" if swin else "stages"
    blocks = [re.match(rf"backbone\.{stage}_(\d)\.blocks\.(\d+)\.", name) for name in tensors]
    depths = tuple(len({found[2] for found in blocks if found and found[1] == str(i)}) for i in range(4))
    if not swin:
        dims = tuple(len(_entry(tensors, f"levels.norms.{i}.weight")) for i in range(4))
        return {"depths": depths, "dims": dims}
    tables = [
        _entry(tensors, f"backbone.layers_{i}.blocks.0.attn.relative_position_bias_table") for i in range(4)
    ]
    return {
        "depths": depths,
        "embed_dim": len(_entry(tensors, "levels.norms.0.weight")),
        "num_heads": tuple(table.shape[1] for table in tables),
        "window_size": (round(len(tables[0]) ** 0.5) + 1) // 2,
    }


def _entry(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise UserError(f"it has no entry for {name}")
    return tensors[name]


def _part(name: str, names: Mapping[str, str]) -> str | None:
    for pattern, own in names.items():
        if found := re.fullmatch(pattern, name):
            return found.expand(own)
    return None


def _joined(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values as the one layer that timm has."""
    joined = {}
    for name, value in tensors.items():
        parts = [name.replace(".attn.q.", f".attn.{part}.") for part in "qkv"]
        if ".attn.q." in name and all(part in tensors for part in parts):
            joined[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat([tensors[part] for part in parts])
        elif not re.search(r"\.attn\.[kv]\.", name):
            joined[name] = value
    return joined


def _patch_by_patch(value: Tensor) -> Tensor:
    """Inputs of a patch merging, channel by channel with the pixels row by row -> pixel by pixel down the columns."""
    pixels = value.unflatten(-1, (-1, 4))[..., [0, 2, 1, 3]]
    return pixels.transpose(-1, -2).flatten(-2)
