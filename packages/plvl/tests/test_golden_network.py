"""The full-size network on filled weights against the stored output of the authors' network.

One run serves all tests of this file. It needs about 5 GB of memory; the weights are decided by the entries' official
names, so that the import of the authors' names is tested with it.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from einops import rearrange
from named_noise import noise, tensor
from safetensors.torch import load_file

from plvl.config import LossConfig, ModelConfig
from plvl.convert import convert_state_dict
from plvl.losses import grounding_loss
from plvl.modeling.plvl import PLVL

GOLDEN = Path(__file__).parent / "golden"
FACTS = json.loads((GOLDEN / "network.json").read_text())
TENSORS = load_file(GOLDEN / "network.safetensors")

BLOCK, HEAD = 1e-4, 3e-6
STORED: dict[str, tuple[tuple[slice, ...], float]] = {
    "text": (np.s_[:, ::3, ::16], 2e-5),
    "embedded": (np.s_[:, ::4, ::4, ::48], BLOCK),
    "block00.self_attention": (np.s_[:, ::4, ::4, ::48], BLOCK),
    "block02.self_attention": (np.s_[:, ::4, ::4, ::48], BLOCK),
    **{f"block{i:02}": (np.s_[:, ::4, ::4, ::48], BLOCK) for i in range(12)},
    **{f"block{i:02}.prompt": (np.s_[:, ::5, ::48], BLOCK) for i in (2, 5, 8, 11)},
    **{f"block{i:02}.cross_attention": (np.s_[::56, :, ::48], BLOCK) for i in (2, 5, 8, 11)},
    "visual": (np.s_[::28, :, ::32], BLOCK),
    "text_projected": (np.s_[:, ::5, ::32], BLOCK),
    **{f"decoder{i}": (np.s_[::28, :, ::32], BLOCK) for i in ("0", "1", "2", "")},
    "head.first_ctr": (np.s_[:, ::16, ::4, ::4], BLOCK),
    "head.first_offset": (np.s_[:, ::16, ::4, ::4], BLOCK),
    "head.seg": (np.s_[:, ::16, ::4, ::4], BLOCK),
    "head.pixels": (np.s_[:, :, 192:224, 192:224], BLOCK),
    "score_map": (np.s_[:], HEAD),
    "offset_map": (np.s_[:], HEAD),
    "size_map": (np.s_[:], HEAD),
    "boxes": (np.s_[:], HEAD),
    "mask_logits": (np.s_[:, :, ::8, ::8], HEAD),
    "mask": (np.s_[:, :, ::8, ::8], HEAD),
    "mask_crop": (np.s_[:, :, 192:224, 192:224], HEAD),
    "ca_none.score_map": (np.s_[:, :, ::3, ::3], HEAD),
    "ca_none.boxes": (np.s_[:], HEAD),
    "ca_none.mask": (np.s_[:, :, ::32, ::32], HEAD),
    "ca_2_5.score_map": (np.s_[:, :, ::3, ::3], HEAD),
    "ca_2_5.boxes": (np.s_[:], HEAD),
    "ca_2_5.mask": (np.s_[:, :, ::32, ::32], HEAD),
}
"""Stored slice and bound of each tensor."""
GRADIENTS = {
    "grad.conv3_seg": ("head.branches.mask.out.weight", np.s_[:], 5e-6),
    "grad.visu_proj": ("decoder.vision_proj.weight", np.s_[::32, ::48], 3e-4),
    "grad.block02.query": ("backbone.blocks.2.guide.attn.q.weight", np.s_[::48, ::48], 2e-7),
}
"""Parameter, stored slice, and ten times the stored gap between float32 and float64."""


def fill_(state: dict[str, torch.Tensor]) -> None:
    """Overwrite every floating tensor by values that its name and shape decide."""
    for name, value in state.items():
        if not value.is_floating_point():
            continue
        unit = noise(name, tuple(value.shape))
        if value.ndim >= 2:
            unit *= np.sqrt(3.0 / value[0].numel())
        elif name.endswith(".weight"):
            unit = 1.0 + 0.1 * unit
        elif name.endswith(".running_var"):
            unit = 1.25 + 0.25 * unit
        else:
            unit *= 0.1
        value.copy_(torch.from_numpy(unit))


def official_weights() -> dict[str, torch.Tensor]:
    names = json.loads((GOLDEN / "names.json").read_text())
    integer = set(names["integer"])
    state = {
        name: torch.zeros(shape, dtype=torch.long if name in integer else torch.float32)
        for name, shape in names["plvl"].items()
    }
    fill_(state)
    return state


def filled_network() -> PLVL:
    """The network on the filled weights, without spending time and memory on fresh ones."""
    converted = convert_state_dict(official_weights())
    weights, config = converted.tensors, converted.config
    assert config == ModelConfig()
    with torch.device("meta"):
        model = PLVL.from_config(config)
    model.load_state_dict(weights, assign=True)
    embeddings: Any = model.language.embeddings
    embeddings.position_ids = torch.arange(config.text_positions)[None]
    embeddings.token_type_ids = torch.zeros_like(embeddings.position_ids)
    return model.eval()


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    facts = FACTS["inputs"]
    images, pixel_mask = tensor("open.a.image", (2, 3, 448, 448)), torch.zeros(2, 448, 448)
    ids = torch.from_numpy(1000 + np.floor((noise("open.a.tokens", (2, 40)) + 1) / 2 * 20000)).long()
    attention_mask = torch.zeros(2, 40, dtype=torch.long)
    for i, (height, width) in enumerate(facts["image_valid_height_width"]):
        pixel_mask[i, :height, :width] = 1
        length = facts["text_lengths"][i]
        ids[i, 0], ids[i, length - 1], ids[i, length:] = 101, 102, 0
        attention_mask[i, :length] = 1
    assert ids.tolist() == facts["check"]["token_ids"]
    return images * pixel_mask[:, None], ids, attention_mask, pixel_mask


def targets() -> tuple[torch.Tensor, torch.Tensor]:
    facts = FACTS["target"]
    pixel = (torch.arange(448) + 0.5) / 448
    masks = [
        ((pixel[None, :] - cx) / rx) ** 2 + ((pixel[:, None] - cy) / ry) ** 2 <= 1
        for cx, cy, rx, ry in facts["ellipses_cx_cy_rx_ry"]
    ]
    return torch.tensor(facts["boxes_cx_cy_w_h"]), torch.stack(masks).float()


def watch(model: PLVL) -> dict[str, torch.Tensor]:
    """Hooks that note the inner tensors of the first pass under their stored names, in the stored layout."""
    seen: dict[str, torch.Tensor] = {}

    def note(module: Any, name: str, view: Any = None, *, before: bool = False) -> None:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            value = inputs[0] if before else output
            if name not in seen:
                seen[name] = (value if view is None else view(value)).detach()

        module.register_forward_hook(hook)

    def tokens_first(x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1, 2) if x.ndim == 4 else x).transpose(0, 1)

    def windows(x: torch.Tensor) -> torch.Tensor:
        return rearrange(x, "b (nh wh) (nw ww) c -> (b nh nw) wh ww c", wh=14, ww=14)

    parts: Any = model
    note(parts.language, "text", lambda output: output.last_hidden_state)
    note(parts.backbone.blocks[0].norm1, "embedded", before=True)
    note(parts.backbone.blocks[0].attn, "block00.self_attention", windows)
    note(parts.backbone.blocks[2].attn, "block02.self_attention")
    for i, block in enumerate(parts.backbone.blocks):
        note(block.norm2, f"block{i:02}.residual", before=True)
        note(block.mlp, f"block{i:02}", lambda y, i=i: seen[f"block{i:02}.residual"] + y)
        if block.guide is not None:
            note(block.guide.adapter, f"block{i:02}.prompt")
            note(block.guide, f"block{i:02}.cross_attention", tokens_first)
    note(parts.decoder.vision_proj, "visual", tokens_first)
    note(parts.decoder.text_proj, "text_projected")
    for i, layer in enumerate(parts.decoder.layers):
        note(layer, f"decoder{i}", tokens_first)
    note(parts.decoder.norm, "decoder", tokens_first)
    note(parts.head.stems[0], "head.first_ctr")
    note(parts.head.stems[1], "head.first_offset")
    note(parts.head.branches["mask"].hidden, "head.seg")
    note(parts.head.branches["mask"].out, "head.pixels", before=True)
    return seen


@pytest.fixture(scope="module")
def run() -> SimpleNamespace:
    model = filled_network()
    images, ids, attention_mask, pixel_mask = inputs()
    tensors = watch(model)
    output = model(images, ids, attention_mask, pixel_mask)
    boxes, masks = targets()
    unweighted = grounding_loss(output, boxes, masks, LossConfig(form="official", det_weight=1.0))
    weighted = grounding_loss(output, boxes, masks, LossConfig(form="official"))
    weighted.total.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = None
    tensors |= {
        "score_map": output.score_logits.sigmoid(),
        "offset_map": output.offset,
        "size_map": output.size,
        "boxes": output.boxes[:, None],
        "mask_logits": output.mask_logits,
        "mask": output.mask_logits.sigmoid(),
        "mask_crop": output.mask_logits.sigmoid(),
    }
    blocks: Any = model.backbone.blocks
    with torch.no_grad():
        for name, keep in (("ca_2_5", (2, 5)), ("ca_none", ())):
            for i, block in enumerate(blocks):
                block.guide = block.guide if i in keep else None
            image = model.encode_image(images, pixel_mask)
            variant = model.ground(image, tensors["text"], attention_mask)
            tensors[f"{name}.score_map"] = variant.score_logits.sigmoid()
            tensors[f"{name}.boxes"] = variant.boxes[:, None]
            tensors[f"{name}.mask"] = variant.mask_logits.sigmoid()
    return SimpleNamespace(
        tensors=tensors, output=output, weighted=weighted, unweighted=unweighted, gradients=gradients
    )


@pytest.mark.parametrize("name", STORED)
def test_tensor(run: SimpleNamespace, name: str) -> None:
    index, bound = STORED[name]
    torch.testing.assert_close(run.tensors[name][index], TENSORS[name], rtol=0, atol=bound)


def test_every_stored_tensor_is_compared() -> None:
    elsewhere = {
        "heatmaps",
        "fake_boxes",
        "fake_gt_boxes",
        "decode.boxes",
    }  # test_losses.py, test_modeling.py
    assert set(TENSORS) == set(STORED) | set(GRADIENTS) | elsewhere


def test_peak_and_mask_share(run: SimpleNamespace) -> None:
    facts = FACTS["network"]
    probability = run.tensors["mask"].flatten(1)
    assert run.output.score_logits.flatten(1).argmax(1).tolist() == facts["peak_cell_row_major"]
    assert probability.mean(1).tolist() == pytest.approx(facts["mask_probability_mean"], abs=1e-6)
    share = (run.output.mask_logits.flatten(1) >= 0).float().mean(1).tolist()
    assert share == pytest.approx(facts["fraction_of_pixels_at_least_half"], abs=2e-5)


@pytest.mark.parametrize("form", ["weighted", "unweighted"])
def test_loss_of_the_network(run: SimpleNamespace, form: str) -> None:
    terms = getattr(run, form)
    expected = FACTS["network"]["loss"]["unweighted"]
    found = (terms.giou, terms.l1, terms.center_focal, terms.mask_focal, terms.dice)
    names = ("giou_loss", "l1_loss", "focal_loss_box", "focal_loss_seg", "dice_loss")
    assert [term.item() for term in found] == pytest.approx([expected[name] for name in names], rel=1e-5)
    key = "weighted_by_0_1" if form == "weighted" else "unweighted"
    assert terms.total.item() == pytest.approx(FACTS["network"]["loss"][key]["total"], rel=1e-5)


@pytest.mark.parametrize("entry", FACTS["gradient_norms"], ids=lambda entry: entry["official"])
def test_gradient_norm(run: SimpleNamespace, entry: dict[str, Any]) -> None:
    norm = torch.cat([run.gradients[name].flatten() for name in entry["ours"]]).double().norm()
    assert float(norm) == pytest.approx(entry["norm"], rel=1e-3)


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient(run: SimpleNamespace, name: str) -> None:
    parameter, index, bound = GRADIENTS[name]
    torch.testing.assert_close(run.gradients[parameter][index], TENSORS[name], rtol=0, atol=bound)


def test_every_parameter_is_used(run: SimpleNamespace) -> None:
    assert [name for name, gradient in run.gradients.items() if gradient is None] == []
