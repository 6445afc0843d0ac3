"""One image to a `Localization`, many to a folder with evidence sheets; what is refined, and what is said."""

from __future__ import annotations

import csv
import json
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from calibrated_localizer import calibrated
from PIL import Image
from pyarrow import parquet

from cabl_cgsr.cli import main
from cabl_cgsr.config import Calibration, ModelConfig, PromptConfig
from cabl_cgsr.evidence import sheet
from cabl_cgsr.inference import predict
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.options import with_changes
from cabl_cgsr.predict import predict_many
from papers_shared.errors import UserError
from papers_shared.sam import GrabCut, SamResult


class Recorder:
    """Answers with a fixed mask and notes what it was asked."""

    name = "recorder"

    def __init__(self, mask: np.ndarray) -> None:
        self.mask, self.asked, self.images = mask, [], []

    def set_image(self, image: np.ndarray) -> None:
        self.images.append(image)

    def set_images(self, images: object) -> None: ...

    def predict(self, box=None, points=None, labels=None, multimask=False) -> SamResult:
        self.asked.append((box, points, labels, multimask))
        masks = np.stack([np.zeros_like(self.mask), self.mask] if multimask else [self.mask])
        return SamResult(masks, np.arange(len(masks), dtype=np.float32), None)


@pytest.fixture
def image(image_root: Path) -> Path:
    return image_root / "manipulated" / "m00.png"


def test_what_is_judged_manipulated_is_refined_with_its_prompts(localizer: Localizer, image: Path) -> None:
    answer = np.zeros((48, 64), bool)
    answer[10:20, 12:30] = True
    recorder = Recorder(answer)
    found = localizer.predict(image, refiner=recorder, threshold=0.0)
    assert found.verdict == "manipulated"
    assert np.array_equal(found.mask, answer)
    assert found.refiner == "recorder"
    assert recorder.asked == [
        (found.prompts.box_xyxy, found.prompts.points_xy, found.prompts.labels, False),
    ]
    assert np.array_equal(recorder.images[0], np.asarray(Image.open(image)))
    assert found.cam.shape == found.raw_map.shape == found.coarse_mask.shape == (48, 64)
    assert found.cam.min() >= 0
    assert found.cam.max() == pytest.approx(1, abs=1e-3)
    assert list(found.scale_scores) == ["32x32", "32x32 mirrored", "48x48", "48x48 mirrored"]
    assert found.score == pytest.approx(np.mean(list(found.scale_scores.values())))
    (x0, y0, x1, y1), mask = found.prompts.box_xyxy, found.coarse_mask
    assert mask[y0 : y1 + 1, x0 : x1 + 1].sum() > 0
    assert found.draw().size == (64, 48)
    assert found.draw(max_side=32).size == (32, 24)


def test_what_is_judged_authentic_is_refined_only_on_request(localizer: Localizer, image: Path) -> None:
    recorder = Recorder(np.ones((48, 64), bool))
    found = predict(localizer, image, refiner=recorder, threshold=1.0)
    assert found.verdict == "authentic"
    assert found.refined_mask is None
    assert found.not_refined == "judged authentic"
    assert np.array_equal(found.mask, found.coarse_mask)
    assert not recorder.images
    assert predict(localizer, image, refiner=recorder, threshold=1.0, always_refine=True).mask.all()


def test_an_empty_answer_and_no_refiner_leave_the_coarse_mask(localizer: Localizer, image: Path) -> None:
    empty = predict(localizer, image, refiner=Recorder(np.zeros((48, 64), bool)), threshold=0.0)
    assert np.array_equal(empty.mask, empty.coarse_mask)
    without = predict(localizer, image, refiner=None, threshold=0.0)
    assert without.not_refined == "no refiner was given"


def test_the_best_of_several_masks_is_taken_on_request(localizer: Localizer, image: Path) -> None:
    several = Localizer.from_config(
        replace(localizer.config, prompts=PromptConfig(multimask=True, variant="box"))
    )
    several.load_state_dict(localizer.state_dict())
    recorder = Recorder(np.eye(48, 64, dtype=bool))
    found = several.predict(image, refiner=recorder, threshold=0.0)
    assert np.array_equal(found.mask, recorder.mask)
    assert recorder.asked == [(found.prompts.box_xyxy, None, None, True)]


def test_fast_is_one_pass_of_the_middle_size(localizer: Localizer, image: Path) -> None:
    found = localizer.predict(image, refiner=None, fast=True)
    assert list(found.scale_scores) == ["48x48"]
    whole = localizer.predict(image, refiner=None)
    assert found.score == pytest.approx(whole.scale_scores["48x48"], abs=1e-6)
    assert localizer.config.cam.sizes == (32, 48), "the model is left as it was"


