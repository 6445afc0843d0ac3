"""`python -m benchmarks [PACKAGE ...]`: measure, print the tables, write JSON and Markdown after every group.

`python -m benchmarks report`: one HTML page of the JSON files; `python -m benchmarks compare OLD.json NEW.json`: what
changed; `python -m benchmarks tables`: the papers' tables; `python -m benchmarks projection`: hours of full schedules.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks import RESULTS
from benchmarks.cases import MODES, NETWORK_NAMES, PACKAGES, cases_of
from papers_shared.errors import UserError

PAGES = {
    "report": "benchmarks.page",
    "compare": "benchmarks.compare",
    "tables": "benchmarks.tables.command",
    "projection": "benchmarks.tables.projection",
}
"""First argument -> module whose `main` takes the others."""


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 when something asked for is missing, the networks are not the same function, or `--compare` finds a
    regression; else 0.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given and given[0] in PAGES:
            return int(importlib.import_module(PAGES[given[0]]).main(given[1:]))
        options = _parse(given)
        with tempfile.TemporaryDirectory() as compiler_cache:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = compiler_cache  # compile times are those of a first time
            failures = [_measure(package, options) for package in options.packages or PACKAGES]
        return int(any(failures))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _measure(package: str, options: argparse.Namespace) -> bool:
    """Measure one package and report; True when something is missing or slower."""
    import psutil
    import torch

    from benchmarks import compare, machine, report, suite, targets
    from benchmarks.findings import Findings, Plan, read, resume, write

    began, started = time.perf_counter(), time.strftime("%Y-%m-%d %H:%M:%S %Z")
    old = [record for record in map(read, options.compare) if record["package"] == package]
    threads = options.threads or psutil.cpu_count(logical=False) or 1
    torch.set_num_threads(threads)
    device = torch.device(options.device)
    plan = Plan(device, threads, options.repeats, options.quick, options.seconds, options.longest)
    cases = cases_of(package, device=options.device, quick=options.quick)
    cases = [case for case in cases if case.mode in options.modes]
    compiled = options.compile or ((package, "plain") if options.device == "cpu" else NETWORK_NAMES)
    cases = [case for case in cases if not case.compiled or case.network in compiled]
    record = {
        "format": 2,
        "package": package,
        "command": shlex.join(["python", "-m", "benchmarks", *options.given]),
        "started": started,
        "quick": options.quick,
        "load": machine.load(),
        **machine.environment(device, threads),
        "protocol": [*report.PROTOCOL, *importlib.import_module(PACKAGES[package]).PROTOCOL],
    }
    name = f"{package}-{options.device}{'-quick' if options.quick else ''}"
    output = options.output and options.output / f"{name}.json"
    findings = resume(output, record) if options.resume else Findings()
    before = read(output)["seconds"] if findings.finished else 0.0
    judged = options.device == "cpu" and not options.quick

    def save(findings: Findings) -> None:
        own = asdict(findings)
        record.update(own, seconds=before + time.perf_counter() - began, complete=not findings.rest(cases))
        record["targets"] = targets.judge(package, own) if judged else []
        if output:
            write(output, record)

    try:
        suite.run(package, cases, plan, findings, save)
    except suite.DifferentFunctionError as error:
        print(f"error: {error}", file=sys.stderr)
        return True
    save(findings)
    page = report.markdown(record)
    print(f"\n{page}")
    if output:
        output.with_suffix(".md").write_text(page, encoding="utf-8")
        print(f"written: {output} and .md")
    found = [compare.compare(one, record, options.bound) for one in old]
    for comparison in found:
        print(f"{package}, beside the older result:\n{comparison}")
    return bool(findings.missing) or any(comparison.regressed for comparison in found)


def _parse(given: list[str]) -> argparse.Namespace:
    from benchmarks.compare import BOUND

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=", ".join(PACKAGES))
    parser.add_argument(
        "--quick", action="store_true", help="small inputs and networks, nothing compiled: a smoke test"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path, help="folder; default: benchmarks/results, none with --quick")
    parser.add_argument("--resume", action="store_true", help="leave out what the file in --output has")
    parser.add_argument("--repeats", type=int, default=7, help="rounds at most")
    parser.add_argument(
        "--seconds", type=float, default=30, help="of a group's rounds, if they are more than three"
    )
    parser.add_argument("--longest", type=float, default=30, help="seconds a call may take where things grow")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="only these kinds of cases")
    parser.add_argument(
        "--compile",
        nargs="+",
        choices=NETWORK_NAMES,
        help="networks that are also measured compiled; default: the package's and plain on the CPU, all on a GPU",
    )
    parser.add_argument("--threads", type=int, help="default: the physical cores")
    parser.add_argument(
        "--compare", nargs="+", type=Path, default=[], metavar="OLD.json", help="say what changed since"
    )
    parser.add_argument("--bound", type=float, default=BOUND, help="of a regression, as a share")
    options = parser.parse_args(given)
    if unknown := [name for name in options.packages if name not in PACKAGES]:
        parser.error(f"there are no benchmarks of {unknown[0]!r}: choose from {', '.join(PACKAGES)}")
    options.given = given
    if options.output is None and not options.quick:
        options.output = RESULTS
    if options.resume and options.output is None:
        parser.error("--resume goes on with a file: name its folder with --output")
    return options


if __name__ == "__main__":
    sys.exit(main())
