"""The page's server, asked by programs; in a browser it is tested with the whole tree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gradio_client import handle_file
from page_clients import check_odd_files, client, run_readme, served
from PIL import Image
from shapes import small

from papers_shared import app
from papers_shared.errors import UserError
from papers_shared.provenance import Origin
from papers_shared.sam import GrabCut
from plvl.app import draw_examples, page, prepared
from plvl.modeling.plvl import PLVL
from plvl.options import AppOptions
from plvl.tokenizer import VOCABULARY, make_vocabulary

WORDS = ["the red block", "left of the blue one", "the dog"]


@pytest.fixture(scope="module")
def model() -> PLVL:
    torch.manual_seed(0)
    config = small(Path(), Path()).model
    model = PLVL.from_config(config).eval()
    model.extra_files = {VOCABULARY: make_vocabulary(WORDS, config.vocab_size)}
    model.origin = Origin()  # answers as a trained one does
    return model


@pytest.fixture(scope="module")
def address(model: PLVL) -> Iterator[str]:
    with (
        app.server_folder("plvl") as folder,
        served(page(model, AppOptions(), folder, name="small", toy=False)) as address,
    ):
        yield address


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (50, 90, 3), np.uint8)).save(path)
    return path


def test_answers_are_those_of_predict_and_the_image_is_encoded_once(
    model: PLVL, address: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = model.predict(photo, WORDS)
    calls: list[int] = []
    encode = PLVL.encode_image
    monkeypatch.setattr(PLVL, "encode_image", lambda *given: calls.append(1) or encode(*given))
    found = [client(address, tmp_path).predict(handle_file(photo), [one], api_name="/find") for one in WORDS]
    together = client(address, tmp_path).predict(handle_file(photo), WORDS, api_name="/find")
    assert len(calls) == 1, "once for three sentences and then for three at a time"
    for number, grounding in enumerate(expected):
        for answer, index in ((found[number], 0), (together, number)):
            record = answer["records"][index]
            assert record["expression"] == WORDS[number]
            assert record["box_xyxy"] == pytest.approx(grounding.box_xyxy, abs=1e-3)
            assert record["score"] == pytest.approx(grounding.score, abs=1e-5)
            mask = np.asarray(Image.open(answer["masks"][index])) > 0
            assert mask.shape == (50, 90)
            assert (mask == grounding.mask).mean() > 0.999


def test_wrong_files_are_one_sentence_each(address: str, tmp_path: Path) -> None:
    check_odd_files(address, tmp_path, "/find", ["the dog"])


def test_wrong_sentences_are_one_sentence_each(address: str, photo: Path, tmp_path: Path) -> None:
    one = client(address, tmp_path)
    with pytest.raises(Exception, match="the sentence has 10,000 characters, and 1,000 is the most"):
        one.predict(handle_file(photo), ["x" * 10_000], api_name="/find")
    for sentences in ("the dog", [3], None):
        with pytest.raises(Exception, match="sentences are a list of texts"):
            one.predict(handle_file(photo), sentences, api_name="/find")
    found = one.predict(handle_file(photo), ["the dog " * 30], api_name="/find")
    assert any("is cut after" in warning for warning in found["records"][0]["warnings"])


def test_the_lines_of_the_readme(address: str, photo: Path, tmp_path: Path) -> None:
    found, printed = run_readme(Path(__file__).parents[1] / "README.md", address, tmp_path)
    assert [record["expression"] for record in found["records"]] == ["the dog", "the left bicycle"]
    (line,) = [line for line in printed.splitlines() if line.startswith("data:")]
    (record,) = json.loads(line[5:])[0]["records"]
    assert record["expression"] == "the dog"
    assert record["box_xyxy"] == pytest.approx(found["records"][0]["box_xyxy"], abs=1e-3)


def test_a_refiner_makes_the_mask(model: PLVL, photo: Path, tmp_path: Path) -> None:
    (expected,) = model.predict(photo, ["the dog"])
    refiner = GrabCut()
    refiner.set_image(np.asarray(Image.open(photo)))
    mask = refiner.predict(expected.box_xyxy).masks[0]
    options = AppOptions(refiner="grabcut")
    with (
        app.server_folder("plvl") as folder,
        served(page(model, options, folder, name="small", toy=False)) as address,
    ):
        found = client(address, tmp_path).predict(handle_file(photo), ["the dog"], api_name="/find")
    assert found["records"][0]["refiner"] == "grabcut"
    assert np.array_equal(np.asarray(Image.open(found["masks"][0])) > 0, mask)


def test_a_model_that_was_never_trained_is_refused(
    model: PLVL, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PAPERS_UNTRAINED")
    untrained = PLVL.from_config(model.config)
    untrained.extra_files = model.extra_files
    options = AppOptions(str(untrained.save_pretrained(tmp_path / "model")))
    with pytest.raises(UserError, match=r"never trained.*--untrained"), prepared(options):
        pass
    with prepared(replace(options, untrained=True)) as built, served(built) as address:
        found = client(address, tmp_path).predict(handle_file(photo), ["the dog"], api_name="/find")
        assert found["records"][0]["untrained"]


def test_the_page_of_a_demo_says_that_its_model_is_a_toy(
    model: PLVL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model.save_pretrained(tmp_path / "plvl-demo/run-seed0-steps9/best")
    model.save_pretrained(tmp_path / "plvl-demo/run-seed0-steps9-blind/best")
    with prepared(AppOptions()) as built:
        written = json.dumps(built.get_config_file(), default=str)
    assert "toy model" in written
    assert "steps9/best" in written, "the language-blind model is no answer"


def test_examples_are_scenes_with_a_sentence_about_each(tmp_path: Path) -> None:
    rows = draw_examples(tmp_path)
    assert len(rows) == 4
    for path, sentence in rows:
        assert Image.open(path).size == (64, 64)
        assert len(sentence.split()) > 1
