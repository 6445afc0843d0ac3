from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from named_noise import tensor
from safetensors.torch import load_file
from tiny_plvl import EEVG, TINY, inputs, tiny
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from papers_shared.errors import UserError
from papers_shared.provenance import Origin
from plvl.config import TABLE_4_LANGUAGE_BLOCKS, TABLE_6_HEAD_GROUPS, TABLE_7_MODELS, LossConfig, ModelConfig
from plvl.losses import grounding_loss
from plvl.modeling.attention import Attention, SelfAttention, relative_positions
from plvl.modeling.head import decode_boxes
from plvl.modeling.plvl import PLVL
from plvl.names import canonical_names, unused_names

GOLDEN = Path(__file__).parent / "golden"
FACTS = json.loads((GOLDEN / "network.json").read_text())
NAMES = json.loads((GOLDEN / "names.json").read_text())
COUNTS = FACTS["counts"]

# Counts of the full network.


@pytest.fixture(scope="module")
def full() -> PLVL:
    with torch.device("meta"):
        return PLVL.from_config(ModelConfig()).eval()


def test_parameters(full: PLVL) -> None:
    ours = sum(parameter.numel() for parameter in full.parameters())
    assert ours == COUNTS["parameters"]["used_in_the_forward_pass"] == 217_018_655
    canonical = canonical_names(NAMES["plvl"])
    dropped = set(unused_names(canonical.values()))
    unused = sum(
        torch.empty(NAMES["plvl"][name], device="meta").numel()
        for name in canonical
        if canonical[name] in dropped
    )
    assert ours + unused == COUNTS["parameters"]["total"] == 218_015_545


@pytest.mark.parametrize("row", TABLE_4_LANGUAGE_BLOCKS)
def test_parameters_of_table_4(row: str) -> None:
    blocks = TABLE_4_LANGUAGE_BLOCKS[row]
    with torch.device("meta"):
        model = PLVL.from_config(ModelConfig(language_blocks=blocks))
    total = COUNTS["parameters"]["by_cross_attention_blocks"][" ".join(map(str, blocks)) or "none"]
    unused_norms = 2 * 768 * (4 - len(blocks))  # the authors keep a norm for every block
    assert sum(parameter.numel() for parameter in model.parameters()) == total - 996_890 - unused_norms


def test_parameters_of_eevg() -> None:
    with torch.device("meta"):
        model = PLVL.from_config(TABLE_7_MODELS["EEVG"])
    pooler = COUNTS["parameters"]["by_part"]["pooler (unused)"]
    total = COUNTS["parameters"]["eevg"]["total"]
    assert sum(parameter.numel() for parameter in model.parameters()) == total - pooler


@pytest.mark.parametrize("row", TABLE_7_MODELS)
def test_rows_of_table_7_can_be_built(row: str) -> None:
    with torch.device("meta"):
        model = PLVL.from_config(TABLE_7_MODELS[row])
    guides = sum(block.guide is not None for block in model.backbone.blocks)
    assert guides == (4 if "PLVL" in row else 0)
    assert type(model.head).__name__ == ("CollaborativeHead" if "CMTH" in row else "EEVGHead")


def full_inputs() -> tuple[torch.Tensor, ...]:
    ones = torch.ones(1, 40, dtype=torch.long, device="meta")
    return torch.zeros(1, 3, 448, 448, device="meta"), ones, ones


def test_operations_by_the_official_count(full: PLVL) -> None:
    """Linear and convolution modules, 4 per element into a norm; no attention products, no projections inside
    multi-head attention, no norm of the language model. Their BERT also runs its pooler."""
    total = 768 * 768
    inside = {
        id(linear) for part in full.modules() if isinstance(part, Attention) for linear in part.children()
    }
    bert_norms = {id(module) for module in full.language.modules()}

    def count(module: Any, args: Any, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Linear) and id(module) not in inside:
            total += output.numel() * module.in_features
        elif isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d) and id(module) not in bert_norms:
            total += 4 * args[0].numel()

    hooks = [module.register_forward_hook(count) for module in full.modules()]
    full(*full_inputs())
    for hook in hooks:
        hook.remove()
    assert total / 1e9 == pytest.approx(COUNTS["thop_giga"], abs=1e-9)


def test_operations_with_attention(full: PLVL) -> None:
    counter = FlopCounterMode(display=False)
    with counter:
        full(*full_inputs())
    pooler = 768 * 768
    macs = counter.get_total_flops() / 2 + pooler
    assert macs / 1e9 == pytest.approx(COUNTS["torch_flop_counter_giga"] / 2, rel=1e-6)
    assert macs / 1e9 == pytest.approx(COUNTS["fvcore_giga"], rel=2e-3)  # fvcore adds norms


