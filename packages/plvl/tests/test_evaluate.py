"""The two protocols, every sentence once, one road with `predict`, and what the verb writes."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from shapes import small, write_shapes
from torch import Tensor, nn

from papers_shared.metrics import GroundingMetrics
from plvl.config import DataConfig
from plvl.data import load_mask, open_split
from plvl.evaluate import evaluate, run, table
from plvl.inference import describe_protocol
from plvl.modeling.plvl import PLVL, ImageFeatures, PLVLOutput
from plvl.options import EvaluateOptions
from plvl.predict import predict_many, read_sentences
from plvl.tokenizer import VOCABULARY, make_vocabulary

WORDS = make_vocabulary(["the red green blue block"], 160)


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("blocks") / "data", val=3)


class Oracle(nn.Module):
    """Answers with the left third of the image, whatever is asked."""

    def __init__(self, side: int, **switches: bool) -> None:
        super().__init__()
        self.config = replace(small(Path(), Path()).model, image_size=side, **switches)
        self.extra_files = {VOCABULARY: WORDS}
        self.weight = nn.Parameter(torch.zeros(1))

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return input_ids[..., None].float()

    def encode_image(self, images: Tensor) -> ImageFeatures:
        return ImageFeatures(images, None)

    def ground(self, image: ImageFeatures, text: Tensor, attention_mask: Tensor) -> PLVLOutput:
        number, side = len(text), self.config.image_size
        boxes = torch.tensor([[1 / 6, 0.5, 1 / 3, 1.0]]).expand(number, 4)
        logits = torch.full((number, 1, side, side), -9.0)
        logits[..., : side // 3] = 9.0
        return PLVLOutput(
            boxes if self.config.rec else None, None, None, None, logits if self.config.res else None
        )


def test_both_protocols_against_a_count_by_hand(blocks: Path) -> None:
    rows = open_split(DataConfig(root=str(blocks)), "val")
    result = evaluate(Oracle(48), rows, protocols=("paper", "original"), batch_size=4)
    assert result["expressions"] == 9
    ious, hits = [], 0
    left = np.zeros((40, 60), bool)
    left[:, :20] = True
    for row in rows:
        mask = load_mask(row) > 0
        ious.append((left & mask).sum() / (left | mask).sum())
        x0, y0, x1, y1 = row["box_xyxy"]
        inside = max(0, min(x1, 20) - x0) * (y1 - y0)
        hits += inside / (800 + (x1 - x0) * (y1 - y0) - inside) >= 0.5
    original = result["original"]
    assert original["miou"] == pytest.approx(np.mean(ious), abs=0.01)
    assert original["acc_at_05"] == pytest.approx(hits / 9)
    assert result["paper"]["miou"] == pytest.approx(np.mean(ious), abs=0.03), (
        "another protocol, about the same"
    )
    assert result["paper"]["miou"] != original["miou"]
    assert "stretched to 48x48 and compared there" in result["paper"]["protocol"]
    text = table(result)
    assert f"{100 * original['miou']:.2f}" in text
    assert "Precision@0.9" in text


def test_each_sentence_counts_once_on_any_number_of_processes(
    blocks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of three processes sees its share; what they would exchange is put together here."""
    rows = open_split(DataConfig(root=str(blocks)), "val")
    whole = evaluate(Oracle(48), rows)
    shares: list[Any] = []
    for rank in range(3):
        process: Any = SimpleNamespace(
            process_index=rank,
            num_processes=3,
            is_main_process=rank == 0,
            device=torch.device("cpu"),
            mixed_precision="no",
        )
        monkeypatch.setattr("plvl.evaluate.gather_object", lambda rows: shares.extend(rows) or rows)
        evaluate(Oracle(48), rows, accelerator=process)
    assert sorted(name for name, _ in shares) == [f"{index:09d}" for index in range(9)]
    monkeypatch.setattr("plvl.evaluate.gather_object", lambda _: shares)
    again = evaluate(Oracle(48), rows)
    assert again["paper"] == whole["paper"]


