"""The page of the papers' tables: what is published, what runs fill in, and what they may not."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fanet")
pytest.importorskip("plvl")
pytest.importorskip("cabl_cgsr")

from benchmarks.tables.command import main
from benchmarks.tables.document import Document, Grid, Section
from benchmarks.tables.published import PACKAGES, Paper, Table, read_paper, read_papers
from benchmarks.tables.recipes import command_of, length_of, recipes_of
from benchmarks.tables.runs import find_runs
from benchmarks.tables.sheets import Sheet
from cabl_cgsr.scores import SetScores
from papers_shared.dataclass_json import dataclass_to_json
from papers_shared.errors import UserError
from papers_shared.metrics import GroundingMetrics

PAPERS = {paper.package: paper for paper in read_papers()}
TABLES = [
    pytest.param(paper, table, id=f"{paper.package} {table.name}")
    for paper in PAPERS.values()
    for table in paper.tables
]
MISPRINTED = {"CFA1", "CAT-Net"}
"""Rows whose printed average a footnote corrects."""


@pytest.mark.parametrize(("paper", "table"), TABLES)
def test_each_table_is_whole(paper: Paper, table: Table) -> None:
    recipes = recipes_of(paper.package)
    named = [*table.notes, *(note for row in table.rows for note in row.notes)]
    assert set(named) <= set(paper.notes)
    for row in table.rows:
        assert len(row.published) == len(table.columns), row.name
        for name in (*row.recipes, *filter(None, [row.counted_of])):
            assert f"train {name} " in command_of(paper.package, name)
            assert name in recipes


def test_tables_of_all_papers_and_no_idle_footnote() -> None:
    assert {name: len(paper.tables) for name, paper in PAPERS.items()} == {
        "fanet": 4,
        "plvl": 7,
        "cabl-cgsr": 6,
    }
    assert {name: len(paper.figures) for name, paper in PAPERS.items()} == {
        "fanet": 6,
        "plvl": 7,
        "cabl-cgsr": 5,
    }
    for paper in PAPERS.values():
        used = {note for t in paper.tables for note in (*t.notes, *(n for row in t.rows for n in row.notes))}
        assert used == set(paper.notes)


@pytest.mark.parametrize(("paper", "table"), TABLES)
def test_published_numbers_are_those_of_the_recipes_docstrings(paper: Paper, table: Table) -> None:
    recipes = recipes_of(paper.package)
    for row in table.rows:
        for name in row.recipes:
            about = recipes[name].__doc__ or ""
            if paper.package == "cabl-cgsr" and name == "casia2" and table.name != "Table I":
                continue  # its docstring has the row of Table I
            if name == "mixed_coco_official":  # "the figures of `mixed_coco`"
                continue
            for column, value in zip(table.columns, row.published, strict=True):
                ours = not column.recipes or name in column.recipes
                only_average = paper.package == "cabl-cgsr" and name != "casia2" and not column.mean_of
                if ours and value is not None and not only_average and (not column.counted):
                    assert f"{value:.{column.digits}f}" in about, (name, column.name)


@pytest.mark.parametrize(("paper", "table"), TABLES)
def test_printed_averages_are_those_of_their_columns(paper: Paper, table: Table) -> None:
    for row in table.rows:
        for column, value in zip(table.columns, row.published, strict=True):
            parts = [row.published[i] or 0.0 for i in column.mean_of]
            if parts and value is not None:
                fits = abs(sum(parts) / len(parts) - value) < 0.00101
                assert fits or row.name in MISPRINTED, (row.name, column.name)


def test_the_inconsistencies_of_the_papers_are_footnotes() -> None:
    notes = " ".join(note for paper in PAPERS.values() for note in paper.notes.values())
    for fact in ("53.26", "54.26", "0.008", "0.010", "79.60 / 69.15", "79.27 / 68.16", "75.04 G", "75.008"):
        assert fact in notes


def test_lengths_of_the_schedules() -> None:
    assert (length_of("fanet", "zerowaste_f").steps, length_of("fanet", "zerowaste_f").samples) == (
        40_000,
        80_000,
    )
    assert length_of("fanet", "imagenet1k").steps == 300 * 1_281_167 // 1280
    assert length_of("plvl", "table4_m3").samples == 150 * 80_512 // 80 * 80
    assert length_of("plvl", "mixed_pretrain").unknown
    assert abs(length_of("cabl-cgsr", "casia2").samples - 30 * 12_614 * 0.9) < 100


# ---- runs


def run_folder(root: Path, package: str, recipe: Any, **files: Any) -> Path:
    """A run folder as training leaves it, as far as the page reads it."""
    folder = root / recipe.name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(dataclass_to_json(recipe)))
    for name, content in files.items():
        (folder / f"{name.replace('_', '-')}.json").write_text(json.dumps(content))
    return folder


def zerowaste(miou: float = 0.5, images: int = 929, flips: str = "no") -> dict[str, Any]:
    protocol = f"whole image, keep-ratio resize within 2048x512; one scale, {flips} flip; logits resized"
    found = {"model": "runs/x/best", "data": "Z", "split": "test", "miou": miou, "pixel_acc": 0.9}
    return {**found, "images": images, "protocol": protocol}


def section(sheet: Sheet, package: str, name: str) -> list[str]:
    """The lines of one table."""
    paper = read_paper(package)
    chosen = replace(paper, tables=tuple(table for table in paper.tables if table.name == name), figures=())
    return Document("", "", sheet.paper(chosen)).markdown().splitlines()


def cells_of(lines: list[str], recipe: str) -> list[str]:
    """What stands behind the first row of a recipe."""
    line = next(line for line in lines if f"| `{recipe}` " in line)
    return [cell.strip() for cell in line.split("|")[3:-1]]


def test_a_run_fills_its_row_and_says_what_it_is(tmp_path: Path) -> None:
    recipe = recipes_of("fanet")["zerowaste_f"]()
    changed = replace(recipe, optim=replace(recipe.optim, lr=1e-4), run=replace(recipe.run, seed=7))
    run_folder(tmp_path, "fanet", changed, evaluation_test=zerowaste(0.5432))
    lines = section(Sheet(find_runs([tmp_path])), "fanet", "Table 1")
    miou, acc = cells_of(lines, "zerowaste_f")
    assert miou.startswith("54.32 [")
    assert acc.startswith("90.00 [")
    assert cells_of(lines, "zerowaste_f_official") == ["not run", "not run"]
    note = next(line for line in lines if "optim.lr 0.0001 in place of 9e-05" in line)
    assert "trained from random weights" in note
    assert "evaluation-test.json, best/" in note
    assert "seed" not in note


def test_several_runs_of_a_row_are_a_mean_and_a_spread(tmp_path: Path) -> None:
    recipe = recipes_of("fanet")["focalnet_b"]()
    for seed, miou in enumerate((0.50, 0.54)):
        run_folder(tmp_path / str(seed), "fanet", recipe, evaluation_test=zerowaste(miou))
    runs = find_runs([tmp_path / "0", tmp_path / "1" / recipe.name])
    assert cells_of(section(Sheet(runs), "fanet", "Table 1"), "focalnet_b")[0].startswith(
        "52.00 ± 2.83 (2 runs)"
    )


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (zerowaste(images=12), "miou on split or set test with 12 samples is in no column of this recipe"),
        (zerowaste(flips="with"), f"not the table's protocol ({zerowaste(flips='with')['protocol']})"),
    ],
    ids=["data", "protocol"],
)
def test_metrics_on_other_data_or_by_another_protocol_do_not_count(
    tmp_path: Path, found: dict[str, Any], why: str
) -> None:
    folder = run_folder(tmp_path, "fanet", recipes_of("fanet")["zerowaste_f"](), evaluation_test=found)
    sheet = Sheet(find_runs([tmp_path]))
    assert cells_of(section(sheet, "fanet", "Table 1"), "zerowaste_f") == ["not evaluated", "not evaluated"]
    left_out = sheet.left_out([read_paper("fanet")])
    assert left_out is not None
    (grid,) = left_out.parts
    assert isinstance(grid, Grid)
    assert {place for place, _ in grid.rows} == {f"`{folder}`"}
    assert grid.rows[0][1].startswith(("evaluation-test.json", f"{folder / 'evaluation-test.json'}"))
    assert grid.rows[0][1].endswith(f": {why}")


def test_top1_is_read_from_the_log(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, "fanet", recipes_of("fanet")["imagenet1k"]())
    records = [
        {"kind": "val", "step": n, "top1": top1, "images": 50_000} for n, top1 in ((1, 0.8), (2, 0.82))
    ]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert cells_of(section(Sheet(find_runs([folder])), "fanet", "Table 4"), "imagenet1k")[2].startswith(
        "82.0 ["
    )


def grounding(split: str, count: int, acc: float) -> dict[str, Any]:
    metrics = GroundingMetrics()
    box = np.array([0.1, 0.1, 0.5, 0.5])
    metrics.update("0", box=box, true_box=box, mask=None, true_mask=None)
    scores = asdict(metrics.compute())
    assert {"acc_at_05", "miou"} <= set(scores)
    paper = {**scores, "acc_at_05": acc, "miou": acc / 2, "protocol": "stretched"}
    return {"model": "runs/x/best", "split": split, "expressions": count, "paper": paper}


def test_a_plvl_run_fills_the_columns_of_its_data(tmp_path: Path) -> None:
    recipes = recipes_of("plvl")
    evaluations = {
        "best_evaluation_val": grounding("val", 10_834, 0.89),
        "best_evaluation_testA": grounding("testA", 5_657, 0.9),
    }
    run_folder(tmp_path, "plvl", recipes["refcoco_unc"](), **evaluations)
    mixed = {"best_evaluation_val": grounding("refcocog_val", 4_896, 0.88)}
    run_folder(tmp_path, "plvl", recipes["mixed_coco"](), **mixed)
    sheet = Sheet(find_runs([tmp_path]))
    lines = section(sheet, "plvl", "Table 1")
    cells = [cell.split(" [")[0] for cell in cells_of(lines, "refcoco_unc")]
    assert cells == ["89.00", "90.00", "not evaluated", *[""] * 5]
    assert cells_of(lines, "mixed_coco")[6].startswith("88.00")
    assert cells_of(section(sheet, "plvl", "Table 2"), "refcoco_unc")[0].startswith("44.50")


def manipulated(names: tuple[str, ...], refiner: str) -> dict[str, Any]:
    counts = {"casia1": (1720, 920), "columbia": (363, 180), "coverage": (200, 100), "imd2020": (2424, 2010)}
    metrics: dict[str, float | None] = {"i_auc": 0.8, "p_f1.coarse": 0.25, "p_f1.box_point": 0.5}
    sets = [SetScores(name, *counts[name], metrics, {}).to_json() for name in names]
    models = [{"model": "elsewhere/other/best", "sets": []}, {"model": "runs/casia2/best", "sets": sets}]
    return {"refiner": refiner, "models": models}


def test_a_cabl_cgsr_run_fills_coarse_and_refined_rows(tmp_path: Path) -> None:
    recipe = recipes_of("cabl-cgsr")["casia2"]()
    run_folder(tmp_path, "cabl-cgsr", recipe, evaluation=manipulated(("coverage", "imd2020"), "sam vit_h"))
    sheet = Sheet(find_runs([tmp_path]))
    lines = section(sheet, "cabl-cgsr", "Table II")
    found = [[cell.split(" [")[0] for cell in line.split("|")[3:-1]] for line in lines if "`casia2` " in line]
    numbers = [[cell.strip() for cell in cells] for cells in found if len(cells) == 6]
    assert numbers == [["0.800", "0.250"] * 3, ["0.800", "0.500"] * 3]
    assert any("refined by sam vit_h" in line for line in lines)
    average = cells_of(section(sheet, "cabl-cgsr", "Table I"), "casia2")[-1]
    assert average == "not evaluated", "the mean of four sets needs all four"


def test_grabcut_is_not_counted_as_the_papers_refinement(tmp_path: Path) -> None:
    recipe = recipes_of("cabl-cgsr")["casia2"]()
    run_folder(tmp_path, "cabl-cgsr", recipe, evaluation=manipulated(("casia1",), "grabcut"))
    sheet = Sheet(find_runs([tmp_path]))
    lines = section(sheet, "cabl-cgsr", "Table VI")
    cells = [
        line.split("|")[3].strip().split(" [")[0]
        for line in lines
        if "`casia2` " in line and line.count("|") > 6
    ]
    assert cells == ["0.250", *["not evaluated"] * 3]


def test_what_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        find_runs([tmp_path])
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no recipe"):
        find_runs([tmp_path])
    assert main([str(tmp_path)]) == 2


def test_parameters_and_operations_are_counted() -> None:
    lines = section(Sheet([]), "plvl", "Table 3")
    assert any("90.72 (counted)" in line and "217.02 (counted)" in line for line in lines)
    assert any("36.7 (counted)" in line for line in section(Sheet([]), "fanet", "Table 4"))


def test_the_whole_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(tmp_path, "fanet", recipes_of("fanet")["toy"]())
    given = [str(run), "--output", str(tmp_path / "page")]
    assert main(given) == 0
    printed = capsys.readouterr().out
    page = (tmp_path / "page" / "tables.html").read_text()
    assert (tmp_path / "page" / "tables.md").read_text() in printed
    assert page.count("<table>") == 2 * 17 + 3 + 1 - 1, (
        "17 tables and, but for operations, their recipes; figures; toy"
    )
    assert not re.search(r'(src|href)="(?!data:)', page), "the page needs nothing else"
    assert "36.7 (counted)" in printed
    assert "the recipe `toy` is no row of a table" in printed
    assert printed.count("published only") == 2 + 18 + 12 + 1 + 11
    assert set(PACKAGES) == set(PAPERS)


def test_words_stand_on_the_left_and_numbers_on_the_right() -> None:
    grid = Grid(("row", "", "mIoU"), [("A", "published", "54.89"), ("", "`a`", "not run")])
    page = Document("", "", [Section("", [grid])]).html()
    assert re.findall(r"<td.*?</td>", page) == [
        '<td class="words">published</td>',
        "<td>54.89</td>",
        '<td class="words"><code>a</code></td>',
        "<td>not run</td>",
    ]
