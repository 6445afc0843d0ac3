"""`python -m benchmarks tables [RUN_FOLDER ...]`: the papers' tables beside what run folders hold."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from papers_shared.errors import UserError


def main(arguments: list[str]) -> int:
    """Exit code 0; 2 for wrong use, 130 when interrupted."""
    options = _parse(arguments)
    try:
        return _miniature(options) if options.miniature else _tables(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


def _tables(options: argparse.Namespace) -> int:
    from benchmarks.tables.document import Document
    from benchmarks.tables.published import read_papers
    from benchmarks.tables.runs import find_runs
    from benchmarks.tables.sheets import Sheet

    sheet = Sheet(find_runs(options.runs))
    papers = read_papers()
    sections = [section for paper in papers for section in sheet.paper(paper)]
    left_out = sheet.left_out(papers)
    document = Document(
        "The papers' tables",
        "Published numbers, and under each row its recipe with what the run folders hold. "
        f"{len(sheet.runs)} run folder(s) were read. A row without a run folder is not run.",
        [*sections, left_out] if left_out else sections,
        f"python -m benchmarks {' '.join(['tables', *options.given])}",
    )
    print(document.markdown())
    if options.output:
        print("written: " + ", ".join(map(str, document.write(options.output, "tables"))))
    return 0


def _miniature(options: argparse.Namespace) -> int:
    from benchmarks.tables.miniature import run

    output = options.output or Path("miniature")
    document = run(output, rows=options.rows, steps=options.steps, seeds=options.seeds)
    print(document.markdown())
    print("written: " + ", ".join(map(str, document.write(output, "miniature"))))
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks tables", description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="RUN_FOLDER", help="a run folder, or a folder of them")
    parser.add_argument("--output", type=Path, help="folder for the Markdown and the HTML page")
    small = parser.add_argument_group("ablations in miniature, on the embedded data")
    small.add_argument("--miniature", action="store_true", help="train every row of the ablations, small")
    small.add_argument("--rows", nargs="+", metavar="RECIPE", help="only these recipes")
    small.add_argument("--steps", type=int, default=0, help="of each training; 0: as the recipe `toy` says")
    small.add_argument("--seeds", type=int, default=2, help="trainings of each row")
    options = parser.parse_args(arguments)
    if options.miniature and options.runs:
        parser.error("--miniature trains its own runs: name no run folder")
    if options.steps < 0 or options.seeds < 1:
        parser.error("--steps must not be negative, and --seeds at least 1")
    options.given = arguments
    return options
