"""Metrics of sets: the cache, the prompts, the protocols, the intervals, and any number of processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load, save_file

from cabl_cgsr import set_inference
from cabl_cgsr.cli import main
from cabl_cgsr.config import DataConfig, ModelConfig
from cabl_cgsr.data import load_image, load_levels, load_mask, open_set
from cabl_cgsr.evaluate import collect_rows, image_metrics, open_sets, run
from cabl_cgsr.inference import localize, network_maps, prepare_views
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.options import EvaluateOptions, with_changes
from cabl_cgsr.prediction_cache import PredictionCache, model_key
from cabl_cgsr.prompts import make_prompts
from cabl_cgsr.scores import COARSE, average, definitions, over_models, set_scores
from papers_shared.errors import UserError
from papers_shared.metrics import ForensicsMetrics
from papers_shared.metrics.forensics import PROTOCOLS
from papers_shared.sam import GrabCut

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def data(image_root: Path) -> DataConfig:
    return DataConfig(root=str(image_root), layout="folders", workers=0)


@pytest.fixture(scope="module")
def scored(localizer: Localizer, data: DataConfig):
    return collect_rows(
        localizer,
        open_set(data, masks=True),
        refiner=GrabCut(),
        variants=("null", "point", "box", "box_point"),
    )


class Recording(GrabCut):
    """How many images went through it together."""

    def __init__(self) -> None:
        super().__init__()
        self._batches: list[int] = []

    def set_images(self, images: Sequence[np.ndarray]) -> None:
        self._batches.append(len(images))


def test_images_are_encoded_together_and_stored_answers_cost_none(
    localizer: Localizer, data: DataConfig, scored, tmp_path: Path
) -> None:
    rows, refiner, cache = open_set(data, masks=True), Recording(), PredictionCache(tmp_path)
    manipulated = sum(rows["label"])
    how = {"refiner": refiner, "variants": ("box", "box_point"), "cache": cache, "batch_size": len(rows)}
    together = collect_rows(localizer, rows, **how)
    assert refiner._batches == [manipulated]
    metrics, alone = set_scores(together).metrics, set_scores(scored).metrics
    assert metrics == pytest.approx({name: alone[name] for name in metrics}, abs=1e-3)
    again = collect_rows(localizer, rows, **how)
    assert refiner._batches == [manipulated, 0]
    assert set_scores(again).metrics == metrics


def test_metrics_are_those_of_the_steps_one_by_one(localizer: Localizer, data: DataConfig, scored) -> None:
    """Score, coarse mask and refined mask of each image, computed here without cache, loader and metrics."""
    rows, f1 = open_set(data, masks=True), {COARSE: [], "box_point": []}
    scores, labels, segmenter = [], [], GrabCut()
    for row in rows:
        image = load_image(row)
        views = [view[None] for view in prepare_views(Image.fromarray(image), localizer.config)]
        coarse = localize(network_maps(localizer, views, [image.shape[:2]])[0], localizer.config)
        scores.append(coarse.score)
        labels.append(row["label"])
        if not row["label"]:
            continue
        truth, prompts = load_mask(row), make_prompts(coarse.raw_map, coarse.mask, localizer.config.prompts)
        answers = {COARSE: coarse.mask, "box_point": coarse.mask}
        if not prompts.empty:
            segmenter.set_image(image)
            found = segmenter.predict(prompts.box_xyxy, prompts.points_xy, prompts.labels).masks[0]
            answers["box_point"] = found if found.any() else coarse.mask
        for name, mask in answers.items():
            tp = (mask & truth).sum()
            f1[name].append(2 * tp / (mask.sum() + truth.sum() + 1e-6))
    metrics = set_scores(scored).metrics
    positive = np.array(scores)[np.array(labels) == 1]
    negative = np.array(scores)[np.array(labels) == 0]
    assert metrics["i_auc"] == pytest.approx(np.mean(positive[:, None] > negative[None]), abs=1e-12)
    for name, values in f1.items():
        assert metrics[f"p_f1.{name}"] == pytest.approx(np.mean(values), abs=1e-9)
    assert metrics["p_f1.box"] != metrics[f"p_f1.{COARSE}"], "the refiner did something"
    assert set(metrics) == {"i_auc", *(f"p_f1.{name}" for name in (COARSE, "point", "box", "box_point"))}


@pytest.mark.parametrize(
    "options", [[], ["--fast"], ["--sizes", "32", "--no-mirror", "--change", "cam.union=sum"]]
)
def test_scoring_what_predict_wrote_gives_the_metrics_of_evaluate(
    model_folder: Path, image_root: Path, data: DataConfig, options: list[str], tmp_path: Path
) -> None:
    """I-AUC from predictions.jsonl and P-F1 from the masks on disk, refined and not, to the last digit."""
    truth = {row["name"]: row for row in open_set(data, masks=True)}
    images = [str(image_root / kind) for kind in ("authentic", "manipulated")]
    protocols, file = set(), tmp_path / "evaluation.json"
    evaluated = [
        "evaluate",
        str(model_folder),
        "--data.root",
        data.root,
        "--data.layout",
        "folders",
        *options,
    ]
    assert (
        main([*evaluated, "--data.workers", "0", "--cache", str(tmp_path / "c"), "--output", str(file)]) == 0
    )
    (model,) = json.loads(file.read_text())["models"]
    expected = model["sets"][0]["metrics"]
    protocols.add(model["protocol"])
    for output, refiner in ((COARSE, "none"), ("box_point", "grabcut")):
        folder = tmp_path / refiner
        predicted = ["predict", str(model_folder), *images, "--output", str(folder), *options]
        assert main([*predicted, "--refiner", refiner, "--always-refine"]) == 0
        metrics = ForensicsMetrics()
        for line in (folder / "predictions.jsonl").read_text().splitlines():
            record = json.loads(line)
            row = truth[Path(record["file"]).stem]
            mask = np.asarray(Image.open(folder / record["mask"])) > 0
            metrics.update(
                row["name"], label=row["label"], score=record["score"], pixel_map=mask, mask=load_levels(row)
            )
            protocols.add(record["protocol"])
        scores = metrics.compute()
        assert scores.i_auc == expected["i_auc"]
        assert scores.p_f1 == expected[f"p_f1.{output}"]
    assert len(protocols) == 1


def test_evaluations_of_other_sets_models_and_protocols_have_other_files(
    model_folder: Path, image_root: Path, tmp_path: Path
) -> None:
    for name in ("best", "last"):
        shutil.copytree(model_folder, tmp_path / "run" / name)
    (tmp_path / "other").symlink_to(image_root)
    best, last = str(tmp_path / "run/best"), str(tmp_path / "run/last")
    commands = [
        [best, "--data.root", str(image_root)],
        [last, "--data.root", str(image_root)],
        [best, last, "--data.root", str(image_root)],
        [best, "--data.root", str(tmp_path / "other")],
        [best, "--data.root", str(image_root), "--sets", str(tmp_path / "other")],
        [best, "--data.root", str(image_root), "--protocol", "all"],
        [best, "--data.root", str(image_root), "--fast"],
        [best, "--data.root", str(image_root), "--prompts", "box"],
        [best, "--data.root", str(image_root), "--change", "prompts.threshold=0.4"],
    ]
    more = ["--refiner", "none", "--draws", "0", "--data.workers", "0", "--cache", str(tmp_path / "cache")]
    for number, command in enumerate(commands, start=1):
        assert main(["evaluate", *command, *more]) == 0
        assert len(list((tmp_path / "run").glob("*-evaluation-*.json"))) == number, command


def test_every_protocol_has_its_metric_and_definition(scored) -> None:
    scores, explained = set_scores(scored, "all"), definitions("all")
    assert set(PROTOCOLS) < set(explained)
    outputs = (COARSE, "point", "box", "box_point")
    assert {f"{protocol}.{output}" for protocol in PROTOCOLS for output in outputs} <= set(scores.metrics)
    assert all(value is not None and 0 <= value <= 1 for value in scores.metrics.values())
    assert {name.partition(".")[0] for name in scores.metrics} == set(explained)
    assert scores.metrics["imdlbenco_every_image.coarse"] < scores.metrics["p_f1.coarse"]


def test_cached_predictions_cost_no_second_pass(
    localizer: Localizer, data: DataConfig, scored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, cache = open_set(data, masks=True), PredictionCache(tmp_path)
    options = {"refiner": GrabCut(), "variants": ("box_point",), "cache": cache, "batch_size": 5}
    first = set_scores(collect_rows(localizer, rows, **options)).metrics
    assert first["p_f1.coarse"] == pytest.approx(set_scores(scored).metrics["p_f1.coarse"], abs=1e-3)

    def no_pass(*_: object) -> None:
        raise AssertionError("the network ran again")

    monkeypatch.setattr(set_inference, "network_maps", no_pass)
    monkeypatch.setattr(GrabCut, "set_image", no_pass)
    assert set_scores(collect_rows(localizer, rows, **options)).metrics == first
    stricter = with_changes(localizer.config, ["prompts.threshold=0.7"])
    assert collect_rows(localizer, rows, config=stricter, cache=cache, batch_size=5).outputs[COARSE]
    summed = with_changes(localizer.config, ["cam.union=sum"])
    with pytest.raises(AssertionError, match="ran again"):
        collect_rows(localizer, rows, config=summed, cache=cache, batch_size=5)

    for path in (tmp_path / "predictions").rglob("*.safetensors"):
        path.write_bytes(b"cut short")
    with pytest.raises(AssertionError, match="ran again"):
        collect_rows(localizer, rows, cache=cache, batch_size=5)


def test_the_key_knows_weights_and_precision(localizer: Localizer) -> None:
    other = Localizer.from_config(localizer.config)
    other.load_state_dict(localizer.state_dict())
    assert model_key(other) == model_key(localizer)
    assert model_key(other, precision="bf16") != model_key(localizer)
    with torch.no_grad():
        other.trans_cls_head.bias.add_(1)
    assert model_key(other) != model_key(localizer)


def test_labels_alone_give_the_same_area(localizer: Localizer, data: DataConfig, scored) -> None:
    result = image_metrics(localizer, open_set(data, masks=False), accelerator=Accelerator(cpu=True))
    assert result["i_auc"] == pytest.approx(set_scores(scored).metrics["i_auc"], abs=1e-12)
    assert result["images"] == 12


def test_intervals_hold_the_metrics_and_the_average_is_of_sets(scored) -> None:
    one = set_scores(scored, draws=200)
    low, high = one.intervals["p_f1.coarse"]
    assert low <= one.metrics["p_f1.coarse"] <= high
    other = replace(one, metrics=dict.fromkeys(one.metrics, 0.5))
    both = average([one, other])
    assert both.metrics["i_auc"] == pytest.approx((one.metrics["i_auc"] + 0.5) / 2)
    assert both.images == 24
    assert set(both.intervals) == set(one.intervals)


def test_spread_over_models(scored) -> None:
    one = set_scores(scored, draws=0)
    shifted = replace(one, metrics={name: value + 0.2 for name, value in one.metrics.items()})
    ((name, spread),) = over_models([[one], [shifted]])
    assert name == one.name
    assert spread["i_auc"] == pytest.approx((one.metrics["i_auc"] + 0.1, np.sqrt(2) / 10))


def test_a_set_without_masks_has_an_area_only(localizer: Localizer, image_root: Path, tmp_path: Path) -> None:
    for folder in ("authentic", "manipulated"):
        (tmp_path / folder).symlink_to(image_root / folder)
    rows = open_set(DataConfig(root=str(tmp_path), layout="folders", workers=0), masks=True)
    metrics = set_scores(collect_rows(localizer, rows)).metrics
    assert metrics["i_auc"] is not None
    assert metrics["p_f1.coarse"] is None


def test_command_on_two_processes_writes_the_digits_of_one(
    model_folder: Path, image_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = [
        str(model_folder),
        str(model_folder),
        "--data.root",
        str(image_root),
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


def spoilt(image_root: Path, folder: Path) -> DataConfig:
    """A set with an image, a mask and a link that cannot be read."""
    shutil.copytree(image_root, folder)
    (folder / "authentic" / "a01.png").write_bytes(b"no image")
    (folder / "manipulated" / "m02.png").write_bytes((folder / "manipulated" / "m02.png").read_bytes()[:200])
    (folder / "masks" / "m03.png").write_bytes(b"no mask")
    (folder / "masks" / "m04.png").unlink()
    (folder / "masks" / "m04.png").symlink_to(folder / "nowhere.png")
    return DataConfig(root=str(folder), layout="folders", workers=0)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_one_bad_file_does_not_end_an_evaluation(
    model_folder: Path, image_root: Path, tmp_path: Path, workers: str, capsys: pytest.CaptureFixture
) -> None:
    data = spoilt(image_root, tmp_path / "set")
    command = ["evaluate", str(model_folder), "--data.root", data.root, "--data.workers", workers]
    command += ["--cache", str(tmp_path / "c"), "--output", str(tmp_path / "e.json"), "--batch-size", "5"]
    assert main(command) == 1
    (found,) = json.loads((tmp_path / "e.json").read_text())["models"][0]["sets"]
    assert found["images"] == 8
    assert set(found["failed"]) == {"a01", "m02", "m03", "m04"}
    assert "not an image" in found["failed"]["a01"]
    assert found["metrics"]["p_f1.box_point"] is not None
    told = capsys.readouterr().err
    assert "failed: m03" in told
    assert "4 images could not be scored" in told
    assert "Traceback" not in told


def test_an_evaluation_of_broken_files_or_weights_alone_is_one_sentence(
    localizer: Localizer, image_root: Path, tmp_path: Path
) -> None:
    rows = open_set(DataConfig(root=str(image_root)), masks=True)
    broken = Localizer.from_config(localizer.config)
    with torch.no_grad():
        broken.trans_cls_head.weight.fill_(float("nan"))
    found = collect_rows(broken, rows)
    assert len(found.failed) == 12
    with pytest.raises(UserError, match=r"no image could be scored; a00: .*(NaN|not finite)"):
        set_scores(found)
    with pytest.raises(UserError, match="the image score is not finite, as those of 12 of 12"):
        image_metrics(broken, open_set(DataConfig(root=str(image_root)), masks=False))


class Failing(GrabCut):
    """It refuses one image."""

    def __init__(self, refused: np.ndarray) -> None:
        super().__init__()
        self._refused = refused

    def set_image(self, image: np.ndarray) -> None:
        if np.array_equal(image, self._refused):
            raise UserError("this one is too much")
        super().set_image(image)


def test_a_refiner_that_fails_on_one_image_loses_that_one(
    localizer: Localizer, data: DataConfig, scored
) -> None:
    rows = open_set(data, masks=True)
    (refused,) = (row for row in rows if row["name"] == "m02")
    options = {"variants": ("null", "point", "box", "box_point"), "batch_size": len(rows)}
    found = collect_rows(localizer, rows, refiner=Failing(load_image(refused)), **options)
    assert found.failed == {"m02": "this one is too much"}
    for output, metrics in found.outputs.items():
        assert metrics.rows.keys() == scored.outputs[output].rows.keys() - {"m02"}


def test_no_result_takes_the_place_of_another(model_folder: Path, image_root: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "other")
    shutil.copytree(image_root, tmp_path / "data" / image_root.name)
    file = tmp_path / "e.json"
    more = [
        "--data.workers",
        "0",
        "--refiner",
        "none",
        "--draws",
        "0",
        "--output",
        str(file),
        "--cache",
        str(tmp_path / "c"),
    ]
    first = ["evaluate", str(model_folder), "--data.root", str(image_root), *more]
    assert main(first) == 0
    written = file.read_bytes()
    assert main(first) == 0, "the same again"
    assert file.read_bytes() == written
    for command in (
        ["evaluate", str(tmp_path / "other"), "--data.root", str(image_root), *more],
        ["evaluate", str(model_folder), "--data.root", str(tmp_path / "data" / image_root.name), *more],
        [*first, "--fast"],
    ):
        assert main(command) == 2
    assert file.read_bytes() == written
    file.write_text("notes of mine")
    assert main(first) == 2
    assert file.read_text() == "notes of mine"
    assert main([*first[:-3], str(tmp_path), *first[-2:]]) == 2, "a folder"


def test_damaged_entries_of_the_cache_are_made_anew(
    localizer: Localizer, data: DataConfig, tmp_path: Path
) -> None:
    rows, cache = open_set(data, masks=True), PredictionCache(tmp_path)
    options = {"refiner": GrabCut(), "variants": ("box_point",), "cache": cache}
    metrics = set_scores(collect_rows(localizer, rows, **options)).metrics

    def scores_changed(path: Path, tensors: dict[str, torch.Tensor]) -> None:
        save_file(
            {name: tensor * 0 + 7 if name == "scores" else tensor for name, tensor in tensors.items()}, path
        )

    def cut(path: Path, tensors: dict[str, torch.Tensor]) -> None:
        path.write_bytes(path.read_bytes()[:-9])

    def entry_missing(path: Path, tensors: dict[str, torch.Tensor]) -> None:
        save_file(dict(list(tensors.items())[1:]), path)

    def array(path: Path, tensors: dict[str, torch.Tensor]) -> None:
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))

    def folder(path: Path, tensors: dict[str, torch.Tensor]) -> None:
        path.unlink()
        path.mkdir()

    def other_key(path: Path, tensors: dict[str, torch.Tensor]) -> None:
        shutil.copy(next(other for other in paths if other != path), path)

    for spoil in (scores_changed, cut, entry_missing, array, folder, other_key):
        paths = [path for path in (tmp_path / "predictions").rglob("*.safetensors") if path.is_file()]
        assert paths
        content = {path: path.read_bytes() for path in paths}
        for path in paths:
            spoil(path, load(content[path]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a folder in place of a file: nothing more is kept
            assert set_scores(collect_rows(localizer, rows, **options)).metrics == metrics
        for path in (tmp_path / "predictions").rglob("*.safetensors"):
            if path.is_dir():
                path.rmdir()
        for path in paths:
            path.write_bytes(content[path])


def test_mistakes_are_one_sentence(model_folder: Path, image_root: Path, small_config: ModelConfig) -> None:
    with pytest.raises(UserError, match="no model given"):
        run(EvaluateOptions(models=()))
    with pytest.raises(UserError, match="no test set"):
        open_sets(DataConfig())
    with pytest.raises(UserError, match="choose one of"):
        open_sets(DataConfig(), [f"atlas={image_root}"])
    with pytest.raises(UserError, match="named twice"):
        open_sets(DataConfig(root=str(image_root), layout="folders"), [f"folders={image_root}"])
    for change in ("cam.union", "cam.colour=1", "data.root=x", "cam.union=none", "cam.sizes=[]"):
        with pytest.raises(UserError, match=r"--change"):
            with_changes(small_config, [change])
    assert with_changes(small_config, ["cam.sizes=[64]", "prompts.threshold=otsu"]).cam.sizes == (64,)
