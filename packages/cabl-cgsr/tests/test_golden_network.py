"""Conformer-S and TransCAM against the numbers of the released programs; weights and inputs come from names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from named_noise import noise, tensor
from safetensors.torch import load_file
from torch import Tensor, nn

from cabl_cgsr.cam import couple, union
from cabl_cgsr.config import BACKBONES, CablConfig, ModelConfig
from cabl_cgsr.modeling.classifier import Classifier
from cabl_cgsr.modeling.localizer import Localizer

FOLDER = Path(__file__).with_name("golden")
GOLDEN = json.loads((FOLDER / "network.json").read_text())
TENSORS = load_file(FOLDER / "network.safetensors")
NETWORKS = [name for name in TENSORS if name.startswith(("conformer_s.", "transcam.", "two_class."))]
NONE = CablConfig(operator="none")
SMALL = BACKBONES["conformer_small"]


def official_names(model: nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix("backbone."): value for name, value in model.state_dict().items()}


def fill_(model: nn.Module) -> None:
    """Weights decided by name, kind and shape alone: fan-in; norms near 1; variances near 1.25; else small."""
    for name, value in official_names(model).items():
        if not value.is_floating_point():
            continue
        shape = tuple(value.shape)
        unit = noise(name, shape)
        if len(shape) >= 2:
            unit *= np.sqrt(3.0 / np.prod(shape[1:], dtype=np.int64))
        elif name.endswith(".weight"):
            unit = 1.0 + 0.1 * unit
        elif name.endswith(".running_var"):
            unit = 1.25 + 0.25 * unit
        else:
            unit = 0.1 * unit
        value.copy_(torch.from_numpy(unit))


def peak_(model: nn.Module) -> None:
    """Four times the query, key and value weights: attention that tells a matrix from its transpose."""
    for name, value in model.state_dict().items():
        if name.endswith("attn.qkv.weight"):
            value.mul_(4)


def run_classifier() -> dict[str, Tensor]:
    model, seen = Classifier(SMALL).eval(), {}
    fill_(model)
    stem = model.backbone.maxpool.register_forward_hook(lambda *call: seen.update(stem=call[-1]))
    handles = [stem]
    seen_tokens = model.backbone.trans_1.register_forward_hook(
        lambda *call: seen.update({"block01.tokens": call[-1][0]})
    )
    seen_map = model.backbone.conv_1.register_forward_hook(
        lambda *call: seen.update({"block01.conv": call[-1][0]})
    )
    handles += [seen_tokens, seen_map]
    for number in range(2, 13):

        def keep(_: nn.Module, __: object, out: tuple[Tensor, Tensor, None], number: int = number) -> None:
            seen.update({f"block{number:02d}.conv": out[0], f"block{number:02d}.tokens": out[1]})

        model.backbone.get_submodule(f"conv_trans_{number}").register_forward_hook(keep)
    output = model(tensor("cabl_cgsr.conformer.input", (2, 3, 224, 224)))
    seen.update(conv_logits=output.logits_conv, trans_logits=output.logits_trans)
    return {f"conformer_s.{name}": value for name, value in seen.items()}


def run_transcam(model: Localizer, weights: str, size: int, batch: int) -> dict[str, Tensor]:
    blocks: list[Tensor] = []
    names = ["trans_1", *(f"conv_trans_{number}.trans_block" for number in range(2, 13))]
    hooks = [
        model.backbone.get_submodule(name).register_forward_hook(lambda *call: blocks.append(call[-1][1]))
        for name in names
    ]
    maps = model.forward_maps(tensor(f"cabl_cgsr.transcam.input{size}", (batch, 3, size, size)))
    for hook in hooks:
        hook.remove()
    outputs = {
        "conv_logits": maps.logits_conv,
        "trans_logits": maps.logits_trans,
        "convcam": maps.conv_map,
        "transcam": couple(maps.conv_map, maps.attention),
        "attnagg": couple(maps.conv_map, maps.attention, "transposed"),
        "clsattn": couple(maps.conv_map, maps.attention, "class_row"),
        "attn_sum": maps.attention,
        "attn_cls_row": maps.attention[:, 0, 1:],
        "attn_blocks": torch.stack(blocks),
    }
    return {f"transcam.{weights}.{size}.{name}": value for name, value in outputs.items()}


def run_two_class(model: Localizer, height: int, width: int, batch: int) -> dict[str, Tensor]:
    name = f"{height}x{width}"
    images = tensor(f"cabl_cgsr.two_class.input{name}", (batch, 3, height, width))
    maps, fused = model.forward_maps(images), model(images)
    both = union(maps.conv_map, maps.trans_map)
    outputs = {
        "conv_logits": fused.logits_conv,
        "trans_logits": fused.logits_trans,
        "conv_cam": maps.conv_map,
        "trans_cam": maps.trans_map,
        "attn_cls_row": maps.attention[:, 0, 1:].reshape(batch, 1, height // 16, width // 16),
        "attn_patch": maps.attention[:, 1:, 1:],
        "conv_cam_refined": couple(maps.conv_map, maps.attention),
        "trans_cam_refined": couple(maps.trans_map, maps.attention),
        "union_max": both,
        "union_max_refined": couple(both, maps.attention),
    }
    return {f"two_class.{name}.{key}": value for key, value in outputs.items()}


@pytest.fixture(scope="module")
def outputs() -> dict[str, Tensor]:
    """Every tensor that the golden file holds, from three networks of full size run once each."""
    with torch.no_grad():
        found = run_classifier()
        transcam = Localizer.from_config(ModelConfig(num_logits=21, cabl=NONE)).eval()
        fill_(transcam)
        for weights in ("plain", "peaked"):
            if weights == "peaked":
                peak_(transcam)
            for size, batch in ((128, 2), (256, 1)):
                found |= run_transcam(transcam, weights, size, batch)
        two_class = Localizer.from_config(ModelConfig(num_logits=2, cabl=NONE)).eval()
        fill_(two_class)
        peak_(two_class)
        for height, width, batch in ((256, 256, 1), (128, 192, 2)):
            found |= run_two_class(two_class, height, width, batch)
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_output_matches_the_released_program(name: str, outputs: dict[str, Tensor]) -> None:
    ours, golden = outputs[name], TENSORS[name]
    steps = GOLDEN["tensors"][name].get("slice")
    if steps:
        ours = ours[tuple(as_index(part) for part in steps.strip("[]").split(","))]
    assert ours.shape == golden.shape
    difference = (ours - golden).abs().max() / golden.abs().max()
    assert difference <= 3e-4


def as_index(part: str) -> int | slice:
    step = re.fullmatch(r"\s*::?(\d*)\s*", part)
    return slice(None, None, int(step[1] or 1)) if step else int(part)


def test_entries_are_those_of_the_public_checkpoint() -> None:
    with torch.device("meta"):
        entries = official_names(Classifier(SMALL))
    assert {name: list(value.shape) for name, value in entries.items()} == GOLDEN["names"]


@pytest.mark.parametrize(("num_logits", "key"), [(1, "one_logit"), (2, "two_class"), (21, "transcam_21")])
def test_parameters(num_logits: int, key: str) -> None:
    with torch.device("meta"):
        model = Localizer.from_config(ModelConfig(num_logits=num_logits))
    assert sum(parameter.numel() for parameter in model.parameters()) == GOLDEN["params"][key]