# Parts.


def test_decoded_boxes_are_the_official_ones() -> None:
    facts = FACTS["fakes"]["decode"]
    score = ((tensor("open.a.decode.score", (5, 1, 28, 28)) + 1) / 2).clamp(1e-4, 0.9)
    for i, (row, column) in enumerate(facts["peaks_row_column"]):
        score[i, 0, row, column] = 0.95
    score[4, 0, 20, 1] = 0.95
    size = (tensor("open.a.decode.size", (5, 2, 28, 28)) + 1) / 2
    boxes = decode_boxes(score, tensor("open.a.decode.offset", (5, 2, 28, 28)), size)
    expected = load_file(GOLDEN / "network.safetensors")["decode.boxes"]
    torch.testing.assert_close(boxes, expected, rtol=0, atol=1e-6)


def test_boxes_of_a_map_that_is_not_square() -> None:
    score = torch.zeros(1, 1, 2, 5)
    score[0, 0, 1, 3] = 1
    boxes = decode_boxes(score, torch.full((1, 2, 2, 5), 0.5), torch.full((1, 2, 2, 5), 0.2))
    assert boxes[0].tolist() == pytest.approx([3.5 / 5, 1.5 / 2, 0.2, 0.2])


@pytest.mark.parametrize("window", [0, 4, 3])
def test_self_attention_is_the_plain_formula(window: int) -> None:
    torch.manual_seed(0)
    attn = SelfAttention(8, 2, table_grid=window or 6, window_size=window)
    nn.init.normal_(attn.rel_pos_h)
    nn.init.normal_(attn.rel_pos_w)
    x = torch.randn(2, 8, 4, 8)
    side_h, side_w = (window, window) if window else (8, 4)
    padded = nn.functional.pad(x, (0, 0, 0, -4 % side_w, 0, -8 % side_h))
    expected = torch.zeros_like(padded)
    for top in range(0, padded.shape[1], side_h):
        for left in range(0, padded.shape[2], side_w):
            part = (slice(None), slice(top, top + side_h), slice(left, left + side_w))
            expected[part] = plain_attention(attn, padded[part])
    torch.testing.assert_close(attn(x), expected[:, :8, :4], rtol=1e-5, atol=1e-5)


def plain_attention(attn: SelfAttention, x: torch.Tensor) -> torch.Tensor:
    B, H, W, C = x.shape
    width = C // attn.num_heads
    rel_h, rel_w = relative_positions(attn.rel_pos_h, H), relative_positions(attn.rel_pos_w, W)
    qkv = attn.qkv(x).view(B, H, W, 3, attn.num_heads, width)
    out = torch.zeros(B, H, W, attn.num_heads, width)
    for y in range(H):
        for z in range(W):
            q, k, v = qkv[:, y, z, 0], qkv[..., 1, :, :], qkv[..., 2, :, :]
            logits = torch.einsum("bnd,bhwnd->bnhw", q, k) * width**-0.5
            logits += torch.einsum("bnd,hd->bnh", q, rel_h[y])[..., None]
            logits += torch.einsum("bnd,wd->bnw", q, rel_w[z])[:, :, None]
            weights = logits.flatten(2).softmax(-1).view_as(logits)
            out[:, y, z] = torch.einsum("bnhw,bhwnd->bnd", weights, v)
    return attn.proj(out.flatten(3))


def test_cross_attention_equals_torch() -> None:
    torch.manual_seed(0)
    ours, expected = (
        Attention(16, 4, context_dim=8).eval(),
        nn.MultiheadAttention(16, 4, kdim=8, vdim=8, batch_first=True).eval(),
    )
    for part in (ours.q, ours.k, ours.v, ours.proj):
        nn.init.normal_(part.bias)
    state = {f"{part}_proj_weight": getattr(ours, part).weight for part in "qkv"}
    state["in_proj_bias"] = torch.cat([getattr(ours, part).bias for part in "qkv"])
    state |= {"out_proj.weight": ours.proj.weight, "out_proj.bias": ours.proj.bias}
    expected.load_state_dict(state)
    query, context = torch.randn(2, 20, 16), torch.randn(2, 3, 8)
    seen = torch.tensor([[True, True, True], [True, False, True]])
    answer, _ = expected(query, context, context, key_padding_mask=~seen)
    torch.testing.assert_close(ours(query, context, context, seen), answer)


# The whole network, small.


def test_shapes() -> None:
    output = tiny()(*inputs())
    assert output.boxes is not None
    assert output.boxes.shape == (2, 4)
    shapes = [None if x is None else tuple(x.shape) for x in output[1:]]
    assert shapes == [(2, 1, 8, 8), (2, 2, 8, 8), (2, 2, 8, 8), (2, 1, 32, 32)]


