"""Edge filters and gates: golden responses, every switch, and that the default doesn't blow up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from named_noise import tensor
from safetensors.torch import load_file

from cabl_cgsr.config import CablConfig, ModelConfig
from cabl_cgsr.losses import classification_loss
from cabl_cgsr.modeling.cabl import Cabl, edge_kernels, edge_magnitude, gradients
from cabl_cgsr.modeling.localizer import Localizer

FOLDER = Path(__file__).with_name("golden")
ABOUT = json.loads((FOLDER / "network.json").read_text())["tensors"]
GOLDEN = load_file(FOLDER / "network.safetensors")
X = tensor("cabl_cgsr.edge.input", (2, 5, 12, 17))
EXACT = CablConfig(eps=0.0, padding="zeros", gate="raw")


@pytest.mark.parametrize("name", [name for name in GOLDEN if name.startswith("edge.")])
def test_edge_response(name: str) -> None:
    _, operator, padding, what = name.split(".")
    kernels = edge_kernels(operator)
    if what in ("gx", "gy"):
        ours = gradients(X, kernels, padding)[what == "gy"]
    else:
        magnitude = "l1" if what == "l1" else "l2"
        ours = edge_magnitude(X, kernels, replace(EXACT, padding=padding, magnitude=magnitude))
    torch.testing.assert_close(ours, GOLDEN[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sobel.residual_raw", {}),
        ("prewitt.residual_raw", {"operator": "prewitt"}),
        ("sobel.residual_sigmoid", {"gate": "sigmoid"}),
        ("sobel.residual_tanh", {"gate": "tanh"}),
        ("sobel.residual_max", {"gate": "max"}),
        ("sobel.product_only", {"structure": "i"}),
        ("sobel.sum_only", {"structure": "ii"}),
    ],
)
def test_gated_features(name: str, changes: dict[str, str]) -> None:
    ours = Cabl(replace(EXACT, **changes))(X)
    torch.testing.assert_close(ours, GOLDEN[f"block.{name}"], rtol=0, atol=1e-5)


def test_structure_i_edges_hands_on_the_gate_alone() -> None:
    edges = edge_magnitude(X, edge_kernels("sobel"), EXACT)
    torch.testing.assert_close(Cabl(replace(EXACT, structure="i_edges"))(X), edges)


def test_scharr_answers_to_a_ramp_with_its_weights() -> None:
    ramp = torch.arange(5.0).expand(1, 2, 4, 5)
    gx, gy = gradients(ramp, edge_kernels("scharr"), "replicate")
    assert gx[0, 0, 1, 2] == 2 * (3 + 10 + 3)
    assert not gy.any()


def test_summed_channels_share_one_edge_map() -> None:
    magnitude = edge_magnitude(X, edge_kernels("sobel"), replace(EXACT, channels="summed"))
    alone = edge_magnitude(X.sum(1, keepdim=True), edge_kernels("sobel"), EXACT)
    torch.testing.assert_close(magnitude, alone)
    assert Cabl(replace(EXACT, channels="summed", structure="i_edges"))(X).shape == X.shape


@pytest.mark.parametrize("padding", ["replicate", "zeros", "reflect"])
def test_a_map_of_one_pixel_passes(padding: str) -> None:
    assert Cabl(CablConfig(padding=padding))(torch.ones(1, 2, 1, 1)).isfinite().all()


@pytest.mark.parametrize("gate", ["raw", "sigmoid", "tanh", "max"])
def test_flat_features_have_a_finite_gradient(gate: str) -> None:
    x = torch.ones(1, 2, 4, 4, requires_grad=True)
    Cabl(CablConfig(gate=gate))(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_recomputing_the_edges_leaves_the_gradient() -> None:
    config, x = CablConfig(), X.clone().requires_grad_()
    Cabl(config, grad_checkpointing=True)(x).square().sum().backward()
    plain = X.clone().requires_grad_()
    edges = edge_magnitude(plain, edge_kernels("sobel"), config).sigmoid()
    (plain + edges * plain).square().sum().backward()
    torch.testing.assert_close(x.grad, plain.grad)


def largest_feature(cabl: CablConfig, dtype: torch.dtype) -> tuple[float, bool]:
    """After all 12 blocks of a network in training: the largest feature of a block, and whether all is finite."""
    torch.manual_seed(0)
    model = Localizer.from_config(ModelConfig(backbone="test_conformer", cabl=cabl)).train()
    seen: list[torch.Tensor] = []
    for number in range(2, 13):
        block = model.backbone.get_submodule(f"conv_trans_{number}")
        block.register_forward_hook(lambda *call: seen.append(call[-1][0].detach()))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        output = model(torch.randn(2, 3, 64, 64))
        loss = classification_loss(output.logits_conv, output.logits_trans, torch.tensor([0, 1]))
    loss.backward()
    values = [*seen, loss, *(p.grad for p in model.parameters() if p.grad is not None)]
    assert len(seen) == 11
    return max(x.abs().max().item() for x in seen), all(bool(x.isfinite().all()) for x in values)


@pytest.mark.parametrize("operator", ["sobel", "prewitt", "scharr"])
def test_the_default_stays_finite_in_bf16_through_all_blocks(operator: str) -> None:
    largest, finite = largest_feature(CablConfig(operator=operator), torch.bfloat16)
    assert finite
    assert largest < 1e3


def test_the_raw_gate_leaves_the_range_of_half_precision() -> None:
    largest, _ = largest_feature(CablConfig(gate="raw"), torch.float32)
    assert largest > torch.finfo(torch.float16).max


@pytest.mark.parametrize("placement", ["first", "last"])
def test_before_a_normalised_convolution_even_the_raw_gate_is_tame(placement: str) -> None:
    largest, finite = largest_feature(CablConfig(gate="raw", placement=placement), torch.float32)
    assert finite
    assert largest < 1e3