def test_one_task_has_no_metrics_of_the_other(blocks: Path) -> None:
    rows = open_split(DataConfig(root=str(blocks)), "val")
    boxes = evaluate(Oracle(48, res=False), rows, protocols=("paper", "original"))
    assert boxes["original"]["miou"] is None
    assert boxes["original"]["acc_at_05"] is not None
    masks = evaluate(Oracle(48, rec=False), rows)["paper"]
    assert masks["acc_at_05"] is None
    assert masks["miou"] > 0


def test_the_verb_names_the_model_it_used(
    blocks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    model = PLVL.from_config(small(Path(), Path()).model)
    origin = {"recipe": "toy", "step": 12, "chosen_by": "miou", "val": {"miou": 0.5}}
    model.extra_files = {VOCABULARY: WORDS, "training.json": json.dumps(origin).encode()}
    model.save_pretrained(tmp_path / "best_mask")
    options = EvaluateOptions(str(tmp_path / "best_mask"), DataConfig(root=str(blocks), workers=0))
    assert run(options) == 0
    printed = capsys.readouterr().out
    assert "best_mask (recipe toy, step 12, chosen by mask mIoU on val)" in printed
    assert "paper  original" in printed
    written = json.loads((tmp_path / "best_mask-evaluation-data-val.json").read_text())
    assert written["trained"] == {"recipe": "toy", "step": 12, "chosen_by": "miou"}
    assert written["expressions"] == 9
    assert written["expressions_per_second"] > 0
    assert set(written["original"]["precision_at"]) == {"0.5", "0.6", "0.7", "0.8", "0.9"}


def test_what_predict_wrote_scores_as_evaluate_says(blocks: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = PLVL.from_config(small(Path(), Path()).model)  # in training mode
    model.extra_files = {VOCABULARY: WORDS}
    rows = open_split(DataConfig(root=str(blocks)), "val")
    result = evaluate(model, rows, protocols=("original",))
    assert model.training

    jobs = read_sentences(blocks / "val.jsonl", blocks)
    predict_many(model, jobs, tmp_path / "found")
    lines = (tmp_path / "found" / "predictions.jsonl").read_text().splitlines()
    truths = {(row["image"]["path"], row["expression"]): row for row in rows}
    metrics = GroundingMetrics()
    for number, record in enumerate(map(json.loads, lines)):
        row = truths[record["file"], record["expression"]]
        size = np.array([row["width"], row["height"]] * 2)
        with Image.open(tmp_path / "found" / record["mask"]) as mask:
            metrics.update(
                str(number),
                box=np.array(record["box_xyxy"]) / size,
                true_box=np.array(row["box_xyxy"]) / size,
                mask=np.asarray(mask) > 0,
                true_mask=load_mask(row),
            )
        assert record["protocol"] == result["original"]["protocol"] == describe_protocol(model.config)
    scores = asdict(metrics.compute())
    assert {key: scores[key] for key in result["original"] if key != "protocol"} == {
        key: value for key, value in result["original"].items() if key != "protocol"
    }


def test_evaluations_never_replace_one_another(blocks: Path, tmp_path: Path) -> None:
    model = PLVL.from_config(small(Path(), Path()).model)
    model.extra_files = {VOCABULARY: WORDS}
    model.save_pretrained(tmp_path / "best")
    again = shutil.copytree(blocks, tmp_path / "data")
    for root, protocol in ((blocks, "all"), (again, "all"), (blocks, "paper"), (blocks, "all")):
        data = DataConfig(root=str(root), workers=0)
        assert run(EvaluateOptions(str(tmp_path / "best"), data, protocol=protocol)) == 0
    names = sorted(path.name for path in tmp_path.glob("*.json"))
    assert names == [f"best-evaluation-data-val{end}.json" for end in ("-2", "-paper", "")]