def test_another_image_size_and_window_that_does_not_divide() -> None:
    output = tiny()(*inputs(size=(24, 40)))
    assert output.score_logits is not None
    assert output.mask_logits is not None
    assert output.score_logits.shape[-2:] == (6, 10)
    assert output.mask_logits.shape[-2:] == (24, 40)


def test_a_size_that_is_no_multiple_of_the_patch() -> None:
    with pytest.raises(UserError, match="30 x 32 pixels do not divide into patches of 4 x 4"):
        tiny()(*inputs(size=(30, 32)))


def test_sentences_share_a_image() -> None:
    model = tiny()
    images, ids, attention_mask, pixel_mask = inputs(3)
    index = torch.tensor([0, 0, 1])
    text = model.encode_text(ids, attention_mask)
    shared = model.ground(model.encode_image(images, pixel_mask).repeat_for(index), text, attention_mask)
    apart = model(images[index], ids, attention_mask, pixel_mask[index])
    for a, b in zip(shared, apart, strict=True):
        torch.testing.assert_close(a, b)


def test_nothing_of_the_sentence_is_needed_before_the_first_language_block() -> None:
    model = tiny()
    calls = []
    for i, block in enumerate(model.backbone.blocks):
        block.attn.register_forward_hook(lambda m, x, y, i=i: calls.append(i))  # type: ignore[union-attr]
    model.encode_image(inputs()[0])
    assert calls == [0, 1]


@pytest.mark.parametrize("hidden", [False, True])
def test_padded_language(hidden: bool) -> None:
    """Padding reaches the backbone unless it is hidden there too."""
    model = tiny(hide_text_padding=hidden)
    images, ids, attention_mask, pixel_mask = inputs()
    other = ids.clone()
    other[attention_mask == 0] = 3
    a, b = model(images, ids, attention_mask, pixel_mask), model(images, other, attention_mask, pixel_mask)
    torch.testing.assert_close(a.mask_logits[0], b.mask_logits[0])
    assert torch.allclose(a.mask_logits[1], b.mask_logits[1], atol=1e-7) == hidden


def test_padding_of_the_image_is_hidden_in_the_decoder() -> None:
    model = tiny()
    images, ids, attention_mask, pixel_mask = inputs()
    text = model.encode_text(ids, attention_mask)
    image = model.encode_image(images, pixel_mask)
    other = image.tokens.clone()
    assert image.mask is not None
    other[~image.mask] += 1
    a = model.decoder(image.tokens, text, image.mask, attention_mask.bool()).tokens
    b = model.decoder(other, text, image.mask, attention_mask.bool()).tokens
    torch.testing.assert_close(a[image.mask], b[image.mask])
    assert not torch.allclose(a[~image.mask], b[~image.mask])


CONFIGS = {
    "default": TINY,
    "rec only": replace(TINY, res=False),
    "res only": replace(TINY, rec=False),
    "rec only, one group each": replace(
        TINY, res=False, head_groups=(("mask",), ("center", "offset", "size"))
    ),
    **{f"table 6 {row}": replace(TINY, head_groups=groups) for row, groups in TABLE_6_HEAD_GROUPS.items()},
    "no language in the backbone": replace(TINY, language_blocks=()),
    "language in a local block": replace(TINY, language_blocks=(0, 1)),
    "eevg": EEVG,
    "eevg rec only": replace(EEVG, res=False),
    "eevg res only": replace(EEVG, rec=False),
    "eevg with cmth": replace(EEVG, head="collaborative"),
    "eevg with plvl": replace(EEVG, language_blocks=(1, 3)),
    "eevg with plvl and cmth": replace(EEVG, language_blocks=(1, 3), head="collaborative"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_learns(name: str) -> None:
    config = CONFIGS[name]
    model = tiny(config).train()
    output = model(*inputs())
    assert (output.boxes is not None) == config.rec
    assert (output.mask_logits is not None) == config.res
    boxes = torch.tensor([[0.5, 0.4, 0.3, 0.2], [0.2, 0.9, 0.3, 0.2]])
    masks = torch.zeros(2, 32, 32)
    masks[:, 4:20, 4:20] = 1
    grounding_loss(output, boxes, masks, LossConfig()).total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("config", [TINY, EEVG], ids=["plvl", "eevg"])
def test_checkpointing_changes_nothing(config: ModelConfig) -> None:
    gradients = []
    for on in (False, True):
        model = tiny(config, grad_checkpointing=on, text_dropout=0.0, decoder_dropout=0.0).train()
        torch.manual_seed(3)
        output = model(*inputs())
        assert output.mask_logits is not None
        (output.mask_logits.square().mean() + output.boxes.square().sum()).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_folder_round_trip(tmp_path: Path) -> None:
    model = tiny()
    model.save_pretrained(tmp_path / "model")
    opened = PLVL.from_pretrained(tmp_path / "model")
    assert opened.config == model.config
    for a, b in zip(opened(*inputs()), model(*inputs()), strict=True):
        assert torch.equal(a, b)


def test_start_weights(tmp_path: Path) -> None:
    whole, vision = tiny(), tiny(language_blocks=()).backbone
    for parameter in (*whole.parameters(), *vision.parameters()):
        nn.init.normal_(parameter, std=0.1)
    whole.save_pretrained(tmp_path / "whole")
    vision.origin, whole.origin = Origin(licence="mit"), Origin(licence="apache-2.0")
    vision.save_pretrained(tmp_path / "vision")
    whole.save_pretrained(tmp_path / "licensed")
    whole.language.save_pretrained(tmp_path / "text")
    started = tiny(vision_pretrained=str(tmp_path / "vision"), text_pretrained=str(tmp_path / "text"))
    assert started.config == TINY
    loaded = started.backbone.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in vision.state_dict().items())
    words = "embeddings.word_embeddings.weight"
    assert torch.equal(started.language.state_dict()[words], whole.language.state_dict()[words])
    assert started.origin.licence == "mit"
    both = tiny(pretrained=str(tmp_path / "licensed"), vision_pretrained=str(tmp_path / "vision"))
    assert both.origin.licence == "mit and apache-2.0"
    again = tiny(pretrained=str(tmp_path / "whole"))
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in whole.state_dict().items())


