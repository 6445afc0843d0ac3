"""Figures of sets: the cache, the prompts, the protocols, the intervals, and any number of processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from cabl_cgsr import pictures as pictures_module
from cabl_cgsr.cli import main
from cabl_cgsr.config import DataConfig, ModelConfig
from cabl_cgsr.data import load_mask, load_picture, open_set
from cabl_cgsr.evaluate import evaluate_labels, evaluate_set, open_sets, run
from cabl_cgsr.inference import localize, network_maps, prepare_views, prompts_of
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.options import EvaluateOptions
from cabl_cgsr.overrides import with_changes
from cabl_cgsr.predictions import PredictionCache, model_key
from cabl_cgsr.scores import COARSE, average, definitions, over_models, set_scores
from papers_shared.errors import UserError
from papers_shared.metrics.forensics import PROTOCOLS
from papers_shared.sam import GrabCut

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def data(pictures: Path) -> DataConfig:
    return DataConfig(root=str(pictures), layout="folders", workers=0)


@pytest.fixture(scope="module")
def scored(localizer: Localizer, data: DataConfig):
    return evaluate_set(
        localizer,
        open_set(data, masks=True),
        refiner=GrabCut(),
        variants=("null", "point", "box", "box_point"),
    )


class Recording(GrabCut):
    """How many pictures went through it together."""

    def __init__(self) -> None:
        super().__init__()
        self._batches: list[int] = []

    def set_images(self, images: Sequence[np.ndarray]) -> None:
        self._batches.append(len(images))


def test_pictures_are_encoded_together_and_stored_answers_cost_none(
    localizer: Localizer, data: DataConfig, scored, tmp_path: Path
) -> None:
    rows, refiner, cache = open_set(data, masks=True), Recording(), PredictionCache(tmp_path)
    manipulated = sum(rows["label"])
    how = {"refiner": refiner, "variants": ("box", "box_point"), "cache": cache, "batch_size": len(rows)}
    together = evaluate_set(localizer, rows, **how)
    assert refiner._batches == [manipulated]
    figures, alone = set_scores(together).figures, set_scores(scored).figures
    assert figures == pytest.approx({name: alone[name] for name in figures}, abs=1e-3)
    again = evaluate_set(localizer, rows, **how)
    assert refiner._batches == [manipulated, 0]
    assert set_scores(again).figures == figures


def test_figures_are_those_of_the_steps_one_by_one(localizer: Localizer, data: DataConfig, scored) -> None:
    """Score, coarse mask and refined mask of each picture, computed here without cache, loader and metrics."""
    rows, f1 = open_set(data, masks=True), {COARSE: [], "box_point": []}
    scores, labels, segmenter = [], [], GrabCut()
    for row in rows:
        picture = load_picture(row)
        views = [view[None] for view in prepare_views(Image.fromarray(picture), localizer.config)]
        coarse = localize(network_maps(localizer, views, [picture.shape[:2]])[0], localizer.config)
        scores.append(coarse.score)
        labels.append(row["label"])
        if not row["label"]:
            continue
        truth, prompts = load_mask(row), prompts_of(coarse, localizer.config)
        answers = {COARSE: coarse.mask, "box_point": coarse.mask}
        if not prompts.empty:
            segmenter.set_image(picture)
            found = segmenter.predict(prompts.box_xyxy, prompts.points_xy, prompts.labels).masks[0]
            answers["box_point"] = found if found.any() else coarse.mask
        for name, mask in answers.items():
            tp = (mask & truth).sum()
            f1[name].append(2 * tp / (mask.sum() + truth.sum() + 1e-6))
    figures = set_scores(scored).figures
    positive = np.array(scores)[np.array(labels) == 1]
    negative = np.array(scores)[np.array(labels) == 0]
    assert figures["i_auc"] == pytest.approx(np.mean(positive[:, None] > negative[None]), abs=1e-12)
    for name, values in f1.items():
        assert figures[f"p_f1.{name}"] == pytest.approx(np.mean(values), abs=1e-9)
    assert figures["p_f1.box"] != figures[f"p_f1.{COARSE}"], "the refiner did something"
    assert set(figures) == {"i_auc", *(f"p_f1.{name}" for name in (COARSE, "point", "box", "box_point"))}


def test_every_protocol_has_its_figure_and_definition(scored) -> None:
    scores, explained = set_scores(scored, "all"), definitions("all")
    assert set(PROTOCOLS) < set(explained)
    outputs = (COARSE, "point", "box", "box_point")
    assert {f"{protocol}.{output}" for protocol in PROTOCOLS for output in outputs} <= set(scores.figures)
    assert all(value is not None and 0 <= value <= 1 for value in scores.figures.values())
    assert {name.partition(".")[0] for name in scores.figures} == set(explained)
    assert scores.figures["imdlbenco_every_image.coarse"] < scores.figures["p_f1.coarse"]


def test_cached_predictions_cost_no_second_pass(
    localizer: Localizer, data: DataConfig, scored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, cache = open_set(data, masks=True), PredictionCache(tmp_path)
    options = {"refiner": GrabCut(), "variants": ("box_point",), "cache": cache, "batch_size": 5}
    first = set_scores(evaluate_set(localizer, rows, **options)).figures
    assert first["p_f1.coarse"] == pytest.approx(set_scores(scored).figures["p_f1.coarse"], abs=1e-3)

    def no_pass(*_: object) -> None:
        raise AssertionError("the network ran again")

    monkeypatch.setattr(pictures_module, "network_maps", no_pass)
    monkeypatch.setattr(GrabCut, "set_image", no_pass)
    assert set_scores(evaluate_set(localizer, rows, **options)).figures == first
    stricter = Localizer.from_config(localizer.config)
    stricter.load_state_dict(localizer.state_dict())
    stricter.config = with_changes(localizer.config, ["prompts.threshold=0.7"])
    assert evaluate_set(stricter, rows, cache=cache, batch_size=5).metrics[COARSE]
    stricter.config = with_changes(localizer.config, ["cam.union=sum"])
    with pytest.raises(AssertionError, match="ran again"):
        evaluate_set(stricter, rows, cache=cache, batch_size=5)

    for path in (tmp_path / "predictions").rglob("*.npz"):
        path.write_bytes(b"cut short")
    with pytest.raises(AssertionError, match="ran again"):
        evaluate_set(localizer, rows, cache=cache, batch_size=5)


def test_the_key_knows_weights_and_precision(localizer: Localizer) -> None:
    other = Localizer.from_config(localizer.config)
    other.load_state_dict(localizer.state_dict())
    assert model_key(other) == model_key(localizer)
    assert model_key(other, "bf16") != model_key(localizer)
    with torch.no_grad():
        other.trans_cls_head.bias.add_(1)
    assert model_key(other) != model_key(localizer)


def test_labels_alone_give_the_same_area(localizer: Localizer, data: DataConfig, scored) -> None:
    result = evaluate_labels(localizer, open_set(data, masks=False), accelerator=Accelerator(cpu=True))
    assert result["i_auc"] == pytest.approx(set_scores(scored).figures["i_auc"], abs=1e-12)
    assert result["pictures"] == 12


def test_intervals_hold_the_figures_and_the_average_is_of_sets(scored) -> None:
    one = set_scores(scored, draws=200)
    low, high = one.intervals["p_f1.coarse"]
    assert low <= one.figures["p_f1.coarse"] <= high
    other = replace(one, figures=dict.fromkeys(one.figures, 0.5))
    both = average([one, other])
    assert both.figures["i_auc"] == pytest.approx((one.figures["i_auc"] + 0.5) / 2)
    assert both.pictures == 24
    assert set(both.intervals) == set(one.intervals)


def test_spread_over_models(scored) -> None:
    one = set_scores(scored, draws=0)
    shifted = replace(one, figures={name: value + 0.2 for name, value in one.figures.items()})
    ((name, spread),) = over_models([[one], [shifted]])
    assert name == one.name
    assert spread["i_auc"] == pytest.approx((one.figures["i_auc"] + 0.1, np.sqrt(2) / 10))


def test_a_set_without_masks_has_an_area_only(localizer: Localizer, pictures: Path, tmp_path: Path) -> None:
    for folder in ("authentic", "manipulated"):
        (tmp_path / folder).symlink_to(pictures / folder)
    rows = open_set(DataConfig(root=str(tmp_path), layout="folders", workers=0), masks=True)
    figures = set_scores(evaluate_set(localizer, rows)).figures
    assert figures["i_auc"] is not None
    assert figures["p_f1.coarse"] is None


def test_command_on_two_processes_writes_the_digits_of_one(
    model_folder: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = [
        str(model_folder),
        str(model_folder),
        "--data.root",
        str(pictures),
        "--data.layout",
        "folders",
    ]
    arguments += ["--data.workers", "0", "--protocol", "all", "--prompts", "box", "box_point"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]

    def files(name: str) -> list[str]:
        return ["--cache", str(tmp_path / f"cache-{name}"), "--output", str(tmp_path / f"{name}.json")]

    done = subprocess.run(
        [*launch, "cabl_cgsr", "evaluate", *arguments, *files("two")],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert main(["evaluate", *arguments, *files("one")]) == 0
    torch.set_num_threads(threads)
    two, one = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("two", "one"))
    assert one == two
    assert one["refiner"] == "grabcut"
    assert [model["model"] for model in one["models"]] == [str(model_folder)] * 2
    printed = capsys.readouterr().out
    assert "trufor.box_point" in printed
    assert "± 0.000" in printed, "no spread between a model and itself"


def test_mistakes_are_one_sentence(model_folder: Path, pictures: Path, small_config: ModelConfig) -> None:
    with pytest.raises(UserError, match="no model given"):
        run(EvaluateOptions(models=()))
    with pytest.raises(UserError, match="no test set"):
        open_sets(DataConfig())
    with pytest.raises(UserError, match="choose one of"):
        open_sets(DataConfig(), [f"atlas={pictures}"])
    with pytest.raises(UserError, match="named twice"):
        open_sets(DataConfig(root=str(pictures), layout="folders"), [f"folders={pictures}"])
    for change in ("cam.union", "cam.colour=1", "data.root=x", "cam.union=none", "cam.sizes=[]"):
        with pytest.raises(UserError, match=r"--change"):
            with_changes(small_config, [change])
    assert with_changes(small_config, ["cam.sizes=[64]", "prompts.threshold=otsu"]).cam.sizes == (64,)
