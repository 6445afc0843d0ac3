"""The segmenter around any backbone, its start weights, its folder and its refusals."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import fanet
from fanet.config import ModelConfig
from fanet.modeling.segmenter import Segmenter
from papers_shared.errors import UserError

SMALL = ModelConfig(
    backbone="test_fanet",
    class_names=("a", "b", "c"),
    decoder_channels=8,
    auxiliary_channels=8,
    drop_path_rate=0.0,
)


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        ("test_fanet", ""),
        ("test_convnext", ""),
        ("test_efficientnet", ""),  # its feature extractor keeps no format
        ("test_mambaout", ""),  # maps with channels last
        ("test_nfnet", ""),
        ("legacy_seresnet18", "no drop path"),
        ("test_vit", "feature pyramid"),
        ("test_coatnet", "resized to 96x96"),  # is built for one size, a multiple of 32
        ("crossvit_tiny_240", "feature pyramid"),
        ("pit_ti_224", "strides 8, 16, 32"),
    ],
)
def test_ten_kinds_of_backbone(backbone: str, said: str, tmp_path: Path) -> None:
    """Each trains a step, is saved and opened, and answers as before."""
    config = replace(SMALL, backbone=backbone, drop_path_rate=0.1, image_size=72)
    segmenter = Segmenter.from_config(config).train()
    assert said in "; ".join(segmenter.notes)
    output = segmenter(torch.randn(2, 3, 72, 72))
    assert output.logits.shape == output.logits.new_empty(2, 3, 18, 18).shape
    (output.logits.square().mean() + output.aux_logits.square().mean()).backward()
    assert any(p.grad is not None and p.grad.any() for p in segmenter.backbone.parameters())
    torch.optim.SGD(segmenter.parameters(), lr=0.1).step()
    segmenter.eval().save_pretrained(tmp_path / "model")
    again = Segmenter.from_pretrained(tmp_path / "model")
    with torch.inference_mode():
        images = torch.randn(1, 3, 65, 99)
        assert torch.equal(again(images).logits, segmenter(images).logits)
        assert again(images).logits.shape == (1, 3, 17, 25)


def test_free_sizes_need_no_note() -> None:
    """Swin takes any image with windows kept whole; nothing is resized and nothing said."""
    config = replace(
        SMALL,
        backbone="swin_tiny_patch4_window7_224",
        backbone_options=("depths=1,1,2,1", "embed_dim=8", "num_heads=1,1,2,2"),
    )
    segmenter = Segmenter.from_config(config).eval()
    assert segmenter.notes == ()
    assert segmenter.config.image_size == 0
    assert len(segmenter.backbone.layers_2.blocks) == 2
    with torch.inference_mode():
        assert segmenter(torch.zeros(1, 3, 64, 96)).logits.shape == (1, 3, 16, 24)


@pytest.mark.parametrize(
    "option", ["depths", "depths=", "depths=a", "de-pths=1", "depths=[1]", "pretrained=true"]
)
def test_backbone_options_are_numbers(option: str) -> None:
    with pytest.raises(UserError, match=r"--model\.backbone-options"):
        Segmenter.from_config(replace(SMALL, backbone="test_convnext", backbone_options=(option,)))


def test_a_pyramid_of_strides() -> None:
    from fanet.modeling.levels import FeaturePyramid

    for stride, sizes in (
        (16, [32, 16, 8, 4]),
        (32, [64, 32, 16, 8]),
        (14, [32, 16, 8, 4]),
        (8, [16, 8, 4, 2]),
    ):
        pyramid = FeaturePyramid(32, stride)
        maps = pyramid(torch.randn(1, 32, 8, 8))
        assert [x.shape[-1] for x in maps] == sizes
        assert [x.shape[1] for x in maps] == list(pyramid.chans)


def test_deeplabv3plus_is_a_head_like_the_other(tmp_path: Path) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    config = replace(SMALL, backbone="test_resnet", head="deeplabv3plus")
    segmenter = Segmenter.from_config(config).train()
    assert segmenter.backbone.feature_info.reduction() == [4, 8, 16, 16]
    output = segmenter(torch.randn(2, 3, 65, 99))
    assert output.logits.shape == (2, 3, 17, 25)
    output.logits.square().mean().backward()
    assert all(value.grad is not None for value in segmenter.decode_head.parameters())

    segmenter.save_pretrained(tmp_path / "model")
    images = torch.randn(1, 3, 64, 64)
    again = Segmenter.from_pretrained(tmp_path / "model").eval()
    torch.testing.assert_close(again(images).logits, segmenter.eval()(images).logits)

    with pytest.raises(UserError, match="two images"):
        segmenter.train()(images)


def test_deeplabv3plus_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch.decoders.deeplabv3.decoder", None)
    with pytest.raises(UserError, match=r"fanet\[peers\]"):
        Segmenter.from_config(replace(SMALL, backbone="test_resnet", head="deeplabv3plus"))


@pytest.mark.parametrize("size", [(64, 96), (65, 99), (33, 31)])
def test_shapes_in_training(size: tuple[int, int]) -> None:
    segmenter = Segmenter.from_config(replace(SMALL, in_chans=4)).train()
    output = segmenter(torch.zeros(2, 4, *size))
    assert output.logits.shape == (2, 3, -(-size[0] // 4), -(-size[1] // 4))
    assert output.aux_logits.shape[:2] == (2, 3)


def test_checkpointing_changes_no_gradient() -> None:
    images, gradients = torch.randn(2, 3, 64, 64), []
    plain = Segmenter.from_config(replace(SMALL, dropout=0.0)).train()
    recomputing = Segmenter.from_config(replace(SMALL, dropout=0.0, grad_checkpointing=True)).train()
    recomputing.load_state_dict(plain.state_dict())
    for segmenter in (plain, recomputing):
        segmenter(images).logits.square().mean().backward()
        gradients.append([p.grad for p in segmenter.backbone.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_head_initialisation() -> None:
    head = Segmenter.from_config(replace(SMALL, decoder_channels=64)).decode_head
    classifier, fusion = head.get_submodule("classifier"), head.get_submodule("fusion.conv")
    assert isinstance(classifier, nn.Conv2d)
    assert isinstance(fusion, nn.Conv2d)
    assert classifier.weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert fusion.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    assert fusion.bias is None


def test_folder_keeps_every_weight(tmp_path: Path) -> None:
    segmenter = Segmenter.from_config(SMALL).eval()
    segmenter.save_pretrained(tmp_path / "model")
    opened = fanet.Segmenter.from_pretrained(tmp_path / "model")
    images = torch.randn(1, 3, 40, 40)
    assert torch.equal(opened(images).logits, segmenter(images).logits)
    assert opened.config == segmenter.config


@pytest.mark.parametrize("backbone", ["test_fanet", "test_convnext", "vit_tiny_patch16_224"])
def test_start_weights_from_folders(tmp_path: Path, backbone: str) -> None:
    """A classifier starts a segmenter, and a segmenter starts another one."""
    config = replace(SMALL, backbone=backbone)
    fanet.Classifier.from_config(replace(config, task="classify")).save_pretrained(tmp_path / "classifier")
    first = Segmenter.from_config(replace(config, pretrained=str(tmp_path / "classifier")))
    first.save_pretrained(tmp_path / "segmenter")
    second = Segmenter.from_config(
        replace(config, pretrained=str(tmp_path / "segmenter"), class_names=("x", "y"))
    )
    start = fanet.Classifier.from_pretrained(tmp_path / "classifier").model.state_dict()
    by_sum = {tuple(tensor.flatten()[:4].tolist()) for tensor in start.values()}
    for (name, a), b in zip(
        first.backbone.state_dict().items(), second.backbone.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
        assert tuple(a.flatten()[:4].tolist()) in by_sum, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "no_such_model"}, "timm knows no model 'no_such_model'"),
        ({"backbone": "inception_v4", "image_size": 32}, "takes no images so small"),
        ({"backbone": "resnet18", "scm": False}, "only a FANet backbone"),
        ({"backbone": "test_resnet", "backbone_options": ("no_such=1",)}, "cannot build 'test_resnet'"),
        ({"class_names": ()}, "class-names is empty"),
        ({"auxiliary_stage": 4}, "auxiliary-stage"),
        ({"pretrained": "timm"}, "pretrained"),
        ({"pretrained": "./nowhere"}, "nowhere: there is no such file"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Segmenter.from_config(replace(SMALL, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"backbone": "test_convnext"}, {"frm_low": False}, {"in_chans": 1}])
def test_start_weights_of_another_network_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    Segmenter.from_config(SMALL).save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match=r"--model\.pretrained"):
        Segmenter.from_config(replace(SMALL, pretrained=str(tmp_path / "model"), **change))  # type: ignore[arg-type]


def test_one_image_in_training_is_refused_unless_batch_norm_rests() -> None:
    segmenter = Segmenter.from_config(SMALL).train()
    with pytest.raises(UserError, match="two images or more"):
        segmenter(torch.zeros(1, 3, 64, 64))
    for module in segmenter.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert segmenter(torch.zeros(1, 3, 64, 64)).logits.shape == (1, 3, 16, 16)


def test_bare_import_is_light() -> None:
    code = (
        "import sys, fanet; heavy = {'torch', 'timm', 'numpy'} & set(sys.modules); assert not heavy, heavy; "
        "fanet.Segmenter; import timm; assert timm.is_model('fanet_tiny'); fanet.convert.convert_state_dict"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_surplus_entries_of_start_weights_are_refused_and_heads_are_not(tmp_path: Path) -> None:
    config = replace(SMALL, backbone="test_resnet")
    state = timm.create_model("test_resnet", num_classes=7).state_dict()
    torch.save(state, tmp_path / "resnet.pth")
    torch.save(
        {f"backbone.{name}": x for name, x in state.items()} | {"neck.w": torch.ones(1)}, tmp_path / "det.pth"
    )
    for name in ("resnet.pth", "det.pth"):
        started = Segmenter.from_config(replace(config, pretrained=str(tmp_path / name)))
        assert torch.equal(started.backbone.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
    for surplus in ("layer5.weight", "conv1.bias"):
        torch.save({**state, surplus: torch.ones(1)}, tmp_path / "more.pth")
        with pytest.raises(UserError, match=f"entries 1 surplus: {surplus}"):
            Segmenter.from_config(replace(config, pretrained=str(tmp_path / "more.pth")))
