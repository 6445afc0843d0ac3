"""A headless Chromium for tests of pages: nothing but the page's own server can be reached from it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = (
    "--no-sandbox",  # of Chromium's own, which root cannot have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
SECONDS = 25
SCREENSHOTS = Path(__file__).resolve().parents[1] / "screenshots"


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the pages' tests need playwright")
    path = os.environ.get("PAPERS_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(
            "no Chromium on this machine: install it (apt-get install chromium), or name it in PAPERS_CHROMIUM"
        )
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, address: str, name: str) -> Iterator[Any]:
    """A tab at an address, in a session of its own.

    A request to any other address is blocked and fails the test, and so does an error of the page's scripts. When the
    test fails, a screenshot is kept.
    """
    outside: list[str] = []
    errors: list[str] = []
    context = browser.new_context(
        viewport={"width": 1400, "height": 1000}, accept_downloads=True, service_workers="block"
    )
    context.set_default_timeout(1000 * SECONDS)

    def pass_on(route: Any) -> None:
        if route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            outside.append(route.request.url)
            route.abort()

    context.route("**/*", pass_on)
    context.route_web_socket(re.compile(".*"), lambda socket: outside.append(socket.url))
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        page.goto(address)
        page.locator("#image").wait_for()
        yield page
        assert not outside, f"the page asked other servers: {outside}"
        assert not errors, errors
    except BaseException:
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
        raise
    finally:
        context.close()


def give(page: Any, image: Path) -> None:
    """Upload an image and wait for what the page shows of it."""
    page.set_input_files("#image input[type=file]", image)


def download(page: Any, button: str, folder: Path) -> Path:
    """What a button of the page downloads, once it can be pressed."""
    with page.expect_download() as started:
        page.locator(f"#download-{button}:not([disabled]):not(.disabled)").click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path


def at(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where fractions of the image's width and height lie in the tab."""
    for _ in range(50):
        box = page.locator(".viewer .stage").bounding_box()
        if box is not None:  # it is none while the page is drawn anew
            break
        page.wait_for_timeout(20)
    return box["x"] + x * box["width"], box["y"] + y * box["height"]
