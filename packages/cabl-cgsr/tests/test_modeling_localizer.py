"""The network at small sizes: shapes, both attention paths, switches, folders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cabl_cgsr.cam import activation_map
from cabl_cgsr.config import BACKBONES, CablConfig, CamConfig, ModelConfig
from cabl_cgsr.modeling.blocks import MapToTokens
from cabl_cgsr.modeling.cabl import Cabl
from cabl_cgsr.modeling.classifier import Classifier
from cabl_cgsr.modeling.localizer import Localizer
from papers_shared.errors import UserError
from papers_shared.provenance import Origin

CONFIG = ModelConfig(backbone="test_conformer")


@pytest.fixture
def localizer() -> Localizer:
    torch.manual_seed(0)
    return Localizer.from_config(CONFIG).eval()


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80), (16, 16), (50, 33), (1, 200)])
def test_any_size_gives_a_map_over_the_whole_image(localizer: Localizer, height: int, width: int) -> None:
    output = localizer(torch.randn(2, 3, height, width), cam=True)
    assert output.logits_conv.shape == output.logits_trans.shape == (2, 1)
    assert output.cam.shape == (2, -(-height // 16), -(-width // 16))
    assert output.cam.isfinite().all()


@torch.no_grad()
def test_an_odd_size_is_the_resized_image(localizer: Localizer) -> None:
    images = torch.randn(1, 3, 40, 64)
    resized = torch.nn.functional.interpolate(images, size=(48, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(localizer(images).logits_conv, localizer(resized).logits_conv)


def test_fused_and_explicit_attention_agree_forward_and_backward(localizer: Localizer) -> None:
    for name, value in localizer.named_parameters():
        if name.endswith("attn.qkv.weight"):
            value.data.mul_(20)
    localizer.double()  # gradients of an untrained network in evaluation mode are large
    images, results = torch.randn(2, 3, 48, 64, dtype=torch.float64), []
    for cam in (False, True):
        localizer.zero_grad()
        output = localizer(images, cam=cam)
        (output.logits_conv.sum() + output.logits_trans.square().sum()).backward()
        gradients = {n: p.grad.clone() for n, p in localizer.named_parameters() if p.grad is not None}
        results.append((output.logits_conv, output.logits_trans, gradients))
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-6)


def test_attention_weights_are_made_only_for_maps(localizer: Localizer) -> None:
    made: list[bool] = []
    for module in localizer.modules():
        if type(module).__name__ == "Attention":
            module.register_forward_hook(lambda *call: made.append(call[-1][1] is not None))
    localizer(torch.randn(1, 3, 32, 32))
    assert made == [False] * 12
    localizer(torch.randn(1, 3, 32, 32), cam=True)
    assert made == [False] * 12 + [True] * 12


@torch.no_grad()
def test_attention_rows_sum_to_the_number_of_blocks(localizer: Localizer) -> None:
    attention = localizer.forward_maps(torch.randn(1, 3, 32, 48)).attention
    assert attention.shape == (1, 7, 7)
    torch.testing.assert_close(attention.sum(-1), torch.full((1, 7), 12.0))


@torch.no_grad()
@pytest.mark.parametrize("whole", [False, True], ids=["autocast", "bf16 weights"])
def test_scores_and_maps_are_float32_in_bf16_too(localizer: Localizer, whole: bool) -> None:
    images = torch.randn(2, 3, 32, 48)
    exact = localizer(images, cam=True)
    if whole:
        rounded = localizer.bfloat16()(images.bfloat16(), cam=True)
    else:
        with torch.autocast("cpu", torch.bfloat16):
            rounded = localizer(images, cam=True)
            assert localizer(images).logits_conv.dtype is torch.float32
    assert {x.dtype for x in rounded} == {torch.float32}
    torch.testing.assert_close(rounded.logits_trans, exact.logits_trans, rtol=0.1, atol=0.05)


@torch.no_grad()
@pytest.mark.parametrize("num_logits", [1, 2])
def test_the_map_is_that_of_the_last_logit(num_logits: int) -> None:
    config = replace(CONFIG, num_logits=num_logits, cam=CamConfig(union="sum", attention="transposed"))
    localizer = Localizer.from_config(config).eval()
    images = torch.randn(1, 3, 32, 48)
    maps = localizer.forward_maps(images)
    combined = activation_map(maps.conv_map, maps.trans_map, maps.attention, config.cam)
    torch.testing.assert_close(localizer(images, cam=True).cam, combined[:, -1])
    torch.testing.assert_close(maps.conv_map.mean((2, 3)), maps.logits_conv)


@pytest.mark.parametrize("placement", ["output", "first", "last"])
@pytest.mark.parametrize("blocks", [0, 4, 8, 12])
def test_the_first_blocks_are_gated(blocks: int, placement: str) -> None:
    localizer = Localizer.from_config(replace(CONFIG, cabl=CablConfig(blocks=blocks, placement=placement)))
    ran: list[torch.Size] = []
    for module in localizer.modules():
        if isinstance(module, Cabl):
            module.register_forward_hook(lambda *call: ran.append(call[-1].shape))
    localizer.eval()(torch.randn(1, 3, 64, 64))
    twice = max(blocks - 1, 0) if placement == "last" else 0  # both convolution parts of blocks 2 to 12
    assert len(ran) == blocks + twice


@torch.no_grad()
def test_no_operator_is_the_plain_network() -> None:
    plain, gated = (
        Localizer.from_config(replace(CONFIG, cabl=cabl)).eval()
        for cabl in (CablConfig(operator="none"), CablConfig(blocks=0))
    )
    gated.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(plain(images).logits_conv, gated(images).logits_conv)
    default = Localizer.from_config(CONFIG).eval()
    default.load_state_dict(plain.state_dict())
    assert not torch.allclose(plain(images).logits_conv, default(images).logits_conv)


@torch.no_grad()
def test_pooling_before_the_projection_changes_nothing() -> None:
    coupling = MapToTokens(6, 8, stride=4)
    x, tokens = torch.randn(2, 6, 8, 12), torch.randn(2, 7, 8)
    late = torch.nn.functional.avg_pool2d(coupling.conv_project(x), 4).flatten(2).transpose(1, 2)
    expected = torch.nn.functional.gelu(coupling.ln(late))
    torch.testing.assert_close(coupling(x, tokens)[:, 1:], expected)
    torch.testing.assert_close(coupling(x, tokens)[:, 0], tokens[:, 0])


@torch.no_grad()
def test_the_classifier_ends_at_stride_32_with_the_same_weights() -> None:
    classifier = Classifier(BACKBONES["test_conformer"], num_classes=5).eval()
    localizer = Localizer.from_config(replace(CONFIG, cabl=CablConfig(operator="none"))).eval()
    localizer.backbone.load_state_dict(classifier.backbone.state_dict())
    images = torch.randn(1, 3, 64, 96)
    assert classifier.backbone(images).conv.shape[-2:] == (2, 3)
    assert localizer.backbone(images).conv.shape[-2:] == (4, 6)
    assert [logits.shape for logits in classifier(images)] == [(1, 5), (1, 5)]


def test_drop_path_rises_to_the_last_block() -> None:
    localizer = Localizer.from_config(replace(CONFIG, drop_path_rate=0.11))
    rates = [m.p for m in localizer.modules() if type(m).__name__ == "StochasticDepth"]
    assert rates == pytest.approx([0.01 * i for i in range(12)])


@torch.no_grad()
def test_a_folder_opens_to_the_same_network_and_serves_as_start_weights(
    localizer: Localizer, tmp_path: Path
) -> None:
    images = torch.randn(1, 3, 32, 48)
    localizer.origin = Origin(licence="mit")
    localizer.save_pretrained(tmp_path / "model")
    opened = Localizer.from_pretrained(tmp_path / "model")
    assert opened.config == CONFIG
    torch.testing.assert_close(opened(images, cam=True), localizer(images, cam=True))

    changed = replace(
        CONFIG, pretrained=str(tmp_path / "model"), num_logits=2, cabl=CablConfig(operator="none")
    )
    started = Localizer.from_config(changed)
    assert (started.config.pretrained, started.origin.licence) == ("", "mit")
    assert started.conv_cls_head.weight.shape[0] == 2
    torch.testing.assert_close(started.backbone.state_dict(), localizer.backbone.state_dict())
    with pytest.raises(UserError, match="holds a test_conformer, not a conformer_small"):
        Localizer.from_config(replace(changed, backbone="conformer_small"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet"}, "--model.backbone is 'resnet': choose one of conformer_small"),
        ({"num_logits": 0}, "--model.num-logits is 0"),
        ({"activation": "softmax"}, "needs --model.num-logits 2"),
        ({"cabl": CablConfig(blocks=13)}, "--model.cabl.blocks is 13: give 0 to 12"),
    ],
)
def test_a_wrong_config_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Localizer.from_config(replace(CONFIG, **changes))


def test_a_folder_of_an_earlier_version_opens(localizer: Localizer, tmp_path: Path) -> None:
    """Its configuration named the training loss."""
    folder = localizer.save_pretrained(tmp_path / "model")
    description = json.loads((folder / "config.json").read_text())
    description["config"]["loss"] = "summed_logits"
    (folder / "config.json").write_text(json.dumps(description))
    assert Localizer.from_pretrained(folder).config == CONFIG
