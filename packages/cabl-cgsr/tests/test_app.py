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

from cabl_cgsr.app import page, prepared
from cabl_cgsr.config import ModelConfig
from cabl_cgsr.inference import predict
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.options import AppOptions
from papers_shared import app
from papers_shared.errors import UserError
from papers_shared.sam import GrabCut

OPTIONS = AppOptions(threshold=0.0, always_refine=True)


@pytest.fixture(scope="module")
def address(localizer: Localizer) -> Iterator[str]:
    with (
        app.server_folder("cabl-cgsr") as folder,
        served(page(localizer, OPTIONS, folder, name="small", toy=False)) as address,
    ):
        yield address


@pytest.fixture
def photo(image_root: Path, tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    Image.open(image_root / "manipulated/m00.png").save(path, quality=95)
    return path


def test_answers_are_those_of_predict(
    localizer: Localizer, address: str, photo: Path, tmp_path: Path
) -> None:
    expected = predict(localizer, photo, threshold=0.0, always_refine=True)
    found = client(address, tmp_path).predict(handle_file(photo), api_name="/judge")
    for name in ("verdict", "score", "probability", "box_xyxy", "refiner", "protocol"):
        value = getattr(expected, name, None) or expected.to_json()[name]
        same = list(value) if isinstance(value, tuple) else value
        assert found["record"][name] == (pytest.approx(same) if isinstance(same, float) else same)
    assert np.array_equal(np.asarray(Image.open(found["mask"])) > 0, expected.mask)
    assert np.array_equal(np.asarray(Image.open(found["map"])), np.rint(expected.cam * 65_535))
    written = Path(found["sheet"]).read_text(encoding="utf-8")
    assert "What the segmenter was asked" in written
    assert "http" not in written.replace("http://www.w3.org", "")


def test_thresholds_and_prompts_ask_the_network_no_second_time(
    localizer: Localizer, address: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    forward = Localizer.forward_maps
    monkeypatch.setattr(Localizer, "forward_maps", lambda *given: calls.append(1) or forward(*given))
    pixels = np.array(Image.open(photo))
    pixels[:8, :8] = 0
    other = tmp_path / "other.png"  # which no other test has shown the server
    Image.fromarray(pixels).save(other)

    def ask(**given: object) -> dict:
        return client(address, tmp_path).predict(handle_file(other), **given, api_name="/judge")

    first = ask()
    network = len(calls)
    assert network == 4, "two sizes, each mirrored"
    shares = [ask(threshold=level)["record"]["coarse_mask_share"] for level in (0.2, 0.5, 0.8)]
    prompts = {"points": [[40, 20], [2, 2]], "labels": [1, 0], "box": [20, 8, 60, 40]}
    asked = ask(**prompts)
    assert len(calls) == network
    cam = np.asarray(Image.open(first["map"])) / 65_535
    assert shares == pytest.approx([(cam > level).mean() for level in (0.2, 0.5, 0.8)], abs=0.02)
    assert shares[0] > shares[2]
    refiner = GrabCut()
    refiner.set_image(pixels)
    expected = refiner.predict(prompts["box"], prompts["points"], prompts["labels"]).masks[0]
    assert np.array_equal(np.asarray(Image.open(asked["mask"])) > 0, expected)
    assert asked["record"]["asked_by_user"]
    assert not first["record"]["asked_by_user"]
    written = Path(asked["sheet"]).read_text(encoding="utf-8")
    assert "the user" in written
    assert "largest part of the coarse mask" not in written


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"points": [[400, 20]], "labels": [1]}, "lies outside the image, which is 64 x 48"),
        ({"points": [[1, 2]], "labels": []}, "1 points need as many labels"),
        ({"points": [["a", 2]], "labels": [1]}, "points are"),
        ({"box": [1, 2, 3]}, "a box is"),
        ({"box": [30, 30, 10, 10]}, "a box is"),
        ({"threshold": 7}, "not in"),
    ],
)
def test_wrong_prompts_are_one_sentence_each(
    address: str, photo: Path, tmp_path: Path, given: dict[str, object], sentence: str
) -> None:
    with pytest.raises(Exception, match=sentence):
        client(address, tmp_path).predict(handle_file(photo), **given, api_name="/judge")


def test_wrong_files_are_one_sentence_each(address: str, tmp_path: Path) -> None:
    check_odd_files(address, tmp_path, "/judge")


def test_the_lines_of_the_readme(address: str, photo: Path, tmp_path: Path) -> None:
    found, printed = run_readme(Path(__file__).parents[1] / "README.md", address, tmp_path)
    assert Image.open(found["mask"]).size == (64, 48)
    (line,) = [line for line in printed.splitlines() if line.startswith("data:")]
    assert json.loads(line[5:])[0]["record"] == found["record"]


def test_without_a_refiner_there_are_no_prompts(localizer: Localizer, photo: Path, tmp_path: Path) -> None:
    options = AppOptions(refiner="none")
    with (
        app.server_folder("cabl-cgsr") as folder,
        served(page(localizer, options, folder, name="small", toy=False)) as address,
    ):
        one = client(address, tmp_path)
        assert one.predict(handle_file(photo), api_name="/judge")["record"]["refiner"] is None
        with pytest.raises(Exception, match="start it with --refiner"):
            one.predict(handle_file(photo), box=[1, 1, 20, 20], api_name="/judge")


def test_a_model_that_was_never_trained_is_refused(
    small_config: ModelConfig, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PAPERS_UNTRAINED")
    options = AppOptions(model=str(Localizer.from_config(small_config).save_pretrained(tmp_path / "model")))
    with pytest.raises(UserError, match=r"never trained.*--untrained"), prepared(options):
        pass
    with prepared(replace(options, untrained=True, refiner="none")) as built, served(built) as address:
        found = client(address, tmp_path).predict(handle_file(photo), api_name="/judge")
        assert found["record"]["untrained"]


def test_the_page_of_a_demo_says_that_its_model_is_a_toy(
    localizer: Localizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    localizer.save_pretrained(tmp_path / "cabl-cgsr-demo/run-seed0-steps9/best")
    with prepared(AppOptions()) as built:
        assert "toy model" in json.dumps(built.get_config_file(), default=str)
