"""What is made of results: growth that stops in time, comparison, resumption, and the page; on made-up figures."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_records import MACHINE, about_run

pytest.importorskip("psutil")

from benchmarks import __main__ as command
from benchmarks import page, plots, published
from benchmarks.cases import PACKAGES, Case, cases_of
from benchmarks.compare import compare
from benchmarks.findings import Findings, Plan, read, resume, write
from benchmarks.growth import Course
from papers_shared.errors import UserError

CASE = Case("plvl", "plvl", "network", "inference", 448)


def record(seconds: dict[str, list[float]], **more: Any) -> dict[str, Any]:
    """A result of plvl's with these rounds of each network."""
    found = Findings()
    for network, values in seconds.items():
        found.add(replace(CASE, network=network), "seconds", values)
        figures = {"parameters": 217_018_655, "gmac@448": 90.0, "paper_gmac": 75.04}
        found.networks[network] = {"title": network, "network": figures}
    for size, taken in ((1, 0.1), (2, 0.15), (5, 0.3)):
        case = replace(CASE, part="sentences", mode="growth", axis="sentences", count=size)
        found.add(case, "seconds", [taken, taken * 1.1], bytes=10_000_000)
    return {**about_run("plvl"), **asdict(found), **more}


OLD = {"plvl": [1.0, 1.1, 1.2], "plain": [1.5, 1.6, 1.7]}


