"""Progress lines."""

from __future__ import annotations

import sys

import pytest

from papers_shared.progress import Progress


def test_plain_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("papers_shared.progress.time.monotonic", lambda: now[0])
    with Progress(100, start=20, every=10.0) as progress:
        for step in range(21, 101):
            now[0] += 0.5
            progress.update(step, loss=0.123456, name="x")
        progress.line("done")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "step 21/100  2.00 step/s  00:39 left  loss 0.1235  name x"
    assert [line.split()[1] for line in lines[:-1]] == ["21/100", "41/100", "61/100", "81/100", "100/100"]
    assert lines[-1] == "done"


def test_slow_steps_show_seconds(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("papers_shared.progress.time.monotonic", lambda: now[0])
    progress = Progress(3, unit="image")
    now[0] = 4.0
    progress.update(1)
    assert capsys.readouterr().err == "image 1/3  4.00 s/image  00:08 left\n"


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(3, enabled=False) as progress:
        progress.update(3)
        progress.line("nothing")
    assert capsys.readouterr().err == ""


def test_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress(10, start=4) as progress:
        progress.line("hello")
        progress.update(10, loss=0.5)
    shown = capsys.readouterr().err
    assert "hello" in shown
    assert "10/10" in shown
    assert "loss=0.5" in shown