def test_a_network_for_boxes_starts_one_for_both(tmp_path: Path) -> None:
    boxes = tiny(res=False)
    nn.init.constant_(boxes.head.get_parameter("stems.0.conv.bias"), 7.0)
    boxes.save_pretrained(tmp_path / "boxes")
    both = tiny(pretrained=str(tmp_path / "boxes"))
    assert torch.equal(both.head.get_parameter("stems.0.conv.bias"), torch.full((8,), 7.0))
    with pytest.raises(UserError, match=r"--model\.pretrained.*does not fit the network.*adapter"):
        tiny(pretrained=str(tmp_path / "boxes"), adapter_dim=4)


def test_autocast_gives_boxes_in_float32() -> None:
    model = tiny()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(*inputs())
    full = model(*inputs())
    assert all(x is not None and x.dtype == torch.float32 for x in output)
    torch.testing.assert_close(output.mask_logits, full.mask_logits, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"language_blocks": (4,)}, "--model.language-blocks names block 4: choose 0 to 3"),
        ({"head_groups": (("mask", "center"), ("offset",))}, "mask, center, offset and size once each"),
        ({"decoder_dim": 22, "head_groups": (("mask",), ("center",), ("offset", "size"))}, "3 groups"),
        ({"rec": False, "res": False}, "nothing to predict"),
        ({"head": "eevg"}, "needs --model.decoder eevg"),
        ({"num_heads": 5}, "--model.embed-dim 32 does not divide into 5 --model.num-heads"),
        ({"max_tokens": 21}, "--model.max-tokens is 21: give 2 .* to 20"),
        ({"text_pretrained": "nowhere/at/all"}, "--model.text-pretrained"),
    ],
)
def test_mistakes_of_a_configuration(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(**changes)


# EEVG's elimination.


def test_elimination() -> None:
    model = tiny(EEVG, elimination=0.3)
    present: list[int] = []
    layers: Any = model.decoder.layers
    for layer in layers:
        layer.register_forward_pre_hook(lambda m, args: present.append(args[0].shape[1] - 1))
    output = model(*inputs())
    assert present[0] == 64
    assert present[1] < 64
    again = model(*inputs())
    torch.testing.assert_close(output.mask_logits, again.mask_logits, rtol=0, atol=0)


def test_eliminated_places_are_zero() -> None:
    model = tiny(EEVG, elimination=0.3)
    images, ids, attention_mask, _ = inputs()
    text = model.encode_text(ids, attention_mask)
    tokens = model.backbone(images, text)
    decoded = model.decoder(tokens, text, None, attention_mask.bool()).tokens
    none = tiny(EEVG, elimination=0.0).decoder(tokens, text, None, attention_mask.bool()).tokens
    zero = (decoded == 0).all(-1).flatten(1).sum(1)
    assert zero[0] == zero[1] > 0
    assert not (none == 0).all(-1).any()


def test_eevg_refuses_another_image_size() -> None:
    with pytest.raises(UserError, match="8 x 8 tokens"):
        tiny(EEVG)(*inputs(size=(24, 40)))
