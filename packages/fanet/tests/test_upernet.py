"""UperNet models of transformers and mmsegmentation become segmenters that answer alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import fanet
from fanet.data.published import ADE20K_CLASSES, ADE20K_PALETTE
from papers_shared.errors import UserError

transformers = pytest.importorskip("transformers")
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def theirs(kind: str, num_labels: int = 5) -> Any:
    """A small network of transformers on random weights, its batch norms with statistics of their own."""
    backbone = {
        "convnext": lambda: transformers.ConvNextConfig(
            hidden_sizes=[8, 16, 24, 32], depths=[1, 2, 3, 1], layer_scale_init_value=0.5, out_features=STAGES
        ),
        "swin": lambda: transformers.SwinConfig(
            embed_dim=8, depths=[2, 1, 1, 2], num_heads=[1, 2, 2, 4], window_size=3, out_features=STAGES
        ),
    }[kind]()
    config = transformers.UperNetConfig(
        backbone_config=backbone, hidden_size=16, auxiliary_channels=8, num_labels=num_labels
    )
    torch.manual_seed(0)
    model = transformers.UperNetForSemanticSegmentation(config).eval()
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if value.dim() == 1 and value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.5 if "bias" not in name else torch.randn_like(value))
            elif name.endswith("bias_table"):
                value.normal_()
    return model


def as_mmsegmentation(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights as mmsegmentation names and orders them."""
    renamed = {}
    for name, value in state.items():
        if name.startswith("backbone.swin.layernorm"):
            continue
        for old, new in (
            (".batch_norm.", ".bn."),
            ("_head.classifier.", "_head.conv_seg."),
            ("backbone.swin.", "backbone."),
            ("hidden_states_norms.stage", "norm"),
            ("embeddings.patch_embeddings.projection", "patch_embed.projection"),
            ("embeddings.norm", "patch_embed.norm"),
            ("embeddings.patch_embeddings", "downsample_layers.0.0"),
            ("embeddings.layernorm", "downsample_layers.0.1"),
            ("encoder.layers.", "stages."),
            (".layernorm_before.", ".norm1."),
            (".layernorm_after.", ".norm2."),
            (".attention.relative_position_bias.", ".attn.w_msa."),
            (".attention.o_proj.", ".attn.w_msa.proj."),
            (".mlp.fc1.", ".ffn.layers.0.0."),
            (".mlp.fc2.", ".ffn.layers.1."),
            (".layer_scale_parameter", ".gamma"),
            (".dwconv.", ".depthwise_conv."),
            (".layernorm.", ".norm."),
            (".pwconv", ".pointwise_conv"),
        ):
            name = name.replace(old, new)
        if "encoder.stages." in name:
            name = name.replace("encoder.", "")
            stage = name.split(".")[2]
            name = name.replace(f"stages.{stage}.downsampling_layer", f"downsample_layers.{stage}")
            name = name.replace(".layers.", ".")
        if name.startswith("backbone.norm") and name[13].isdigit():
            name = f"backbone.norm{int(name[13]) - 1}{name[14:]}"
        if ".downsample." in name and name.startswith("backbone.stages"):
            value = by_channel(value)
        renamed[name] = value
    for name in [name for name in renamed if ".attention.q_proj." in name]:
        parts = [renamed.pop(name.replace("q_proj", part)) for part in ("q_proj", "k_proj", "v_proj")]
        renamed[name.replace(".attention.q_proj.", ".attn.w_msa.qkv.")] = torch.cat(parts)
    return renamed


def by_channel(value: Tensor) -> Tensor:
    """Inputs in the order of `torch.nn.Unfold`, found out by unfolding an image of their positions."""
    chans = value.shape[-1] // 4
    image = torch.arange(4 * chans, dtype=torch.float32).reshape(4, chans)  # pixel by pixel: down, then right
    image = image.reshape(2, 2, chans).permute(2, 1, 0)[None]
    order = torch.nn.Unfold(2, stride=2)(image).flatten().long()
    return value[..., order]


