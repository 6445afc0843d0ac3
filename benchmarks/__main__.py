"""`python -m benchmarks [PACKAGE ...]`: measure ours, the plain form and the peers, and write one page per package.

`python -m benchmarks gpu`: correctness and speed on a GPU in nine minutes, see `gpu --help`.
`python -m benchmarks loaders`: training samples per second and core, see `loaders --help`.
`python -m benchmarks predict`: images per second from files to files, see `predict --help`.
`python -m benchmarks tables`: the papers' tables beside run folders.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

import psutil

from benchmarks import RESULTS, ROOT, machine
from benchmarks.jobs import AGAINST, COMPILED, MODULES, OURS, PLAIN, jobs_of, module_of
from benchmarks.report import Page
from benchmarks.suite import Plan, Row, measure
from papers_shared.errors import UserError
from papers_shared.files import write_text


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, 1 where a variant could not be measured, 2 for wrong use or different answers, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["tables"]:
        from benchmarks.tables.command import main as tables

        return tables(given[1:])
    if given[:1] == ["gpu"]:
        from benchmarks.gpu.command import main as gpu

        return gpu(given[1:])
    if given[:1] == ["loaders"]:
        from benchmarks.loaders import main as loaders

        return loaders(given[1:])
    if given[:1] == ["predict"]:
        from benchmarks.throughput import main as predict

        return predict(given[1:])
    options = _parse(given)
    try:
        missing = [_measure(package, options) for package in options.packages or MODULES]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the page has what was measured until then", file=sys.stderr)
        return 130
    return int(any(missing))


def _measure(package: str, options: argparse.Namespace) -> bool:
    """Measure one package; True when a variant is missing."""
    module = module_of(package)
    against = options.against
    jobs = jobs_of(
        package, quick=options.quick, only=options.only, against=bool(against), compiled=options.compile
    )
    if not jobs:
        raise UserError(
            f"--only {options.only!r} fits no job of {package}: {', '.join(map(str, jobs_of(package)))}"
        )
    threads = options.threads or psutil.cpu_count(logical=False) or 1
    plan = Plan(2 if options.quick else options.rounds, threads, options.device, against)
    lead = [
        f"`{shlex.join(['python', '-m', 'benchmarks', *options.given])}`, {time.strftime('%Y-%m-%d %H:%M')}, "
        f"load of the machine before: {machine.load():.1f}",
        f"{machine.processor(options.device, threads)}, {'bf16' if options.device == 'cuda' else 'float32'}",
        machine.versions(),
        f"ours: commit {machine.commit(ROOT)}"
        + (f"; {AGAINST}: {machine.commit(against)}" if against else ""),
    ]
    titles = {OURS: f"{package}, ours", AGAINST: f"{package}, {AGAINST}", COMPILED: f"{package}, compiled"}
    page = Page(package, lead, {**titles, PLAIN: "plain form", **module.PEERS}, module.NOTES)
    file = options.output / f"{package}-{options.device}.md" if options.output else None

    def save(row: Row | None) -> None:
        if row:
            page.rows.append(row)
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, page.markdown())

    for job in jobs:
        print(f"{time.strftime('%H:%M:%S')}  {package}: {job}", file=sys.stderr, flush=True)
        measure(job, plan, save)
    page.unfinished = False
    save(None)
    print(page.markdown())
    return any(row.missing for row in page.rows)


def _parse(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "packages",
        nargs="*",
        metavar="PACKAGE",
        help=", ".join([*MODULES, "gpu, loaders, predict or tables"]),
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="calls of each variant; a slow job ends after 3"
    )
    parser.add_argument(
        "--against", type=Path, metavar="CHECKOUT", help="measure another checkout beside this one"
    )
    parser.add_argument("--quick", action="store_true", help="small networks, 2 rounds: does it work?")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only the jobs with this text in their name"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile of ours beside, in inference")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda computes in bf16")
    parser.add_argument("--threads", type=int, help="default: the physical cores")
    parser.add_argument(
        "--output",
        type=Path,
        help=f"folder of the pages; default: {RESULTS.relative_to(ROOT)}, none for a part of them",
    )
    options = parser.parse_args(given)
    if unknown := [name for name in options.packages if name not in MODULES]:
        known = ", ".join([*MODULES, "gpu, loaders, predict, tables"])
        parser.error(f"there are no benchmarks of {unknown[0]!r}: choose from {known}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.against and not (options.against / "shared" / "src").is_dir():
        parser.error(f"--against {str(options.against)!r} is not a checkout of this repository")
    if options.output is None and not (options.quick or options.only):
        options.output = RESULTS
    options.given = given
    return options


if __name__ == "__main__":
    sys.exit(main())
