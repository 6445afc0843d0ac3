"""The network against the stored answers of the official code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fanet
from fanet.config import ZEROWASTE_CLASSES, ModelConfig
from fanet.convert import convert_state_dict
from fanet.modeling.segmenter import Segmenter
from papers_shared.losses import cross_entropy

SEGMENTOR = ModelConfig(class_names=ZEROWASTE_CLASSES, drop_path_rate=0.0, dropout=0.0)


@pytest.fixture(scope="module")
def backbone(golden: Any) -> nn.Module:
    model = timm.create_model("fanet_tiny", features_only=True).eval()
    model.load_state_dict(convert_state_dict(golden.official_state("backbone")))
    return model


@pytest.fixture
def segmenter(golden: Any) -> Segmenter:
    model = fanet.Segmenter.from_config(SEGMENTOR)
    model.load_state_dict(convert_state_dict(golden.official_state("segmentor")))
    return model


@pytest.mark.parametrize(
    ("case", "shape"), [("x64", (2, 3, 64, 64)), ("x100x132", (1, 3, 100, 132)), ("x32", (1, 3, 32, 32))]
)
@torch.inference_mode()
def test_backbone(golden: Any, backbone: nn.Module, case: str, shape: tuple[int, ...]) -> None:
    seen = record(backbone)
    for i, features in enumerate(backbone(golden.tensor(f"fanet/{case}", shape))):
        golden.check(case, f"stage{i + 1}", features)
    frm = "stage3.blocks.7.afe.frm"
    f = seen[f"{frm}<"]
    refinement: Any = backbone.get_submodule(frm)
    q = refinement.smooth(f)
    named = {"F": f, "P": seen[f"{frm}.down"], "Q": q, "R": f - q, "S": f * q, "out": seen[frm]}
    named |= {"low": seen[f"{frm}.low"], "high": seen[f"{frm}.high"]}
    named = {f"frm/{name}": x for name, x in named.items()}
    block = "stage1.blocks.0"
    parts = {"norm": ".norm1", "squeeze": ".afe.squeeze", "scm": ".afe.scm", "frm": ".afe.frm", "afe": ".afe"}
    parts |= {"mlp": ".mlp", "out": ""}
    named |= {f"block0/{name}": seen[block + part] for name, part in parts.items()}
    named |= {"block0/stem": seen["stem"], "block0/ce": seen[f"{block}.afe.squeeze<"]}
    checked = [name for name in named if name in golden.cases[case]["tensors"]]
    for name in checked:
        golden.check(case, name, named[name])
    assert len(checked) == len(golden.cases[case]["tensors"]) - 4


@pytest.mark.parametrize(("case", "shape"), [("seg64", (1, 3, 64, 64)), ("seg128x96", (1, 3, 128, 96))])
@torch.inference_mode()
def test_segmenter(golden: Any, segmenter: Segmenter, case: str, shape: tuple[int, ...]) -> None:
    segmenter.eval()
    seen = record(segmenter)
    images = golden.tensor(f"fanet/{case}", shape)
    output = segmenter(images)
    assert output.aux_logits is None
    features = segmenter.forward_features(images)
    full = F.interpolate(output.logits, size=shape[-2:], mode="bilinear", align_corners=False)
    named = {f"stage{i + 1}": x for i, x in enumerate(features)}
    named |= {"ppm_out": seen["decode_head.bottleneck"], "fpn_out": seen["decode_head.fusion"]}
    named |= {"decode_logits": output.logits, "full_logits": full}
    assert segmenter.auxiliary_head is not None
    named["aux_logits"] = segmenter.auxiliary_head(features[2])
    for name, x in named.items():
        golden.check(case, name, x)
    assert torch.equal(full.argmax(1).to(torch.uint8), golden.stored[f"{case}/label_map"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_step(golden: Any, segmenter: Segmenter, dtype: torch.dtype) -> None:
    """Gradients are compared in float64: at one pixel a ReLU's input is -4e-6, and where float32 rounds it to the
    other side (it depends on the number of threads) gradients move by 1e-3."""
    case = golden.cases["train64"]
    labels = (
        torch.from_numpy((golden.noise("fanet/train64/labels", (4, 1, 64, 64)) + 1) * 3).floor().long()[:, 0]
    )
    labels[labels == 5] = 255
    segmenter.train().to(dtype)
    output = segmenter(golden.tensor("fanet/train64", (4, 3, 64, 64)).to(dtype))

    def loss(logits: Tensor | None) -> Tensor:
        assert logits is not None
        logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
        return cross_entropy(logits, labels, ignore_index=255, average="all")

    decode, auxiliary = loss(output.logits), 0.5 * loss(output.aux_logits)
    assert decode.item() == pytest.approx(case["losses"]["decode_loss"], rel=1e-5)
    assert auxiliary.item() == pytest.approx(case["losses"]["aux_loss_already_times_0_5"], rel=1e-5)

    state = golden.official_state("segmentor")
    places = {id(tensor): name for name, tensor in convert_state_dict(state).items()}
    our_name = {official: places[id(tensor)] for official, tensor in state.items()}
    buffers = dict(segmenter.named_buffers())
    stored = [name.partition("/") for name in case["tensors"]]
    for kind, _, official in stored:
        if kind == "after":
            golden.check("train64", f"after/{official}", buffers[our_name[official]], bound=1e-4)
    if dtype == torch.float32:
        return

    (decode + auxiliary).backward()
    gradients = {name: p.grad for name, p in segmenter.named_parameters() if p.grad is not None}
    total = torch.stack([gradient.norm() for gradient in gradients.values()]).norm().item()
    assert total == pytest.approx(case["total_gradient_norm"], rel=1e-4)
    for official, norm in case["gradient_norms"].items():
        assert gradients[our_name[official]].norm().item() == pytest.approx(norm["l2"], rel=1e-4), official
    for kind, _, official in stored:
        if kind == "grad":
            golden.check("train64", f"grad/{official}", gradients[our_name[official]], bound=1e-4)


def test_drop_path_rates_rise_to_the_last_block() -> None:
    model = timm.create_model("fanet_tiny", num_classes=0, drop_path_rate=0.1)
    rates = [getattr(m, "drop_prob", 0.0) for name, m in model.named_modules() if "drop_path1" in name]
    assert rates == pytest.approx([0.1 * i / 13 for i in range(14)])


def test_counts(golden: Any) -> None:
    classifier = timm.create_model("fanet_tiny")
    backbone = timm.create_model("fanet_tiny", features_only=True)
    segmenter = Segmenter.from_config(SEGMENTOR)
    stored = golden.counts["parameters"]
    assert parameters(classifier) == stored["backbone_plus_norm_and_1000_class_head"] == 36_721_864
    assert parameters(backbone) == stored["backbone"] == 35_951_328
    assert parameters(segmenter) == stored["segmentor_with_auxiliary_head"] == 46_061_290
    plain = replace(SEGMENTOR, auxiliary=False)
    assert parameters(Segmenter.from_config(plain)) == stored["segmentor_without_auxiliary_head"]
    assert macs(classifier) == golden.counts["operations"]["classifier@224x224"] == 5_800_459_008


@pytest.mark.parametrize("row", range(1, 7))
def test_ablation_row(golden: Any, row: int) -> None:
    switches = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)][row - 1]
    scm, high, low = map(bool, switches)
    model = timm.create_model("fanet_tiny", features_only=True, scm=scm, frm_high=high, frm_low=low)
    stored = next(counts for name, counts in golden.counts["ablation"].items() if name.startswith(str(row)))
    assert parameters(model) == stored["backbone_params"]
    assert macs(model) == stored["backbone_macs_224"]


def record(model: nn.Module) -> dict[str, Tensor]:
    """Outputs of all submodules by name in the coming forward, and inputs as `name<`."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if torch.is_tensor(inputs[0]):
                seen.setdefault(f"{name}<", inputs[0])
            seen.setdefault(name, output)

        return hook

    for name, module in model.named_modules():
        module.register_forward_hook(keep(name))
    return seen


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def macs(model: nn.Module) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.to("meta").eval()(torch.zeros(1, 3, 224, 224, device="meta"))
    return counter.get_total_flops() / 2
