"""The three pages in a real browser: what a user sees and does, and that nothing is loaded from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import at, chromium, download, give, opened
from page_clients import odd_files, served
from PIL import Image
from toy_models import small_model

import cabl_cgsr.app
import cabl_cgsr.options
import fanet.app
import fanet.options
import plvl.app
import plvl.options
from cabl_cgsr.modeling.localizer import Localizer
from papers_shared import app
from plvl.modeling.plvl import PLVL

PAGES: dict[str, tuple[Any, Any]] = {
    "fanet": (fanet.app.page, fanet.options.AppOptions()),
    "plvl": (plvl.app.page, plvl.options.AppOptions()),
    "cabl-cgsr": (cabl_cgsr.app.page, cabl_cgsr.options.AppOptions(threshold=0.0, always_refine=True)),
}
SIZE = (90, 60)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def models(browser: Any) -> dict[str, Any]:
    return {name: small_model(name) for name in PAGES}


@contextmanager
def server(models: dict[str, Any], name: str) -> Iterator[str]:
    """The address of a package's page."""
    page, options = PAGES[name]
    with (
        app.server_folder(name) as folder,
        served(page(models[name], options, folder, name="small", toy=True)) as address,
    ):
        yield address


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Coarse noise."""
    noise = np.random.default_rng(4).integers(0, 255, (4, 6, 3), np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC).save(path)
    return path


def test_fanet(browser: Any, models: dict[str, Any], photo: Path, tmp_path: Path) -> None:
    expected = models["fanet"].predict(photo)
    with server(models, "fanet") as address, opened(browser, address, "fanet") as page:
        assert "toy model" in page.locator("#toy").inner_text()
        give(page, photo)
        canvas = page.locator(".viewer canvas")
        canvas.wait_for()
        legend = page.locator(".viewer .legend li").all_inner_texts()
        assert [" ".join(row.split()) for row in legend] == [
            f"{name.replace('_', ' ')} {share:.1%}" for name, share in expected.shares.items()
        ]

        for x, y in ((0.2, 0.3), (0.5, 0.5), (0.9, 0.8)):
            page.mouse.move(*at(page, x, y))
            column, row = int(x * SIZE[0]), int(y * SIZE[1])
            seen = page.locator(".viewer .tip").inner_text().splitlines()
            assert seen == [
                expected.class_names[expected.mask[row, column]].replace("_", " "),
                f"{column}, {row}",
            ]

        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.locator(".viewer input[type=range]").focus()
        for _ in range(4):
            page.keyboard.press("ArrowRight")
        assert float(canvas.evaluate("one => one.style.opacity")) == pytest.approx(0.8)
        assert not asked, "the opacity is the browser's matter"

        mask = download(page, "mask", tmp_path)
        assert mask.name == "photo-mask.png"
        assert np.array_equal(np.asarray(Image.open(mask)), expected.mask)
        drawn = download(page, "overlay", tmp_path)
        assert np.array_equal(np.asarray(Image.open(drawn).convert("RGB")), np.asarray(expected.draw()))
        record = json.loads(download(page, "json", tmp_path).read_text(encoding="utf-8"))
        assert record["shares"] == pytest.approx(expected.shares)

        asked.clear()
        Image.new("RGB", SIZE, (200, 30, 30)).save(tmp_path / "other.png")
        give(page, tmp_path / "other.png")
        page.wait_for_timeout(1500)
        answers = [address for address in asked if "queue/join" in address]
        assert len(answers) == 1, "an image that takes another's place is answered once"

        page.get_by_text("Use via API").click()
        page.get_by_text("/segment").first.wait_for()


def test_plvl(
    browser: Any,
    models: dict[str, Any],
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sentences = ["the red block", "the blue circle"]
    expected = models["plvl"].predict(photo, sentences)
    calls: list[int] = []
    encode = PLVL.encode_image
    monkeypatch.setattr(PLVL, "encode_image", lambda *given: calls.append(1) or encode(*given))
    with server(models, "plvl") as address, opened(browser, address, "plvl") as page:
        give(page, photo)
        page.locator(".viewer .stage img").wait_for()
        rows = page.locator(".viewer .legend li")
        for number, sentence in enumerate(sentences):
            page.locator("#sentence textarea, #sentence input").fill(sentence)
            page.keyboard.press("Enter")
            rows.nth(number).wait_for()
            assert " ".join(rows.nth(number).inner_text().split()) == (
                f"{sentence} score {expected[number].score:.2f}"
            )
        assert len(calls) == 1, "the image is encoded once"
        frames = page.locator(".viewer .stage svg rect")
        assert frames.count() == 2
        for number in range(2):
            x, y, width, height = (
                float(frames.nth(number).get_attribute(name)) for name in ("x", "y", "width", "height")
            )
            box = expected[number].box_xyxy
            assert (x, y, x + width, y + height) == pytest.approx(box, abs=1e-2)
        assert [frames.nth(i).get_attribute("visibility") for i in range(2)] == ["hidden", "visible"]
        rows.nth(0).locator("input").click()
        assert frames.nth(0).get_attribute("visibility") == "visible"
        page.locator(".viewer canvas").nth(1).wait_for()

        mask = np.asarray(Image.open(download(page, "mask", tmp_path))) > 0
        assert (mask == expected[1].mask).mean() > 0.999
        records = json.loads(download(page, "json", tmp_path).read_text(encoding="utf-8"))
        assert [record["expression"] for record in records] == sentences

        page.locator("#sentence textarea, #sentence input").fill("x" * 10_000)
        page.locator("#find").click()
        page.get_by_text("the sentence has 10,000 characters").wait_for()
        assert rows.count() == 2

        page.get_by_text("History of this session").click()
        page.locator("#history img").nth(1).wait_for()
        assert page.locator("#history img").count() == 2


def test_cabl_cgsr(
    browser: Any,
    models: dict[str, Any],
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = models["cabl-cgsr"].predict(photo, threshold=0.0, always_refine=True)
    calls: list[int] = []
    forward = Localizer.forward_maps
    monkeypatch.setattr(Localizer, "forward_maps", lambda *given: calls.append(1) or forward(*given))
    with server(models, "cabl-cgsr") as address, opened(browser, address, "cabl-cgsr") as page:
        give(page, photo)
        page.locator(".viewer canvas").first.wait_for()
        verdict = page.locator("#verdict").inner_text()
        assert verdict.splitlines()[0] == expected.verdict
        assert f"probability {expected.probability:.3f}" in verdict
        network = len(calls)
        coarse = page.locator(".viewer .legend li").nth(1)
        assert f"{expected.coarse_mask.mean():.1%}" in coarse.inner_text()

        page.mouse.move(*at(page, 0.5, 0.5))
        value = float(page.locator(".viewer .tip").inner_text().splitlines()[0].split()[-1])
        assert value == pytest.approx(expected.cam[SIZE[1] // 2, SIZE[0] // 2], abs=0.01)

        page.locator("#level input[type=range]").focus()
        for _ in range(20):
            page.keyboard.press("ArrowLeft")
        page.get_by_text(f"{(expected.cam > 0.3).mean():.1%} of the image").wait_for()

        page.mouse.click(*at(page, 45.5 / 90, 24.5 / 60))
        page.locator(".viewer .asked-point").wait_for()
        page.get_by_text("outside").click()
        page.mouse.click(*at(page, 9.5 / 90, 54.5 / 60))
        page.mouse.move(*at(page, 0.3, 0.2))
        page.mouse.down()
        page.mouse.move(*at(page, 0.6, 0.5), steps=3)
        page.mouse.move(*at(page, 0.8, 0.7), steps=3)
        page.mouse.up()
        page.locator(".viewer .asked-box").wait_for()
        page.get_by_text("by grabcut").first.wait_for()

        def written() -> dict[str, Any]:
            return json.loads(download(page, "json", tmp_path).read_text(encoding="utf-8"))

        record = written()
        for _ in range(50):  # the files are made after the drawing
            if record["asked_by_user"] and record["box_xyxy"]:
                break
            page.wait_for_timeout(200)
            record = written()
        assert record["points_xy"] == [[45, 24], [9, 54]]
        assert record["labels"] == [1, 0]
        assert record["box_xyxy"] == pytest.approx([27, 12, 72, 42], abs=1)
        assert record["map_threshold"] == pytest.approx(0.3)
        sheet = download(page, "sheet", tmp_path)
        assert sheet.name == "photo-evidence.html"
        assert "the user" in sheet.read_text(encoding="utf-8")
        page.locator(".viewer").get_by_text("Clear").click()
        page.get_by_text("of the coarse mask, for the refiner").wait_for()
        assert page.locator(".viewer .asked-point").count() == 0
        assert len(calls) == network, "neither threshold nor prompts ask the network again"


@pytest.mark.parametrize("name", PAGES)
def test_an_image_can_be_dropped_pasted_and_taken_from_the_examples(
    browser: Any, models: dict[str, Any], photo: Path, name: str
) -> None:
    with server(models, name) as address, opened(browser, address, f"{name}-ways") as page:
        shown = page.locator(".viewer .stage")
        page.locator("#examples img").first.click()
        shown.wait_for()
        page.locator("#image button[aria-label='Remove Image']").click()
        shown.wait_for(state="detached")

        drop = page.evaluate_handle(
            """bytes => {
              const held = new DataTransfer();
              held.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
              return held;
            }""",
            list(photo.read_bytes()),
        )
        target = page.locator("#image button[aria-label^='Drop an image']")
        target.dispatch_event("drop", {"dataTransfer": drop})
        shown.wait_for()
        assert page.locator(".viewer .stage").evaluate("one => one.style.aspectRatio") == "90 / 60"
        page.locator("#image button[aria-label='Remove Image']").click()
        shown.wait_for(state="detached")

        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.evaluate(
            """bytes => navigator.clipboard.write([
              new ClipboardItem({ "image/png": new Blob([new Uint8Array(bytes)], { type: "image/png" }) })
            ])""",
            list(photo.read_bytes()),
        )
        page.locator(
            "#image [data-testid='paste-clipboard-button'], #image button[aria-label*='lipboard']"
        ).first.click()
        shown.wait_for()


@pytest.mark.parametrize("name", PAGES)
def test_odd_files_and_a_closed_tab_are_no_end_of_the_server(
    browser: Any, models: dict[str, Any], photo: Path, tmp_path: Path, name: str
) -> None:
    odd = odd_files(tmp_path / "odd")
    with server(models, name) as address:
        with opened(browser, address, f"{name}-odd") as page:
            give(page, odd["text"])
            page.get_by_text("is not an image in a known format").wait_for()
        with opened(browser, address, f"{name}-closed") as page:
            give(page, photo)  # and away
        with opened(browser, address, f"{name}-huge") as page:
            give(page, odd["huge"])
            page.get_by_text("20000 x 10000").wait_for()
        with opened(browser, address, f"{name}-animated") as page:
            give(page, odd["animated"])
            page.get_by_text("has 3 frames").wait_for()
            page.locator(".viewer .stage").wait_for()


def test_a_request_to_another_server_fails_a_test_and_leaves_a_screenshot(
    browser: Any, models: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("browser.SCREENSHOTS", tmp_path / "screenshots")
    with (
        pytest.raises(AssertionError, match=r"asked other servers.*example\.org"),
        server(models, "fanet") as address,
        opened(browser, address, "outside") as page,
    ):
        page.evaluate("fetch('https://example.org/x.js').catch(() => 0)")
    assert Image.open(tmp_path / "screenshots/outside.png").width == 1400
