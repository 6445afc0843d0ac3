"""Entry names of PLVL's and EEVG's checkpoints, of detectron2's ViTDet and of BERT, and ours for them."""

from __future__ import annotations

import re
from collections.abc import Iterable

VISION, TEXT = "visumodel.backbone.0.body.", "textmodel.bert."
BERT_ROOTS = ("embeddings.", "encoder.", "pooler.", "bert.", "cls.")
DETECTOR_PARTS = ("backbone.simfp_", "proposal_generator.", "roi_heads.")

VISION_NAMES = {
    r"patch_embed\.proj": r"patch_embed",
    r"(blocks\.\d+\.(?:norm[12]|attn|attn\.qkv|attn\.proj|mlp\.fc[12]))": r"\1",
    r"blocks\.(\d+)\.cross_attn": r"blocks.\1.guide.attn",
    r"blocks\.(\d+)\.cross_attn\.out_proj": r"blocks.\1.guide.attn.proj",
    r"prompt_norms\.(\d+)": r"blocks.\1.guide.norm",
    r"prompt_blocks\.(\d+)\.(down|up)_project": r"blocks.\1.guide.adapter.\2",
}
NAMES = {
    r"visu_proj": r"decoder.vision_proj",
    r"text_proj": r"decoder.text_proj",
    r"decoder\.decoder\.(layers\.\d+\.(?:self_attn|norm[123])|norm)": r"decoder.\1",
    r"decoder\.decoder\.(layers\.\d+)\.self_attn\.out_proj": r"decoder.\1.self_attn.proj",
    r"decoder\.decoder\.(layers\.\d+)\.multihead_attn": r"decoder.\1.cross_attn",
    r"decoder\.decoder\.(layers\.\d+)\.multihead_attn\.out_proj": r"decoder.\1.cross_attn.proj",
    r"decoder\.decoder\.(layers\.\d+)\.linear([12])": r"decoder.\1.fc\2",
    r"bbox_embed\.conv1_ctr": r"head.stems.0",
    r"bbox_embed\.conv1_offset": r"head.stems.1",
    r"bbox_embed\.conv2_ctr": r"head.branches.center.hidden",
    r"bbox_embed\.conv3_ctr": r"head.branches.center.out",
    r"bbox_embed\.conv2_seg": r"head.branches.mask.hidden",
    r"bbox_embed\.conv3_seg": r"head.branches.mask.out",
    r"bbox_embed\.conv2_(offset|size)": r"head.branches.\1.hidden",
    r"bbox_embed\.conv3_(offset|size)": r"head.branches.\1.out",
    # EEVG
    r"bbox_embed\.(layers\.\d+)": r"head.box.\1",
    r"mask_head\.(layers\.\d+)": r"head.mask.\1",
    r"mask_cnn": r"head.mask_out",
}
"""Modules, without the last part of the name; the 0 and 1 of a convolution and its norm are cut off before."""

WHOLE = {
    VISION + "pos_embed": "backbone.pos_embed",
    "reg_token.weight": "decoder.box_token",
    "visual_pos.weight": "decoder.positions",
    "text_pos.weight": "decoder.text_positions",
}
OLD_BERT = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def canonical_names(names: Iterable[str]) -> dict[str, str]:
    """Each name as it would be in PLVL's files: a detector's and BERT's get the prefix that they have there."""
    bare = {name: name.removeprefix("module.") for name in names}
    if any(name.startswith("backbone.net.") for name in bare.values()):
        return {name: re.sub(r"^backbone\.net\.", VISION, own) for name, own in bare.items()}
    if bare and all(name.startswith(BERT_ROOTS) for name in bare.values()):
        bare = {name: TEXT + own.removeprefix("bert.") for name, own in bare.items()}
    for old, new in OLD_BERT.items():
        bare = {name: re.sub(rf"{re.escape(old)}$", new, own) for name, own in bare.items()}
    return bare


def unused_names(names: Iterable[str]) -> list[str]:
    """Entries, by canonical name, that no forward pass needs.

    In PLVL's files an old mask head, the norms of backbone blocks without language and BERT's pooler; in a
    detector's everything behind the backbone; in BERT's the pooler and the pre-training heads.
    """
    names = list(names)
    guided = {found[1] for name in names if (found := re.search(r"blocks\.(\d+)\.cross_attn\.", name))}
    collaborative = any(name.startswith("bbox_embed.conv") for name in names)

    def unused(name: str) -> bool:
        if name.startswith((TEXT + "pooler.", TEXT + "cls.")) or name == TEXT + "embeddings.position_ids":
            return True
        if found := re.fullmatch(re.escape(VISION) + r"prompt_norms\.(\d+)\.(weight|bias)", name):
            return found[1] not in guided
        if name.startswith(("mask_head.", "mask_cnn.")):
            return collaborative
        return name.startswith(DETECTOR_PARTS)

    return [name for name in names if unused(name)]


def our_name(name: str) -> str | None:
    """The name in `plvl.PLVL` of a canonical one; None: there is none. Packed projections keep `in_proj_*`."""
    if name in WHOLE:
        return WHOLE[name]
    if name.startswith(TEXT):
        return "language." + name.removeprefix(TEXT)
    module, _, kind = name.rpartition(".")
    part = ""
    if found := re.fullmatch(r"(bbox_embed\.conv[12]_\w+)\.([01])", module):
        module, part = found[1], (".conv", ".bn")[int(found[2])]
    inside = module.removeprefix(VISION)
    root, names = ("backbone.", VISION_NAMES) if inside != module else ("", NAMES)
    for pattern, ours in names.items():
        if found := re.fullmatch(pattern, inside):
            return f"{root}{found.expand(ours)}{part}.{kind}"
    return None
