"""One self-contained HTML page of all results: `python -m benchmarks report [RESULT.json ...]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import RESULTS, plots
from benchmarks.cases import PACKAGES, Case
from benchmarks.findings import read
from benchmarks.growth import IDEAL
from benchmarks.report import (
    TableOf,
    courses,
    group_table,
    groups,
    growth_heading,
    heading,
    network_table,
    published_table,
    same_function,
    target_table,
)
from papers_shared.errors import UserError
from papers_shared.pages import commands, page, section, table, text

COMPARED = ("inference", "training", "memory")
"""Modes whose networks are set against each other."""


def main(arguments: list[str]) -> int:
    """Write the page of the named results, else of all in benchmarks/results.

    Raises:
        UserError: there is none, or a file is no result of this suite.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks report", description=__doc__)
    parser.add_argument("results", nargs="*", type=Path, help="default: benchmarks/results/PACKAGE-*.json")
    parser.add_argument("--output", type=Path, default=RESULTS / "report.html")
    options = parser.parse_args(arguments)
    files = options.results or [
        path
        for name in PACKAGES
        for device in ("cpu", "cuda")
        if (path := RESULTS / f"{name}-{device}.json").exists()
    ]
    if not files:
        raise UserError(f"{RESULTS}: has no results; measure with `python -m benchmarks`, or name JSON files")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(html([read(path) for path in files]), encoding="utf-8")
    print(f"written: {options.output}")
    return 0


def html(records: Sequence[dict[str, Any]]) -> str:
    """The page of one or more records."""
    judged = [target["verdict"] for record in records for target in record["targets"]]
    verdicts = ", ".join(f"{judged.count(word)} {word}" for word in ("met", "missed", "not measured"))
    lead = f"Each network beside its peers, interleaved, medians of rounds. Targets: {verdicts}."
    if not judged:
        lead = "Each network beside its peers, interleaved, medians of rounds. Small or partial runs judge no target."
    body = [plots.STYLE, *(part for record in records for part in _package(record))]
    footnote = "Bars and ranges: the smallest and the largest round. A ratio is that of two medians of the same rounds."
    return page("Speed and size of fanet, plvl and cabl-cgsr", lead, body, footnote)


def _package(record: dict[str, Any]) -> list[str]:
    machine = record["machine"]
    where = f"{machine['processor']}, {machine['threads_used']} threads, device {machine['device']}"
    about = (
        f"<p>{text(where)}; torch {text(record['versions']['torch'])}; commit {text(str(record['commit'])[:12])}; "
        f"{record['started']}, {record['seconds'] / 60:.1f} minutes{'' if record['complete'] else ', interrupted'}; "
        f"load of the machine {record['load']} before.</p>"
    )
    command = commands([("measured by", record["command"])])
    parts = [
        section(f"{record['package']}, {record['started'][:10]}, {machine['device']}", about, command),
        _targets(record),
        _ratios(record),
        _growth(record),
        _published(record),
        _networks(record),
        _tables(record),
        _left_out(record),
        section("How it was measured", _list(record["protocol"])),
    ]
    return [part for part in parts if part]


def _targets(record: dict[str, Any]) -> str:
    head, targets = target_table(record)
    rows = [
        (*map(text, about), f'<span class="{verdict.replace(" ", "-")}">{verdict}</span>')
        for *about, verdict in targets
    ]
    return section("Targets", f'<div class="wide targets">{table(head, rows)}</div>') if rows else ""


def _names(record: dict[str, Any]) -> list[str]:
    """The networks in the order of their colours: the package's own and `plain` have the same in each package."""
    drawn = [r["variant"] for r in record["results"] if r["case"]["mode"] in (*COMPARED, "growth")]
    return list(dict.fromkeys([record["package"], "plain", *drawn]))


def _ratios(record: dict[str, Any]) -> str:
    """The package's eager network against each other network of its groups."""
    rows = []
    for group, results in groups(record).items():
        own = next((r for r in results if r["variant"] == record["package"]), None)
        own = own or next((r for r in results if r["variant"] == "sam"), None)
        if own is None or group.mode not in COMPARED or own["median"] <= 0:
            continue
        row = []
        for result in results:
            if result is not own and len(result["repeats"]) == len(own["repeats"]):
                pairs = [a / b for a, b in zip(result["repeats"], own["repeats"], strict=True) if b > 0]
                row.append(
                    plots.Ratio(result["variant"], result["median"] / own["median"], min(pairs), max(pairs))
                )
        if row:
            rows.append((heading(group).replace(", float32", ""), [ratio for ratio in row if ratio.low > 0]))
    if not rows:
        return ""
    remark = (
        f"<p>Time or memory of a peer over that of {record['package']} (of SAM on one embedding where the case is "
        "SAM): right of 1 the peer takes more.</p>"
    )
    return section("Ratio to each peer", remark, plots.ratios(rows, _names(record)))


def _growth(record: dict[str, Any]) -> str:
    figures = []
    for start, networks in courses(record).items():
        lines = [
            plots.Line(
                name,
                [
                    (Case(**r["case"]).size, *(max(r[key], 1e-6) * 1e3 for key in ("median", "min", "max")))
                    for r in results
                ],
            )
            for name, results in networks.items()
        ]
        drawn = plots.growth(lines, IDEAL[start.axis], start.axis, "ms", _names(record))
        figures.append(f"<figure><h3>{text(growth_heading(start))}</h3>{drawn}</figure>")
    return section("How it grows", f'<div class="charts">{"".join(figures)}</div>') if figures else ""


def _published(record: dict[str, Any]) -> str:
    shown = _shown(published_table(record), words=(2, 5), kind="wide prose")
    return section("Beside the papers' figures", shown) if shown else ""


def _networks(record: dict[str, Any]) -> str:
    shown = _shown(network_table(record), words=(1, 2))
    return section("Networks", shown, f"<p>{text(same_function(record))}</p>") if shown else ""


def _tables(record: dict[str, Any]) -> str:
    found = ""
    for group, results in groups(record).items():
        found += f"<h3>{text(heading(group))}</h3>{_shown(group_table(group, results, record['networks']))}"
    return (
        section("Every figure", f"<details><summary>all groups</summary>{found}</details>") if found else ""
    )


def _shown(made: TableOf, words: tuple[int, ...] = (), kind: str = "wide") -> str:
    """A table of plain text as HTML; empty where it has no rows."""
    head, rows = made
    cells = [tuple(map(text, row)) for row in rows]
    return f'<div class="{kind}">{table(head, cells, words=words)}</div>' if rows else ""


def _left_out(record: dict[str, Any]) -> str:
    entries = [f"not measured: {entry['what']}: {entry['reason']}" for entry in record["missing"]]
    entries += [f"skipped: {entry['what']}: {entry['reason']}" for entry in record["skipped"]]
    if not record["complete"]:
        entries.append("The run was interrupted: go on with --resume.")
    return section("Left out", _list(entries or ["Nothing of the list of cases."]))


def _list(entries: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(entry)}</li>' for entry in entries)}</ul>"
