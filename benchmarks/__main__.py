"""`python -m benchmarks [PACKAGE ...]`: measure, print the tables, write JSON and Markdown.

`python -m benchmarks tables`: the papers' tables; `python -m benchmarks projection`: hours of full schedules.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shlex
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.cases import MODES, NETWORK_NAMES, PACKAGES, cases_of

PAGES = {"tables": "benchmarks.tables.command", "projection": "benchmarks.tables.projection"}
"""First argument -> module whose `main` takes the others."""


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 when something asked for is missing, or the networks are not the same function; else 0."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in PAGES:
        return int(importlib.import_module(PAGES[given[0]]).main(given[1:]))
    options = _parse(arguments)
    with tempfile.TemporaryDirectory() as compiler_cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = compiler_cache  # compile times are those of a first time
        failures = [_measure(package, options) for package in options.packages or PACKAGES]
    return int(any(failures))


def _measure(package: str, options: argparse.Namespace) -> bool:
    """Measure one package and report; True when something is missing."""
    import psutil
    import torch

    from benchmarks import report, suite, targets

    began, started = time.perf_counter(), time.strftime("%Y-%m-%d %H:%M:%S %Z")
    threads = options.threads or psutil.cpu_count(logical=False) or 1
    torch.set_num_threads(threads)
    device = torch.device(options.device)
    environment = report.environment(device, threads)
    plan = suite.Plan(device, threads, options.repeats or (2 if options.quick else 7), options.quick)
    cases = cases_of(package, device=options.device, quick=options.quick)
    cases = [case for case in cases if case.mode in options.modes]
    compiled = options.compile or ((package, "plain") if options.device == "cpu" else NETWORK_NAMES)
    cases = [case for case in cases if not case.compiled or case.network in compiled]
    try:
        findings = asdict(suite.run(package, cases, plan))
    except AssertionError as error:
        print(f"error: {error}", file=sys.stderr)
        return True
    full = options.device == "cpu" and not options.quick
    record = {
        "format": 1,
        "package": package,
        "command": shlex.join(["python", "-m", "benchmarks", *options.given]),
        "started": started,
        "seconds": time.perf_counter() - began,
        **environment,
        "protocol": report.protocol(package),
        "rounds": plan.rounds,
        "targets": targets.judge(package, findings) if full else [],
        **findings,
    }
    page = report.markdown(record)
    print(f"\n{page}")
    if options.output:
        name = f"{package}-{options.device}{'-quick' if options.quick else ''}"
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
        (options.output / f"{name}.md").write_text(page)
        print(f"written: {options.output / name}.json and .md")
    return bool(findings["missing"])


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=", ".join(PACKAGES))
    parser.add_argument("--quick", action="store_true", help="small inputs, nothing compiled: a smoke test")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path, help="folder; default: benchmarks/results, none with --quick")
    parser.add_argument("--repeats", type=int, help="rounds of inference; training and loader: two thirds")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="only these kinds of cases")
    parser.add_argument(
        "--compile",
        nargs="+",
        choices=NETWORK_NAMES,
        help="networks that are also measured compiled; default: the package's and plain on the CPU, all on a GPU",
    )
    parser.add_argument("--threads", type=int, help="default: the physical cores")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.packages if name not in PACKAGES]:
        parser.error(f"there are no benchmarks of {unknown[0]!r}: choose from {', '.join(PACKAGES)}")
    options.given = list(sys.argv[1:] if arguments is None else arguments)
    if options.output is None and not options.quick:
        options.output = Path(__file__).parent / "results"
    return options


if __name__ == "__main__":
    sys.exit(main())