def test_images_of_all_kinds_and_modes(localizer: Localizer, image: Path) -> None:
    opened = Image.open(image)
    by_path = localizer.predict(str(image), refiner=None)
    for given in (opened, np.asarray(opened)):
        assert localizer.predict(given, refiner=None).score == by_path.score
    localizer.train()
    try:
        assert localizer.predict(image, refiner=None).score == by_path.score
        assert localizer.training
    finally:
        localizer.eval()
    assert localizer.predict(opened.convert("CMYK"), refiner=None).cam.shape == (48, 64)
    half = localizer.predict(image, refiner=None, precision="bf16").score
    assert half == pytest.approx(by_path.score, abs=0.05)


def test_mistakes_are_one_sentence(localizer: Localizer, image: Path) -> None:
    with pytest.raises(UserError, match="threshold 2"):
        localizer.predict(image, threshold=2)
    with pytest.raises(UserError, match="no such file"):
        localizer.predict("nothing.jpg")
    with pytest.raises(UserError, match="limit"):
        localizer.predict(image, max_pixels=100)
    broken = Localizer.from_config(localizer.config)
    broken.load_state_dict(localizer.state_dict())
    with torch.no_grad():
        broken.trans_cls_head.bias.fill_(float("nan"))
    with pytest.raises(UserError, match=r"NaN|not finite"):
        broken.predict(image)


def test_a_result_is_pickled_without_its_network(localizer: Localizer, image: Path) -> None:
    found = localizer.predict(image, refiner=GrabCut(), threshold=0.0)
    data = pickle.dumps(found)
    assert len(data) < 200_000, "no weights in it"
    again = pickle.loads(data)
    assert again.to_json() == found.to_json()
    assert np.array_equal(again.mask, found.mask)
    assert again.draw().size == found.draw().size


