"""One image and sentences, many images, odd sentences, and the files that come of it."""

from __future__ import annotations

import copy
import csv
import json
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from pyarrow import parquet
from pycocotools.coco import COCO
from shapes import small

from papers_shared.boxes import cxcywh_to_xyxy
from papers_shared.errors import UserError
from papers_shared.sam import GrabCut
from plvl.inference import Grounding, TextFeatures
from plvl.modeling.plvl import PLVL
from plvl.options import PredictOptions
from plvl.predict import jobs_of, predict_many, read_sentences, run
from plvl.tokenizer import VOCABULARY, make_vocabulary, tokenizer_of
from plvl.transforms import prepare_image, stretch_on

WORDS = ["the red block", "left of the blue one"]


@pytest.fixture(scope="module")
def model() -> PLVL:
    torch.manual_seed(0)
    config = small(Path(), Path()).model
    model = PLVL.from_config(config).eval()
    model.extra_files = {VOCABULARY: make_vocabulary(WORDS, config.vocab_size)}
    return model


@pytest.fixture
def image() -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 255, (50, 90, 3), np.uint8)
    return Image.fromarray(pixels)


def test_a_grounding_is_the_networks_output_in_pixels_of_the_image(model: PLVL, image: Image.Image) -> None:
    result = model.predict(image, "the red block")
    assert isinstance(result, Grounding)
    ids, mask = tokenizer_of(model)(["the red block"])
    pixels = prepare_image(image, model.config)
    square = stretch_on(pixels.device, model.config)(pixels[None], [(18, 32)])
    with torch.no_grad():
        output = model(square, ids, mask)
    corners = cxcywh_to_xyxy(output.boxes[0]).clamp(0, 1) * torch.tensor([90, 50, 90, 50])
    assert result.box_xyxy == pytest.approx(corners.tolist(), abs=1e-3)
    probabilities = F.interpolate(output.mask_logits.sigmoid(), (50, 90), mode="bilinear", align_corners=True)
    assert result.mask.shape == (50, 90)
    assert ((probabilities[0, 0].numpy() >= 0.5) == result.mask).mean() > 0.999
    assert result.score == pytest.approx(output.score_logits.sigmoid().max().item(), abs=1e-5)
    assert result.score_map.shape == (4, 4)
    assert result.warnings == ()


def test_several_sentences_are_each_answered_as_if_alone(model: PLVL, image: Image.Image) -> None:
    sentences = ["the red block", "left of the blue one", "the red block", "one"]
    together = model.predict(image, sentences, batch_size=3)
    assert [grounding.sentence for grounding in together] == sentences
    for grounding in together:
        alone = model.predict(image, grounding.sentence)
        assert grounding.box_xyxy == pytest.approx(alone.box_xyxy, abs=1e-3)
        assert (grounding.mask == alone.mask).mean() > 0.999


