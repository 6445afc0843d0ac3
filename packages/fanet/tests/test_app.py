"""The page's server, asked by programs; in a browser it is tested with the whole tree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gradio_client import handle_file
from page_clients import check_odd_files, client, run_readme, served
from PIL import Image

from fanet.app import page, prepared
from fanet.config import ZEROWASTE_CLASSES, ModelConfig
from fanet.inference import predict
from fanet.modeling.segmenter import Segmenter
from fanet.options import AppOptions
from papers_shared import app
from papers_shared.errors import UserError
from papers_shared.provenance import Origin

CONFIG = ModelConfig(
    backbone="test_fanet",
    class_names=ZEROWASTE_CLASSES,
    decoder_channels=16,
    auxiliary=False,
    test_scale=(96, 64),
)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    model = Segmenter.from_config(CONFIG).eval()
    model.origin = Origin()  # answers as a trained one does
    return model


@pytest.fixture(scope="module")
def address(segmenter: Segmenter) -> Iterator[str]:
    with (
        app.server_folder("fanet") as folder,
        served(page(segmenter, AppOptions(flip=True), folder, name="small", toy=False)) as address,
    ):
        yield address


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (50, 90, 3), np.uint8)).save(path)
    return path


def test_answers_are_those_of_predict_and_the_network_is_asked_once(
    segmenter: Segmenter, address: str, photo: Path, tmp_path: Path
) -> None:
    expected = predict(segmenter, photo, flip=True)
    calls: list[int] = []
    hook = segmenter.register_forward_hook(lambda *_: calls.append(1))
    try:
        answers = [
            client(address, tmp_path).predict(handle_file(photo), api_name="/segment") for _ in range(3)
        ]
    finally:
        hook.remove()
    assert len(calls) == 2, "the image and its mirror image, once"
    for found in answers:
        assert np.array_equal(np.asarray(Image.open(found["mask"])), expected.mask)
        drawn = np.asarray(Image.open(found["overlay"]).convert("RGB"))
        assert np.array_equal(drawn, np.asarray(expected.draw()))
        assert found["record"]["shares"] == pytest.approx(expected.shares)
        assert found["record"]["protocol"] == expected.protocol
        assert found["record"]["file"] == "photo.jpg"


def test_wrong_files_are_one_sentence_each(address: str, tmp_path: Path) -> None:
    check_odd_files(address, tmp_path, "/segment")


def test_the_lines_of_the_readme(address: str, photo: Path, tmp_path: Path) -> None:
    found, printed = run_readme(Path(__file__).parents[1] / "README.md", address, tmp_path)
    assert Image.open(found["mask"]).size == (90, 50)
    (line,) = [line for line in printed.splitlines() if line.startswith("data:")]
    assert json.loads(line[5:])[0]["record"] == found["record"]


def test_a_model_that_was_never_trained_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAPERS_UNTRAINED")
    options = AppOptions(str(Segmenter.from_config(CONFIG).save_pretrained(tmp_path / "model")))
    with pytest.raises(UserError, match=r"never trained.*--untrained"), prepared(options):
        pass
    with prepared(replace(options, untrained=True)) as built, served(built) as address:
        found = client(address, tmp_path).predict(handle_file(_grey(tmp_path)), api_name="/segment")
        assert found["record"]["untrained"]


def test_the_page_of_a_demo_says_that_its_model_is_a_toy(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    segmenter.save_pretrained(tmp_path / "fanet-demo/run-seed0-steps9/best")
    for model, toy in (("", True), ("fanet-demo/run-seed0-steps9/best", False)):
        with prepared(AppOptions(model)) as built:
            assert ("toy model" in json.dumps(built.get_config_file(), default=str)) == toy


def _grey(folder: Path) -> Path:
    path = folder / "grey.png"
    Image.new("L", (40, 30), 90).save(path)
    return path
