"""Checkpoints that hold no plain numbers, or none at all: one sentence each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from papers_shared.errors import UserError
from papers_shared.foreign import check_fits, load_official

ONES = torch.ones(2, 3)


@pytest.mark.filterwarnings("ignore:TypedStorage")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": ONES.to_sparse()}, "a holds sparse values"),
        ({"a": torch.quantize_per_tensor(ONES, 0.1, 0, torch.qint8)}, "a holds quantized values"),
        ({"a": torch.empty(2, 3, device="meta")}, r"a has the shape \[2, 3\] and fewer numbers"),
        ({"a": torch.ones(1).expand(10**5, 10**5)}, "and fewer numbers"),
        ({1: ONES}, "no state dict of tensors"),
        ({"a": ONES, 1: ONES}, "no state dict of tensors"),
        ({"model": {"model": {"a": ONES}}}, "no state dict of tensors"),
        (b"hello", "not a checkpoint that torch or safetensors can read"),
        (bytes(4096), "not a checkpoint that torch or safetensors can read"),
    ],
)
def test_no_plain_numbers(
    content: Any, message: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "file.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    recwarn.clear()
    with pytest.raises(UserError, match=message) as raised:
        load_official(path)
    assert len(str(raised.value)) < 600
    assert "\n" not in str(raised.value)
    assert not recwarn.list, "nothing but the sentence"


def test_names_of_strangers_are_shown_in_one_short_line() -> None:
    with pytest.raises(UserError) as raised:
        check_fits({"a\nb\x1b": ONES, "y" * 5000: ONES}, {"c": ONES}, "file.pth", "a network")
    assert len(str(raised.value)) < 300
    assert str(raised.value).isprintable()