def test_threads_with_other_options_answer_as_each_alone(small_config: ModelConfig, image_root: Path) -> None:
    """One model, left in training mode, and one refiner, shared by four threads."""
    shared = calibrated(small_config)
    shared.train()
    shared.backbone.bn1.eval()  # as a training with frozen statistics leaves it
    modes = [module.training for module in shared.modules()]
    buffers = {name: value.clone() for name, value in shared.named_buffers()}
    config, refiner = shared.config, GrabCut()
    paths = sorted((image_root / "manipulated").glob("*.png"))[:3]
    other = with_changes(config, ["cam.mirror=false", "cam.union=sum", "prompts.variant=box"])
    jobs = [
        (path, {"refiner": refiner, "always_refine": True, **options})
        for path in paths
        for options in (
            {},
            {"fast": True},
            {"config": other},
            {"config": other, "fast": True, "precision": "bf16"},
        )
    ] * 2

    def answer(job: tuple[Path, dict]) -> tuple[dict, bytes, bytes]:
        found = shared.predict(job[0], **job[1])
        return found.to_json(), found.mask.tobytes(), found.raw_map.tobytes()

    alone = [answer(job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(answer, jobs))
    assert [one == other for one, other in zip(alone, together, strict=True)] == [True] * len(jobs)
    assert shared.config is config
    assert [module.training for module in shared.modules()] == modes
    assert all(torch.equal(value, buffers[name]) for name, value in shared.named_buffers())


class Outline(HTMLParser):
    """Counts the tags and notes every address outside the page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.outside += [v or "" for name, v in attrs if name in ("src", "href")]


def test_the_sheet_says_what_was_found_and_needs_nothing_else(localizer: Localizer, image: Path) -> None:
    found = localizer.predict(image, refiner=GrabCut(), threshold=0.0)
    page = sheet(found, file="a <b>.png", model="runs/x/best")
    outline = Outline()
    outline.feed(page)
    assert outline.tags["img"] == 4
    assert "script" not in outline.tags
    assert all(address.startswith("data:image/jpeg;base64,") for address in outline.outside)
    words = re.sub(r"<[^>]+>", " ", page)
    for text in ("a &lt;b&gt;.png: judged manipulated", "grabcut", "48x48 mirrored", f"{found.score:.3f}"):
        assert text in words
    x, y = found.prompts.points_xy[0]
    assert f"({x}, {y})" in words
    quiet = sheet(localizer.predict(image, refiner=None, threshold=1.0))
    assert "not refined" not in quiet
    assert "judged authentic" in quiet


def test_a_folder_with_a_broken_file_goes_on(
    model_folder: Path, image_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("m00.png", "m01.png"):
        (folder / name).write_bytes((image_root / "manipulated" / name).read_bytes())
    (folder / "broken.jpg").write_bytes(b"no image")
    output = tmp_path / "out"
    arguments = ["predict", str(model_folder), str(folder), "--output", str(output), "--always-refine"]
    assert main(arguments) == 1
    records = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    assert ["error" in record for record in records] == [True, False, False]
    assert "broken.jpg" in records[0]["error"]
    for record in records[1:]:
        assert Image.open(output / record["mask"]).size == (64, 48)
        assert set(np.unique(Image.open(output / record["mask"]))) <= {0, 255}
        assert record["refiner"] == "grabcut"
        assert 0 <= record["score"] <= 1
        for kind in ("cam", "overlay", "sheet"):
            assert (output / record[kind]).is_file()
    assert "2 of 3 images judged" in capsys.readouterr().out


def test_results_never_overwrite_their_images(localizer: Localizer, image_root: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    inside = tmp_path / "masks" / "m00.png"
    inside.write_bytes((image_root / "manipulated" / "m00.png").read_bytes())
    with pytest.raises(UserError, match="overwritten by its own result"):
        predict_many(localizer, [inside], tmp_path)


def test_verdicts_follow_the_calibration(localizer: Localizer, image: Path) -> None:
    score = localizer.predict(image, refiner=None).score
    config = replace(localizer.config, calibration=Calibration(temperature=2.0, threshold=0.5, images=40))
    found = localizer.predict(image, refiner=None, config=config)
    assert found.score == score
    assert np.log(found.probability / (1 - found.probability)) == pytest.approx(
        np.log(score / (1 - score)) / 2, abs=1e-6
    )
    near = Calibration(threshold=found.probability + 0.01, unsure=0.02, temperature=2.0, images=40)
    unsure = localizer.predict(image, refiner=GrabCut(), config=replace(config, calibration=near))
    assert unsure.verdict == unsure.to_json()["verdict"] == "can't say"
    assert unsure.refined_mask is not None, "a person wants to see what it may be"
    assert "wrong too often" in sheet(unsure)
    asked = localizer.predict(image, refiner=None, threshold=0.0, config=replace(config, calibration=near))
    assert asked.verdict == "manipulated"


def test_what_was_never_trained_is_not_judged(
    localizer: Localizer,
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.delenv("PAPERS_UNTRAINED")
    fresh = Localizer.from_config(localizer.config)
    with pytest.raises(UserError, match="never trained"):
        fresh.predict(image)
    found = fresh.predict(image, refiner=None, untrained=True)
    assert found.draw().height > 48
    assert "not judged, the model was never trained" in sheet(found)
    command = ["predict", str(fresh.save_pretrained(tmp_path / "m")), str(image), "--refiner", "none"]
    command += ["--output", str(tmp_path / "out")]
    assert main(command) == 2
    assert "--untrained" in capsys.readouterr().err
    assert main([*command, "--untrained"]) == 0
    assert json.loads((tmp_path / "out/predictions.jsonl").read_text())["untrained"] == [
        "backbone",
        "conv_cls_head",
        "trans_cls_head",
    ]


def test_batches_read_by_processes_answer_as_one_by_one(localizer: Localizer, tmp_path: Path) -> None:
    """Within float32 noise, which a map scaled to its own range enlarges: this network's range is tiny."""
    rng, paths = np.random.default_rng(0), []
    for number in range(9):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(rng.integers(0, 256, (40 + number, 60, 3), dtype=np.uint8)).save(paths[-1])
    alone = predict_many(localizer, paths, tmp_path / "alone", threshold=0.0)
    sizes: list[int] = []
    handle = localizer.backbone.conv1.register_forward_pre_hook(
        lambda _, inputs: sizes.append(len(inputs[0]))
    )
    together = predict_many(localizer, paths, tmp_path / "together", threshold=0.0, batch_size=4, workers=2)
    handle.remove()
    assert sizes == [4] * 8 + [1] * 4, "two sizes, each mirrored too"
    for one, other in zip(alone, together, strict=True):
        assert one["verdict"] == other["verdict"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        cams = [np.asarray(Image.open(tmp_path / name / one["cam"])) for name in ("alone", "together")]
        assert cams[0].dtype == np.uint16
        assert cams[0].max() == 65_535
        assert np.abs(cams[0].astype(int) - cams[1]).max() < 65_535 * 1e-2


def test_tables_and_page_say_what_the_records_say(localizer: Localizer, image: Path, tmp_path: Path) -> None:
    records = predict_many(localizer, [image, tmp_path / "missing.png"], tmp_path / "out", parquet=True)
    with open(tmp_path / "out/predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["verdict"] == records[0]["verdict"]
    assert float(rows[0]["probability"]) == records[0]["probability"]
    assert "no such file" in rows[1]["error"]
    (first, second) = parquet.read_table(tmp_path / "out/predictions.parquet").to_pylist()
    assert [list(point) for point in first["points_xy"]] == records[0]["points_xy"]
    assert second["error"] == records[1]["error"]
    assert records[0]["sheet"] in (tmp_path / "out/predictions.html").read_text()