def test_shared_work_is_done_once(model: PLVL, image: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []

    def counted(name: str) -> None:
        original = getattr(PLVL, name)

        def call(self: PLVL, first: torch.Tensor, *rest: torch.Tensor) -> object:
            calls.append((name, len(first)))
            return original(self, first, *rest)

        monkeypatch.setattr(PLVL, name, call)

    counted("encode_image")
    counted("encode_text")
    text = TextFeatures(model)
    model.predict(image, ["red", "blue", "red"], text=text)
    model.predict(image, ["blue", "one"], text=text)
    assert calls == [("encode_image", 1), ("encode_text", 2), ("encode_image", 1), ("encode_text", 1)]


@pytest.mark.parametrize(
    ("sentence", "warning"),
    [
        ("", "is empty"),
        ("red " * 200, "more than 6 word pieces"),
        ("the 😀 block", "not in the vocabulary of the model: 😀"),
        ("красный блок", "no word of the sentence is in the vocabulary"),
    ],
)
def test_odd_sentences_are_answered_and_warned_of(
    model: PLVL, image: Image.Image, sentence: str, warning: str
) -> None:
    with pytest.warns(UserWarning, match=warning):
        result = model.predict(image, sentence)
    assert warning in result.warnings[0]
    assert np.isfinite(result.box_xyxy).all()
    result.draw()


def test_drawings(model: PLVL, image: Image.Image) -> None:
    result = model.predict(image, "the red block left of the blue one " * 2 + "block")
    drawn = result.draw()
    assert drawn.width == 90
    assert drawn.height > 50 + 3 * 12, "the sentence takes several lines"
    wide = result.draw(score_map=True)
    assert wide.width > 2 * 90
    assert result.draw(max_side=45).width == 45
    bare = Grounding(image, "x", (10.0, 5.0, 40.0, 30.0), None, 0.5, None).draw()
    assert bare.getpixel((10, 15)) == (255, 30, 210)
    assert bare.getpixel((25, 15)) == image.getpixel((25, 15))
    half = np.zeros((50, 90), bool)
    half[:, 45:] = True
    masked = Grounding(image, "x", None, half, None, None).draw()
    assert masked.getpixel((10, 15)) == image.getpixel((10, 15))
    assert masked.getpixel((80, 15)) != image.getpixel((80, 15))


def test_a_model_in_training_mode_answers_alike_and_stays_in_it(model: PLVL, image: Image.Image) -> None:
    expected = model.predict(image, "the red block")
    model.train()
    model.head.eval()
    before = copy.deepcopy(model.state_dict())
    found = model.predict(image, "the red block")
    assert model.training
    assert model.decoder.training
    assert not model.head.training
    model.eval()
    assert found.box_xyxy == expected.box_xyxy
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_threads_share_a_model(model: PLVL, image: Image.Image) -> None:
    model.train()
    sentences = ["the red block", "left of the blue one", "one", "block"]
    expected = {sentence: model.predict(image, sentence) for sentence in sentences}
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda sentence: model.predict(image, sentence), sentences * 10))
    assert model.training
    model.eval()
    for grounding in found:
        assert grounding.box_xyxy == expected[grounding.sentence].box_xyxy
        assert (grounding.mask == expected[grounding.sentence].mask).all()


def test_a_result_can_be_pickled(model: PLVL, image: Image.Image) -> None:
    found = model.predict(image, "the red block")
    again = pickle.loads(pickle.dumps(found))
    assert again.box_xyxy == found.box_xyxy
    assert (again.mask == found.mask).all()
    assert again.draw().size == found.draw().size


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_answers(model: PLVL, image: Image.Image, dtype: torch.dtype) -> None:
    half = copy.deepcopy(model).to(dtype).predict(image, "the red block")
    assert half.score == pytest.approx(model.predict(image, "the red block").score, abs=0.02)


def test_a_second_question_keeps_the_answers_to_the_first(
    model: PLVL, image: Image.Image, tmp_path: Path
) -> None:
    image.save(tmp_path / "a.png")
    output = tmp_path / "found"
    predict_many(model, [(tmp_path / "a.png", ["one", "block"])], output)
    with pytest.raises(UserError, match="another set of inputs"):
        predict_many(model, [(tmp_path / "a.png", ["red", "block"])], output)
    records = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    assert [record["expression"] for record in records] == ["one", "block"]
    named = {Path(record["mask"]).name for record in records}
    assert named == {path.name for path in (output / "masks").iterdir()} == {"a-1.png", "a-2.png"}
    (output / "predictions.jsonl").write_text("[]\n")
    with pytest.raises(UserError, match="does not hold predictions of this kind"):
        predict_many(model, [(tmp_path / "a.png", ["one"])], output)


