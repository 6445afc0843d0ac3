"""Values that no network, sample or run can have are refused where they enter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from shapes import small

from papers_shared.errors import UserError
from plvl.cli import main
from plvl.evaluate import run
from plvl.modeling.plvl import PLVL
from plvl.options import EvaluateOptions


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vocab_size", 10**12),
        ("num_heads", 0),
        ("depth", 10**6),
        ("mlp_ratio", float("nan")),
        ("text_dropout", 5.0),
        ("image_size", 0),
        ("max_tokens", -1),
        ("std", [0.0, 0.2, 0.2]),
        ("language_blocks", [-1]),
    ],
)
def test_a_model_folder_with_impossible_sizes_is_one_sentence(tmp_path: Path, key: str, value: Any) -> None:
    folder = PLVL.from_config(small(Path(), Path()).model).save_pretrained(tmp_path / "model")
    description = json.loads((folder / "config.json").read_text())
    description["config"][key] = value
    (folder / "config.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match=key) as caught:
        PLVL.from_pretrained(folder)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "option",
    [
        ("--data.flip", "2"),
        ("--data.crop", "nan"),
        ("--optim.lr", "-1"),
        ("--optim.lr-vision", "-1"),
        ("--model.image-size", "0"),
        ("--model.max-tokens", "1"),
        ("--loss.det-weight", "-1"),
        ("--data.timeout", "-1"),
        ("--run.log-every", "0"),
    ],
    ids=" ".join,
)
def test_options_out_of_range_name_themselves(
    option: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "toy", "--run.output", str(tmp_path / "run"), *option]) == 2
    assert option[0] in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_output_of_something_else_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"notes": 1}')
    options = EvaluateOptions(model=str(tmp_path / "none"), output=str(tmp_path / "mine.json"))
    with pytest.raises(UserError, match="no evaluation of this kind"):
        run(options)
    assert (tmp_path / "mine.json").read_text() == '{"notes": 1}'
