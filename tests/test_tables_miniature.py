"""The ablations in miniature: rows carry their recipes' switches, an interrupted one goes on, real runs are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fanet")
pytest.importorskip("plvl")
pytest.importorskip("cabl_cgsr")

from benchmarks.tables import miniature
from benchmarks.tables.command import main
from benchmarks.tables.published import PACKAGES, read_paper
from benchmarks.tables.recipes import recipes_of
from benchmarks.tables.runs import find_runs
from benchmarks.tables.small import small_of
from papers_shared.errors import UserError
from papers_shared.training.run_folder import RunFolder

ROWS = ["ablation_1_baseline", "ablation_2_scm"]
STEPS = 4


def test_interrupted_it_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "--miniature",
        "--rows",
        *ROWS,
        "--steps",
        str(STEPS),
        "--seeds",
        "1",
        "--output",
        str(tmp_path),
    ]
    log = RunFolder.log

    def interrupted(run: RunFolder, record: dict[str, Any]) -> None:
        if ROWS[1] in run.path.name and record["kind"] == "train" and record["step"] == 3:
            raise KeyboardInterrupt
        log(run, record)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "log", interrupted)
        assert main(command) == 130
    done, cut = (tmp_path / "trainings" / f"fanet-{row}-steps{STEPS}-seed0.json" for row in ROWS)
    assert done.exists()
    assert not cut.exists()
    before = done.stat().st_mtime_ns, logged(tmp_path, ROWS[0])

    assert main(command) == 0
    assert (done.stat().st_mtime_ns, logged(tmp_path, ROWS[0])) == before, "a finished row is not run again"
    records = logged(tmp_path, ROWS[1])
    assert [record["step"] for record in records if record["kind"] == "start"] == [0, 2]
    assert [record["step"] for record in records if record["kind"] == "train"] == [1, 2, 3, 4]

    printed = capsys.readouterr().out
    first, second = (json.loads(file.read_text()) for file in (done, cut))
    assert second["parameters"] > first["parameters"]
    assert f"{first['parameters']:,}" in printed
    assert "These are not the papers' numbers" in printed
    assert "no two of 2 networks trained to the same loss" in printed
    assert (tmp_path / "miniature.html").exists()

    real_evaluation_is_read(tmp_path)


def logged(output: Path, row: str) -> list[dict[str, Any]]:
    log = output / "runs" / f"fanet-{row}-steps{STEPS}-seed0" / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()]


def real_evaluation_is_read(output: Path) -> None:
    """What `fanet evaluate` writes is what the page of the tables reads."""
    from fanet.config import DataConfig
    from fanet.evaluate import run
    from fanet.options import EvaluateOptions

    folder = output / "runs" / f"fanet-{ROWS[0]}-steps{STEPS}-seed0"
    data = DataConfig(root=str(output / "data" / "fanet"), workers=0, cache_gb=0.0)
    assert run(EvaluateOptions(str(folder / "best"), data=data, split="test")) == 0
    (found,) = find_runs([folder])
    assert found.recipe == ROWS[0]
    assert {(score.metric, score.split, score.samples) for score in found.scores} == {
        ("miou", "test", 12),
        ("pixel_acc", "test", 12),
    }
    assert found.refused == ()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_row_differs_from_the_others_as_its_recipe_does(package: str) -> None:
    small, recipes = small_of(package), recipes_of(package)
    names = [
        name
        for table in read_paper(package).tables
        if table.name in small.tables
        for row in table.rows
        for name in row.recipes
    ]
    full = {name: recipes[name]().model for name in names}
    tiny = {name: small.recipe(recipes[name](), Path("data")).model for name in names}
    for a in names:
        for b in names:
            assert (full[a] == full[b]) == (tiny[a] == tiny[b]), (a, b)


def test_a_row_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--rows ablation_7"):
        miniature.run(tmp_path, rows=["ablation_7"])
    assert not list(tmp_path.iterdir())