def test_one_bad_image_is_reported_and_the_rest_goes_on(
    model: PLVL, image: Image.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save_pretrained(tmp_path / "model")
    folder = tmp_path / "images"
    folder.mkdir()
    image.save(folder / "a.png")
    (folder / "b.jpg").write_bytes(b"no image")
    image.save(folder / "c.png")
    lines = [
        {"image": "a.png", "expression": ["the red block", "one"], "box": [0, 0, 1, 1]},
        {"image": "b.jpg", "expression": "the red block"},
        {"image": "missing.png", "expression": "the red block"},
        {"image": "c.png", "expression": "блок"},
        {"image": "a.png", "expression": "block"},
    ]
    sentences = tmp_path / "sentences.jsonl"
    sentences.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    output = tmp_path / "out"
    options = PredictOptions(
        model=str(tmp_path / "model"),
        image=str(folder),
        sentences_file=str(sentences),
        output=str(output),
        device="cpu",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(options) == 1
    captured = capsys.readouterr()
    assert "4 of 6 answered" in captured.out
    assert "b.jpg is not an image in a known format" in captured.err
    assert "c.png, 'блок': no word of the sentence is in the vocabulary" in captured.err
    records = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    assert [record["expression"] for record in records[:3]] == ["the red block", "one", "block"]
    assert ["error" in record for record in records] == [False, False, False, True, True, False]
    assert records[5]["warnings"]
    for record in records:
        if "error" not in record:
            mask = np.asarray(Image.open(output / record["mask"]))
            assert mask.shape == (50, 90)
            assert set(np.unique(mask)) <= {0, 255}
            assert Image.open(output / record["overlay"]).width == 90
    assert sorted(path.name for path in (output / "masks").iterdir()) == [
        "a-1.png",
        "a-2.png",
        "a-3.png",
        "c-1.png",
    ]


def test_what_the_command_line_asks_for(tmp_path: Path, image: Image.Image) -> None:
    for name in ("b.png", "a.png"):
        image.save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    jobs = jobs_of(PredictOptions("model", str(tmp_path), ("one", "two")))
    assert jobs == [(tmp_path / "a.png", ["one", "two"]), (tmp_path / "b.png", ["one", "two"])]
    with pytest.raises(UserError, match="nothing to find"):
        jobs_of(PredictOptions("model", str(tmp_path)))
    with pytest.raises(UserError, match="not both"):
        jobs_of(PredictOptions("model", str(tmp_path), ("one",), "file.jsonl"))
    with pytest.raises(UserError, match="is not a folder"):
        jobs_of(PredictOptions("model", str(tmp_path / "a.png"), (), "file.jsonl"))
    with pytest.raises(UserError, match="no such image"):
        jobs_of(PredictOptions("model", str(tmp_path / "c.png"), ("one",)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1, is not JSON"),
        ('{"image": "a.png"}', "line 1: needs `image`"),
        ('\n{"image": "a.png", "expression": [1]}', "line 2: needs `image`"),
        ("\n", "holds no sentence"),
    ],
)
def test_sentence_files_are_checked(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.jsonl").write_text(text)
    with pytest.raises(UserError, match=message):
        read_sentences(tmp_path / "s.jsonl", tmp_path)


def test_results_never_overwrite_images(model: PLVL, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose another --output"):
        predict_many(model, [(tmp_path / "masks" / "a.png", ["one"])], tmp_path)


def test_a_network_for_one_task(image: Image.Image) -> None:
    from dataclasses import replace

    torch.manual_seed(0)
    config = replace(small(Path(), Path()).model, rec=False)
    model = PLVL.from_config(config).eval()
    model.extra_files = {VOCABULARY: make_vocabulary(WORDS, config.vocab_size)}
    result = model.predict(image, "the red block")
    assert (result.box_xyxy, result.score, result.score_map) == (None, None, None)
    assert result.mask.shape == (50, 90)
    result.draw(score_map=True)


def test_a_refiner_turns_each_box_into_a_second_mask(model: PLVL, image: Image.Image, tmp_path: Path) -> None:
    image.save(tmp_path / "a.png")
    segmenter = GrabCut()
    segmenter.set_image(np.asarray(image))
    jobs = [(tmp_path / "a.png", ["one", "block"])]
    plain = predict_many(model, jobs, tmp_path / "plain")
    refined = predict_many(model, jobs, tmp_path / "refined", refiner="grabcut")
    for before, after in zip(plain, refined, strict=True):
        assert before["refined_mask"] is None
        assert (after["refiner"], after["box_xyxy"]) == ("grabcut", before["box_xyxy"])
        mask = np.asarray(Image.open(tmp_path / "refined" / after["refined_mask"]))
        assert np.array_equal(mask > 0, segmenter.predict(box=before["box_xyxy"]).masks[0])
        own = [(tmp_path / name / before["mask"]).read_bytes() for name in ("plain", "refined")]
        assert own[0] == own[1]
        wide = Image.open(tmp_path / "refined" / after["overlay"])
        assert wide.width > 2 * 90
    with pytest.raises(UserError, match="no segmenter 'sam:nowhere'"):
        predict_many(model, jobs, tmp_path / "other", refiner="sam:nowhere")


def test_batches_read_by_processes_answer_as_one_by_one(model: PLVL, tmp_path: Path) -> None:
    """Within float32 noise: a product over a batch is summed in another order."""
    rng, jobs = np.random.default_rng(0), []
    for number in range(9):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (40 + number, 60, 3), dtype=np.uint8)).save(path)
        jobs.append((path, ["red", "the blue one"][: 1 + number % 2]))
    alone = predict_many(model, jobs, tmp_path / "alone")
    calls: list[int] = []
    handle = model.backbone.patch_embed.register_forward_pre_hook(
        lambda _, inputs: calls.append(len(inputs[0]))
    )
    together = predict_many(model, jobs, tmp_path / "together", batch_size=4, workers=2)
    handle.remove()
    assert calls == [4, 4, 1]
    for one, other in zip(alone, together, strict=True):
        assert one.pop("box_xyxy") == pytest.approx(other.pop("box_xyxy"), abs=1e-3)
        assert one.pop("score") == pytest.approx(other.pop("score"), abs=1e-5)
        assert one == other
        masks = [np.asarray(Image.open(tmp_path / name / one["mask"])) for name in ("alone", "together")]
        assert (masks[0] == masks[1]).mean() > 0.999


def test_the_tables_and_the_coco_file_say_what_the_records_say(
    model: PLVL, tmp_path: Path, image: Image.Image
) -> None:
    image.save(tmp_path / "a.png")
    jobs = [(tmp_path / "a.png", ["one", "the red block"]), (tmp_path / "missing.png", ["one"])]
    records = predict_many(model, jobs, tmp_path / "out", coco=True, parquet=True)
    found = COCO(tmp_path / "out/predictions.coco.json")
    assert [one["file_name"] for one in found.dataset["images"]] == [str(tmp_path / "a.png")]
    for one, record in zip(found.dataset["annotations"], records[:2], strict=True):
        assert (one["caption"], one["score"]) == (record["expression"], record["score"])
        x, y, width, height = one["bbox"]
        assert [x, y, x + width, y + height] == pytest.approx(record["box_xyxy"])
        mask = np.asarray(Image.open(tmp_path / "out" / record["mask"])) > 0
        np.testing.assert_array_equal(found.annToMask(one) > 0 if mask.any() else mask, mask)
    with open(tmp_path / "out/predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["expression"] for row in rows] == ["one", "the red block", "one"]
    assert float(rows[1]["x0"]) == pytest.approx(records[1]["box_xyxy"][0], abs=0.01)
    table = parquet.read_table(tmp_path / "out/predictions.parquet").to_pylist()
    assert [row["box_xyxy"] for row in table] == [record.get("box_xyxy") for record in records]
    assert "the red block" in (tmp_path / "out/predictions.html").read_text()