@pytest.mark.parametrize(
    ("new", "changed", "regressed"),
    [
        ([1.0, 1.1, 1.2], 0, False),
        ([1.15, 1.3, 1.5], 0, False),  # 18 % slower, but within the rounds
        ([1.21, 1.22, 1.23], 1, False),  # beyond the rounds, by 11 %
        ([1.3, 1.32, 1.34], 1, True),
        ([0.5, 0.6, 0.7], 1, False),
    ],
)
def test_a_regression_lies_beyond_both_spreads_and_the_bound(
    new: list[float], changed: int, regressed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compare(record(OLD), record({**OLD, "plvl": new}))
    assert (len(found.changes), found.regressed) == (changed, regressed)
    assert not compare(record(OLD), record({**OLD, "plvl": new}), bound=0.5).regressed
    for name, rounds in (("old", OLD), ("new", {**OLD, "plvl": new})):
        write(tmp_path / f"{name}.json", record(rounds))
    assert command.main(["compare", str(tmp_path / "old.json"), str(tmp_path / "new.json")]) == int(regressed)
    said = capsys.readouterr().out
    assert ("REGRESSION" in said) == regressed
    assert ("plvl: network, inference, 448x448" in said) == bool(changed)


def test_rates_regress_downwards_and_counts_without_rounds() -> None:
    def with_loader(rates: list[float], parameters: int) -> dict[str, Any]:
        found = record(OLD)
        entry = {
            "case": asdict(replace(CASE, mode="loader")),
            "variant": "plvl",
            "unit": "samples per second",
        }
        found["results"].append({**entry, "median": rates[1], "min": rates[0], "max": rates[2]})
        found["networks"]["plvl"]["network"]["parameters"] = parameters
        return found

    old, faster, slower = (
        with_loader([9, 10, 11], 100),
        with_loader([19, 20, 21], 100),
        with_loader([4, 5, 6], 101),
    )
    assert [change.worse < 0 for change in compare(old, faster).changes] == [True]
    found = {change.unit: change for change in compare(old, slower).changes}
    assert found["samples per second"].regression
    assert not found["count"].regression
    assert found["count"].worse == pytest.approx(0.01)


def test_what_is_gone_and_another_machine_are_said() -> None:
    new = record({"plvl": OLD["plvl"]}, machine={**MACHINE, "processor": "another"})
    found = compare(record(OLD), new)
    assert any("plain" in what for what in found.gone)
    assert "different machines" in str(found)


def test_compare_refuses_what_is_no_pair(tmp_path: Path) -> None:
    write(tmp_path / "plvl.json", record(OLD))
    write(tmp_path / "fanet.json", record(OLD, package="fanet"))
    write(tmp_path / "older.json", record(OLD, format=1))
    (tmp_path / "torn.json").write_text("{")
    from benchmarks.compare import main

    for name, words in (
        ("fanet", "field `package`"),
        ("older", "field `format`"),
        ("torn", "not JSON"),
        ("no", "cannot"),
    ):
        with pytest.raises(UserError, match=words):
            main([str(tmp_path / "plvl.json"), str(tmp_path / f"{name}.json")])


def test_growth_stops_before_it_is_too_long_or_too_large() -> None:
    plan = Plan(torch.device("cpu"), 1, longest=30.0, memory=8 * 2**30)
    course = Course("side")
    course.add(224, 1.0, 0.1 * 2**30)
    course.add(448, 4.0, 0.4 * 2**30)

    def reason(side: int) -> str:
        return course.too_large(replace(CASE, mode="growth", axis="side", side=side), plan, baseline=2**30)

    assert reason(896) == ""
    assert "a call would take about 64 s" in reason(1792)
    course.bytes[-1] = 1.6 * 2**30  # grows with the fourth power
    assert "26.6 GiB of 8.0" in reason(896)


def test_a_run_goes_on_only_where_it_began(tmp_path: Path) -> None:
    old = record(OLD)
    old["finished"] = [asdict(CASE.group)]
    write(tmp_path / "plvl.json", old)
    found = resume(tmp_path / "plvl.json", old)
    rest = replace(CASE, batch=8)
    assert found.rest([CASE, rest]) == [rest]
    assert len(found.results) == len(old["results"])
    with pytest.raises(UserError, match="field `commit`"):
        resume(tmp_path / "plvl.json", {**old, "commit": "another"})
    assert resume(tmp_path / "none.json", old).results == []


def test_the_page_stands_alone_and_shows_everything(tmp_path: Path) -> None:
    judged = {
        "target": "ten sentences",
        "bound": "at least 1.5",
        "verdict": "missed",
        "ratio": 1.2,
        "low": 1,
        "high": 2,
    }
    missing = [{"what": "clipseg, network", "reason": "ImportError: transformers"}]
    skipped = [{"what": "side 1024", "reason": "would take about 30.0 GiB of 24.0"}]
    write(tmp_path / "a.json", record(OLD, targets=[judged], missing=missing, skipped=skipped))
    assert command.main(["report", str(tmp_path / "a.json"), "--output", str(tmp_path / "page.html")]) == 0
    html = (tmp_path / "page.html").read_text()
    assert "http" not in html.replace("http://www.w3.org", "")
    assert "<script" not in html
    for words in (
        "1 missed",
        "ten sentences",
        "clipseg, network",
        "30.0 GiB",
        "ideal slope",
        "plain: 1.45 (",
        "75.04",
    ):
        assert words in html, words


def test_higher_in_a_plot_is_more() -> None:
    lines = [plots.Line(name, [(1, k, k, k), (2, 2 * k, k, 3 * k)]) for name, k in (("a", 1.0), ("b", 10.0))]
    drawn = plots.growth(lines, 1.0, "batch", "ms", ["a", "b"])
    heights = [float(y) for y in re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)"', drawn)]
    assert heights == sorted(heights, reverse=True)
    assert len(set(heights)) == 4
    rows = [("case", [plots.Ratio("a", 0.9, 0.8, 1.0), plots.Ratio("b", 3.0, 2.0, 4.0)])]
    across = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', plots.ratios(rows, ["a", "b"]))]
    one = float(re.findall(r'<line class="one" x1="([\d.]+)"', plots.ratios(rows, ["a", "b"]))[0])
    assert across[0] < one < across[1]


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_each_network_has_a_colour_of_its_own(package: str, device: str) -> None:
    names = sorted({case.variant for case in cases_of(package, device=device)})
    assert len({plots.colour_of(name, names) for name in names}) == len(names)


def test_a_network_has_one_colour_on_the_page() -> None:
    """In two packages, among the ratios and where things grow; a peer that was measured first does not move it."""
    records = []
    for package, first in (("plvl", "clipseg"), ("fanet", "smp_upernet")):
        rounds = {first: [3.0, 3.1, 3.2], package: OLD["plvl"], "plain": OLD["plain"]}
        made = record(rounds, package=package)
        growing = [result for result in made["results"] if result["case"]["mode"] == "growth"]
        beside = [{**r, "variant": "plain", "case": {**r["case"], "network": "plain"}} for r in growing]
        records.append({**made, "results": [*beside, *made["results"]]})
    marks = re.findall(r'<i style="border-color:([^"]+)"></i>plain</span>', page.html(records))
    assert len(marks) == 4
    assert len(set(marks)) == 1


def test_published_figures_stand_beside_what_was_measured() -> None:
    found = {entry["published"].what: entry for entry in published.beside(record(OLD))}
    assert found["PLVL at 448x448, 40 word pieces"]["ratio"] == pytest.approx(1.0)
    assert found["PLVL, one picture"]["measured"] == pytest.approx(1100.0)
    assert found["PLVL, parameters"]["measured"] == pytest.approx(217.018655)
    quick = published.beside(record(OLD, quick=True))
    assert all(entry["measured"] is None for entry in quick if entry["published"].figure != "ms")


def test_json_is_whole_or_absent(tmp_path: Path) -> None:
    write(tmp_path / "a.json", record(OLD))
    with pytest.raises(TypeError):
        write(tmp_path / "a.json", {"unwritable": object()})
    assert read(tmp_path / "a.json")["package"] == "plvl"
    assert json.loads((tmp_path / "a.json").read_text())["format"] == 2
