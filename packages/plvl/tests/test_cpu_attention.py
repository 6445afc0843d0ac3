"""Attention on the CPU: the numbers and gradients of torch's own, and no matrix of weights kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from shapes import small
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from plvl.modeling import attention, cpu_attention
from plvl.modeling.plvl import PLVL
from plvl.modeling.positions import position_bias

HEIGHT, WIDTH = 2, 3
TOKENS = HEIGHT * WIDTH
MASK = torch.tensor([[1, 1, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1], [0, 0, 1, 0, 0, 0]]).bool()


def inputs() -> list[Tensor]:
    """q, k, v (3, 2, 6, 4), rows (2, 2, 4) and columns (3, 3, 4)."""
    torch.manual_seed(0)
    shapes = [(3, 2, TOKENS, 4)] * 3 + [(HEIGHT, HEIGHT, 4), (WIDTH, WIDTH, 4)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("at_once", [10_000, 2 * TOKENS**2, 1], ids=["all", "one picture", "one head"])
def test_it_is_attention_with_decomposed_positions(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(cpu_attention, "AT_ONCE", at_once)
    q, k, v, rows, columns = inputs()

    def attend(*x: Tensor) -> Tensor:
        return cpu_attention.cpu_attention(*x[:3], rows=x[3], columns=x[4])

    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=position_bias(q, rows, columns))
    torch.testing.assert_close(attend(q, k, v, rows, columns), expected)
    assert torch.autograd.gradcheck(attend, (q, k, v, rows, columns))


@pytest.mark.parametrize("at_once", [10_000, 1])
def test_it_hides_keys_and_drops_weights(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(cpu_attention, "AT_ONCE", at_once)
    q, k, v, *_ = inputs()

    def attend(*x: Tensor) -> Tensor:
        torch.manual_seed(1)
        return cpu_attention.cpu_attention(*x, key_mask=MASK, dropout=0.3)

    whole = cpu_attention.cpu_attention(q, k, v, key_mask=MASK)
    torch.testing.assert_close(whole, F.scaled_dot_product_attention(q, k, v, attn_mask=MASK[:, None, None]))
    assert not torch.equal(attend(q, k, v), whole)
    assert torch.autograd.gradcheck(attend, (q, k, v))


def test_its_multiply_adds_are_counted() -> None:
    """By torch's counter, of which benchmarks make their figures: it does not see a product in place."""
    q, k, v, rows, columns = inputs()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        cpu_attention.cpu_attention(q, k, v, rows=rows, columns=columns)
    products, positions = q.numel() * TOKENS, q.numel() * (HEIGHT + WIDTH)
    assert counter.get_total_flops() == 2 * (2 * products + positions)


def test_dropout_leaves_out_its_rate_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    q, k = torch.zeros(2, 4, 50, 8), torch.zeros(2, 4, 50, 8)
    v = torch.eye(50).expand(2, 4, 50, 50)
    weights = cpu_attention.cpu_attention(q, k, v, dropout=0.25)
    assert float((weights == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    torch.testing.assert_close(weights[weights > 0].unique(), torch.tensor([1 / 50 / 0.75]))


def test_the_network_learns_as_with_torchs_attention_and_keeps_no_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = PLVL.from_config(small(tmp_path, tmp_path).model).eval()
    side, tokens = 6 * model.config.patch_size, 36
    ids = torch.randint(5, model.config.vocab_size, (2, model.config.max_tokens))
    batch = (torch.randn(2, 3, side, side), ids, torch.ones_like(ids))

    def learn() -> tuple[dict[str, Tensor], list[tuple[int, ...]]]:
        model.zero_grad()
        kept: list[tuple[int, ...]] = []

        def pack(x: Tensor) -> Tensor:
            kept.append(tuple(x.shape))
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            output: Any = model(*batch)
        (output.boxes.sum() + output.mask_logits.square().mean() + output.score_logits.sum()).backward()
        return {name: x.grad.clone() for name, x in model.named_parameters() if x.grad is not None}, kept

    ours, kept = learn()
    monkeypatch.setattr(attention, "eager_cpu", lambda _: False)
    expected, kept_by_torch = learn()
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert float((ours[name] - value).abs().max()) <= 1e-4 * float(value.abs().max()) + 1e-7, name
    assert any(shape[-2:] == (tokens, tokens) for shape in kept_by_torch)
    assert not any(shape[-2:] == (tokens, tokens) for shape in kept)
