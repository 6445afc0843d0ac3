"""FANet as a timm model: what timm asks of every model in its zoo, on the small variant."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import FeatureInfo, group_parameters
from torch import nn

import fanet
import fanet.registry
from fanet.config import ModelConfig
from papers_shared.errors import UserError

NAME = "test_fanet"
CHANS = [16, 24, 32, 48]


def create(**options: Any) -> Any:
    """The small variant; a weight's values depend on its name only."""
    model = timm.create_model(NAME, **options).eval()
    for name, parameter in model.named_parameters():
        generator = torch.Generator().manual_seed(
            zlib.crc32(name.removeprefix("model.").removeprefix("body.").encode())
        )
        nn.init.normal_(parameter, std=0.1, generator=generator)
    return model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))


def test_registered() -> None:
    assert set(timm.list_models(module="registry")) == set(fanet.registry.MODELS)
    assert timm.get_pretrained_cfg_value("fanet_tiny", "input_size") == (3, 224, 224)


def test_default_cfg_fits_the_network() -> None:
    model = create()
    state, cfg = model.state_dict(), model.default_cfg
    assert {f"{cfg['classifier']}.weight", f"{cfg['first_conv']}.weight"} <= state.keys()
    features = model.forward_features(torch.zeros(1, *cfg["input_size"]))
    assert features.shape == (1, 48, *cfg["pool_size"])
    assert model.num_features == model.head_hidden_size == 48


def test_every_parameter_gets_a_gradient(images: torch.Tensor) -> None:
    model = create(num_classes=42).train()
    logits = model(images)
    logits.mean().backward()
    assert logits.shape == (2, 42)
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("features_only", [False, True])
def test_grad_checkpointing_changes_nothing(images: torch.Tensor, features_only: bool) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = create(features_only=features_only, drop_path_rate=0.0).train()
        model.set_grad_checkpointing(checkpointing)
        output = model(images)
        (sum(x.square().mean() for x in output) if features_only else output.square().mean()).backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=False))


def test_classifier_can_be_replaced_and_removed(images: torch.Tensor) -> None:
    model = create()
    assert model.get_classifier().out_features == 1000
    features = model.forward_features(images)
    pooled = model.forward_head(features, pre_logits=True)
    assert torch.allclose(model.head.fc(model.head.norm(pooled)), model(images), atol=1e-6)
    model.reset_classifier(7, "max")
    assert model(images).shape == (2, 7)
    assert model.num_classes == 7
    model.reset_classifier(0, "avg")
    assert torch.equal(model(images), pooled)
    model.reset_classifier(0, "")
    assert torch.equal(model(images), features)
    assert torch.equal(create(num_classes=0, global_pool="")(images), features)
    model.reset_classifier(5)
    assert not model.head.fc.training
    dense = model(images)
    assert dense.shape == (2, 5, *features.shape[-2:])
    assert torch.allclose(dense[1, :, 0, 2], model.head.fc(model.head.norm(features[1, :, 0, 2])), atol=1e-6)


def test_model_takes_other_channels_device_and_dtype() -> None:
    model = create(in_chans=5, dtype=torch.float64, device="cpu")
    assert model(torch.zeros(1, 5, 33, 47, dtype=torch.float64)).dtype == torch.float64
    model.reset_classifier(3)
    assert model.get_classifier().weight.dtype == torch.float64


@pytest.mark.parametrize("feature_cls", ["list", "getter", "hook", "dict"])
def test_features_only(images: torch.Tensor, feature_cls: str) -> None:
    expected = create(num_classes=0).forward_intermediates(images, intermediates_only=True)
    model = create(features_only=True, feature_cls=feature_cls)
    features = model(images)
    features = list(features.values()) if isinstance(features, dict) else features
    assert model.feature_info.channels() == CHANS
    assert model.feature_info.reduction() == [4, 8, 16, 32]
    assert all(torch.equal(a, b) for a, b in zip(features, expected, strict=True))
    assert [x.shape[-1] for x in features] == [24, 12, 6, 3]


def test_forward_intermediates(images: torch.Tensor) -> None:
    model = create()
    features, maps = model.forward_intermediates(images, norm=True)
    assert torch.equal(features, model.forward_features(images))
    assert torch.equal(features, maps[-1])
    assert [x.shape[1] for x in maps] == FeatureInfo(model.feature_info, 4).channels() == CHANS
    stopped, chosen = model.forward_intermediates(images, indices=[0, -3], stop_early=True, output_fmt="NHWC")
    assert torch.equal(stopped, maps[1])
    assert len(chosen) == 2
    assert torch.equal(chosen[1], maps[1].permute(0, 2, 3, 1))
    assert len(model.forward_intermediates(images, indices=2, intermediates_only=True)) == 2