def as_before_version_5(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of files that older releases of transformers wrote."""
    renamed = {}
    for name, value in state.items():
        for new, old in (
            ("backbone.swin.", "backbone."),
            ("attention.q_proj", "attention.self.query"),
            ("attention.k_proj", "attention.self.key"),
            ("attention.v_proj", "attention.self.value"),
            ("attention.o_proj", "attention.output.dense"),
            ("attention.relative_position_bias.", "attention.self."),
            (".mlp.fc1.", ".intermediate.dense."),
            (".mlp.fc2.", ".output.dense."),
        ):
            name = name.replace(new, old)
        renamed[name] = value
    return {name: value for name, value in renamed.items() if not name.startswith("backbone.layernorm")}


@pytest.mark.parametrize("kind", ["convnext", "swin"])
@pytest.mark.parametrize("form", [dict, as_mmsegmentation, as_before_version_5])
def test_logits_are_those_of_transformers(
    kind: str, form: Callable[[dict[str, Tensor]], dict[str, Tensor]], tmp_path: Path
) -> None:
    model = theirs(kind)
    save_file(
        {name: value.contiguous() for name, value in form(model.state_dict()).items()},
        tmp_path / "m.safetensors",
    )
    report = fanet.convert.convert(tmp_path / "m.safetensors", tmp_path / "model")
    assert report.exit_code == 0
    ours = fanet.Segmenter.from_pretrained(tmp_path / "model")
    assert ours.origin.trained
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model(images).logits
        logits = torch.nn.functional.interpolate(ours(images).logits, (64, 96), mode="bilinear")
    assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)


def test_a_folder_of_transformers_segments_an_image(tmp_path: Path) -> None:
    model = theirs("convnext", 150)
    model.save_pretrained(tmp_path / "theirs")
    fanet.convert.convert(tmp_path / "theirs", tmp_path / "model")
    ours = fanet.Segmenter.from_pretrained(tmp_path / "model")
    assert ours.config.class_names == ADE20K_CLASSES
    assert ours.config.palette == ADE20K_PALETTE
    assert ours.predict(torch.zeros(40, 50, 3, dtype=torch.uint8).numpy()).mask.shape == (40, 50)


def test_names_of_classes_come_from_the_folder(tmp_path: Path) -> None:
    model = theirs("convnext", 2)
    model.save_pretrained(tmp_path / "theirs")
    config = tmp_path / "theirs" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"id2label": {"1": "cat", "0": "ground"}}))
    fanet.convert.convert(tmp_path / "theirs", tmp_path / "model")
    assert fanet.Segmenter.from_pretrained(tmp_path / "model").config.class_names == ("ground", "cat")


def test_known_sizes_have_timms_names() -> None:
    from fanet.upernet import BACKBONES, rename_upernet, upernet_config

    with torch.device("meta"):
        swin = transformers.SwinConfig(
            embed_dim=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32], window_size=12, out_features=STAGES
        )
        model = transformers.UperNetForSemanticSegmentation(transformers.UperNetConfig(backbone_config=swin))
    config = upernet_config(rename_upernet(model.state_dict())[0])
    assert config.backbone == "swin_base_patch4_window12_384"
    assert config.backbone_options == ()
    assert config.backbone in BACKBONES


@pytest.mark.parametrize("damage", ["missing", "surplus", "shape"])
def test_another_network_is_refused(damage: str, tmp_path: Path) -> None:
    state = {name: value.contiguous() for name, value in theirs("swin").state_dict().items()}
    name = "decode_head.lateral_convs.1.conv.weight"
    if damage == "missing":
        del state[name]
    elif damage == "surplus":
        state["backbone.extra.weight"] = torch.zeros(3)
    else:
        state[name] = torch.zeros(16, 9, 1, 1)
    save_file(state, tmp_path / "m.safetensors")
    with pytest.raises(UserError) as caught:
        fanet.convert.convert(tmp_path / "m.safetensors", tmp_path / "model")
    assert len(str(caught.value)) < 600
    assert not (tmp_path / "model").exists()
