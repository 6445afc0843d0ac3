"""What the pages in the browser share, without a browser."""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from papers_shared import app
from papers_shared.drawing import heat_map
from papers_shared.errors import UserError


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"file {number}")
    return [tmp_path / f"{number}.txt" for number in range(3)]


def test_a_value_is_computed_once_whoever_asks(files: list[Path], tmp_path: Path) -> None:
    calls: list[str] = []
    together = threading.Barrier(8)

    def compute(file: Path) -> str:
        calls.append(file.name)
        return file.read_text()

    kept = app.Kept(compute, len)
    (tmp_path / "copy.txt").write_text("file 0")

    def ask(number: int) -> str:
        together.wait()
        return kept(files[number % 2])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == ["file 0", "file 1"] * 4
    assert kept(tmp_path / "copy.txt") == "file 0"
    assert sorted(calls) == ["0.txt", "1.txt"]


def test_what_was_not_used_for_longest_makes_room(files: list[Path]) -> None:
    calls: list[str] = []
    kept = app.Kept(lambda file: calls.append(file.name), lambda value: 10, limit=25)
    for number in (0, 1, 0, 2, 0, 1):
        kept(files[number])
    assert calls == ["0.txt", "1.txt", "2.txt", "1.txt"]
    assert len(kept) == 2
    large = app.Kept(lambda file: None, lambda value: 1000, limit=25)
    large(files[0])
    assert len(large) == 1, "the newest is kept whatever it takes"


def test_a_failure_is_not_kept(files: list[Path]) -> None:
    answers = iter([UserError("no"), None])

    def compute(file: Path) -> str:
        answer = next(answers)
        if answer:
            raise answer
        return "yes"

    kept = app.Kept(compute, len)
    with pytest.raises(UserError):
        kept(files[0])
    assert kept(files[0]) == "yes"


def test_only_what_was_uploaded_is_read(tmp_path: Path) -> None:
    with app.server_folder("test") as folder:
        inside = folder.new("image.png")
        inside.write_bytes(b"x")
        assert folder.uploaded({"path": str(inside)}) == inside
        outside = tmp_path / "secret.png"
        outside.write_bytes(b"x")
        for file in (outside, folder.path / "../secret.png", Path("/etc/passwd")):
            with pytest.raises(UserError, match="was not uploaded"):
                folder.uploaded({"path": str(file)})
        for nothing in (None, {}, {"path": None}, "image.png"):
            with pytest.raises(UserError, match="no image"):
                folder.uploaded(nothing)
        inside.unlink()
        with pytest.raises(UserError, match="upload it again"):
            folder.uploaded({"path": str(inside)})
    assert not folder.path.exists()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("<b>.png is no image"), "&lt;b&gt;.png is no image"),
        (MemoryError(), "out of memory: give a smaller image"),
        (KeyError("x"), "this could not be answered (KeyError): the server's log says more"),
    ],
)
def test_whatever_goes_wrong_is_one_sentence(
    error: Exception, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @app.said
    def answer() -> None:
        raise error

    with pytest.raises(gr.Error) as raised:
        answer()
    assert raised.value.message == sentence
    assert ("Traceback" in capsys.readouterr().err) == isinstance(error, KeyError)


def test_without_a_name_the_newest_model_of_the_demo_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert app.find_model("MODEL", "demo", "x demo") == ("MODEL", False)
    with pytest.raises(UserError, match=r"no model given, and demo/ holds none of a demo.*`x demo`"):
        app.find_model("", "demo", "x demo")
    for age, run in enumerate(("run-1-blind", "run-2", "run-1")):
        best = tmp_path / "demo" / run / "best"
        best.mkdir(parents=True)
        (best / "config.json").write_text("{}")
        os.utime(best, (1000 - age, 1000 - age))
    assert app.find_model("", "demo", "x demo") == ("demo/run-2/best", True)


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with app.blocks("test") as page:
        gr.Markdown("nothing")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"--port {port}: cannot listen there.*give another port"):
            app.serve(page, host="127.0.0.1", port=port, wait=False)


def test_layers_have_the_values_of_the_pixels_they_show() -> None:
    with app.server_folder("test") as folder:
        values = np.random.default_rng(0).integers(0, 5, (40, 5000), np.uint8)
        entry = app.layer(folder, values, app.table([(i, i, i) for i in range(5)]), "classes")
        shown = np.asarray(Image.open(entry["file"]["path"]))
        assert shown.shape == (16, app.SHOWN_SIDE)
        assert set(np.unique(shown)) == set(range(5)), "no value is made up by shrinking"
        small = app.layer(folder, values[:, :50], app.table([(0, 0, 0)] * 5), "classes")
        assert np.array_equal(np.asarray(Image.open(small["file"]["path"])), values[:, :50])


def test_the_colours_of_a_map_are_those_of_its_drawing() -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    drawn = np.asarray(heat_map(ramp, (256, 1), limits=(0, 1)))[0]
    assert np.abs(drawn.astype(int) - np.array(app.heat_table())[:, :3]).max() <= 1