def test_prune_intermediate_layers(images: torch.Tensor) -> None:
    model = create()
    expected = model.forward_intermediates(images, indices=[1], intermediates_only=True)[0]
    assert model.prune_intermediate_layers([1]) == [1]
    assert torch.equal(model(images), expected)
    assert model.num_features == 24
    assert not any(name.startswith(("stage3", "stage4", "head")) for name, _ in model.named_parameters())


def test_a_pruned_network_gets_a_head(images: torch.Tensor) -> None:
    model = create()
    model.prune_intermediate_layers([1])
    model.reset_classifier(7, "avg")
    assert model(images).shape == (2, 7)
    assert model.head_hidden_size == 24


@pytest.mark.parametrize("pooling", ["avg", "max", "avgmax", "catavgmax", "fast", "fastavg", "fastmax", ""])
def test_every_pooling(images: torch.Tensor, pooling: str) -> None:
    built, changed = create(num_classes=5, global_pool=pooling), create()
    changed.reset_classifier(5, pooling)
    for model in (built, changed):
        model.eval()
        expected = (2, 5) if pooling else (2, 5, 3, 3)
        assert model(images).shape == expected
        assert (
            model.forward_head(model.forward_features(images), pre_logits=True).shape[1]
            == model.head_hidden_size
        )


def test_other_output_strides_are_refused_in_one_sentence() -> None:
    assert create(features_only=True, output_stride=32).feature_info.reduction()[-1] == 32
    with pytest.raises(UserError, match="output_stride is 16"):
        create(features_only=True, output_stride=16)


def test_saved_for_the_hub_and_back(images: torch.Tensor, tmp_path: Path) -> None:
    model = create(num_classes=5)
    timm.models.save_for_hf(model, tmp_path / "hub", model_config={"num_classes": 5})
    again = timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True).eval()
    assert torch.equal(again(images), model(images))


@pytest.mark.parametrize("segmenter", [False, True])
def test_folders_of_this_package_are_timm_checkpoints(
    images: torch.Tensor, tmp_path: Path, segmenter: bool
) -> None:
    config = ModelConfig(task="classify", backbone=NAME, class_names=("a", "b"), decoder_channels=8)
    own = (fanet.Segmenter if segmenter else fanet.Classifier).from_config(config).eval()
    own.save_pretrained(tmp_path / "model")
    weights = str(tmp_path / "model" / "model.safetensors")
    model = timm.create_model(NAME, num_classes=0 if segmenter else 2, checkpoint_path=weights).eval()
    if segmenter:
        assert torch.equal(model.forward_features(images), own.forward_features(images)[-1])
    else:
        assert torch.equal(model(images), own(images))


def test_group_matcher_places_every_parameter() -> None:
    model = create()
    for coarse, groups in ((True, 6), (False, 7)):
        found = group_parameters(model, model.group_matcher(coarse), reverse=True)
        assert len(found) == sum(1 for _ in model.named_parameters())
        assert len(set(found.values())) == groups


def test_initialisation() -> None:
    model = timm.create_model("fanet_tiny", num_classes=10)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            assert module.bias is not None
            assert not module.bias.any()
            if module.weight.numel() > 50_000:
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)


@torch.inference_mode()
def test_torchscript_and_fx(images: torch.Tensor) -> None:
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    model = create()
    expected = model(images)
    with timm.set_scriptable(True):
        scripted = torch.jit.script(create())
    assert torch.allclose(scripted(images), expected, atol=1e-6)
    train_nodes, eval_nodes = get_graph_node_names(model)
    traced = create_feature_extractor(
        model, train_return_nodes=train_nodes[-1:], eval_return_nodes=eval_nodes[-1:]
    ).eval()
    assert torch.equal(next(iter(traced(images).values())), expected)
    assert torch.allclose(next(iter(torch.jit.script(traced)(images).values())), expected, atol=1e-6)


@torch.inference_mode()
def test_export_and_compile_give_the_same(images: torch.Tensor) -> None:
    model = create()
    expected = model(images)
    assert torch.allclose(torch.export.export(model, (images,)).module()(images), expected, atol=1e-6)
    assert torch.allclose(torch.compile(model, backend="eager", fullgraph=True)(images), expected, atol=1e-6)


def test_transformers_backbone(images: torch.Tensor) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.TimmBackboneConfig(
        backbone=NAME, use_pretrained_backbone=False, out_indices=(0, 1, 2, 3)
    )
    maps = transformers.AutoBackbone.from_config(config)(images).feature_maps
    assert [x.shape[1] for x in maps] == CHANS


def test_segmentation_models_pytorch(images: torch.Tensor) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    model = smp.Unet(f"tu-{NAME}", encoder_weights=None, classes=5).eval()
    assert model(images).shape == (2, 5, 96, 96)
