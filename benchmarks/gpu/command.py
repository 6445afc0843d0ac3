"""`python -m benchmarks gpu --minutes 9`: is a GPU right, and how fast is it?

First small networks of all three packages and SAM are compared with what they answer in float64 on a CPU, in every
precision. Then the networks of the papers are timed beside other libraries', the most wanted rows first, until the
minutes are over. Each row is written to gpu.jsonl and gpu.md at once. Nothing needs to be installed but torch,
torchvision, timm, transformers and what these need.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks import RESULTS, ROOT
from benchmarks.gpu import golden
from benchmarks.gpu.limits import limits_of
from benchmarks.gpu.machine import clocks, describe
from benchmarks.gpu.measure import Bench
from benchmarks.gpu.page import Record, page
from benchmarks.gpu.rows import WANTED, Spec, specs
from benchmarks.gpu.subjects import Subject, subjects
from papers_shared.devices import select_device, use_precision
from papers_shared.errors import UserError

NEEDED = {"eager": 8.0, "graph": 12.0, "by block": 75.0}
"""Seconds that a row of a form may take; with less time left it is passed over."""


def main(arguments: list[str]) -> int:
    """Exit code 0; 1 where a row could not be measured; 2 for wrong use or answers out of bounds; 130 interrupted."""
    options = _parse(arguments)
    os.environ.setdefault("PAPERS_UNTRAINED", "1")  # all weights are random
    began = time.monotonic()
    try:
        device = select_device(options.device)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    torch.backends.cudnn.benchmark = True
    record = Record(options.output)
    record.add("machine", **describe(device))
    try:
        good = check(device, record)
        if not (good or options.no_check):
            print(
                "error: answers are out of their bounds; --no-check times the networks anyway",
                file=sys.stderr,
            )
            return 2
        measure(device, record, options, began + 60 * options.minutes)
    except KeyboardInterrupt:
        print("interrupted; what was found until then is written", file=sys.stderr)
        return 130
    record.add("end", seconds=time.monotonic() - began, clocks=clocks() if device.type == "cuda" else "")
    print(page(record.entries))
    return int(bool(record.of("failed")))


def check(device: torch.device, record: Record) -> bool:
    """Compare all small networks in all precisions with the goldens; True where all are within their bounds."""
    for name in golden.NAMES:
        for precision, bound in golden.BOUNDS.items():
            if precision == "tf32" and device.type != "cuda":
                continue
            use_precision(precision, device)
            found = {"network": name, "precision": precision, "bound": bound}
            try:
                differences = golden.differences(name, device, precision)
            except (RuntimeError, UserError) as error:
                why = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                record.add("check", **found, difference=None, worst="", good=False, why=why)
                continue
            good = all(value <= bound for value in differences.values())
            worst = next((key for key, value in differences.items() if value != value), "") or max(
                differences, key=lambda key: differences[key]
            )
            record.add("check", **found, difference=differences[worst], worst=worst, good=good)
    return all(entry["good"] for entry in record.of("check"))


def measure(device: torch.device, record: Record, options: argparse.Namespace, end: float) -> None:
    """Time the rows in their order while there is time."""
    bench = Bench(device, profile=not options.no_profiler, backend=options.backend, quick=options.quick)
    known = subjects(quick=options.quick)
    limits = limits_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    rows = specs(known.values(), cuda=device.type == "cuda", quick=options.quick)
    late: list[str] = []
    for spec in (spec for spec in rows if options.only in str(spec)):
        if end - time.monotonic() < (0 if options.quick else NEEDED[spec.form]):
            late.append(str(spec))
            continue
        print(f"{time.strftime('%H:%M:%S')}  {spec}", file=sys.stderr, flush=True)
        floor = None if limits is None else 1e-9 / limits.tflops[spec.precision]
        _row(bench, spec, known[spec.subject], record, floor)
    if late:
        record.add("left out", rows=late)


def _row(
    bench: Bench, spec: Spec, subject: Subject, record: Record, floor_ms_of_a_flop: float | None
) -> None:
    try:
        found = bench.measure(spec, subject)
    except Exception as error:  # whatever a compiler or a driver raises: the other rows still count
        why = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
        record.add("failed", row=str(spec), why=why)
        return
    floor = None if floor_ms_of_a_flop is None else found.flops * floor_ms_of_a_flop
    ms = max(found.ms, 1e-6)
    wanted = None if bench.quick else WANTED.get(spec.job)
    more = {"per_second": 1e3 * spec.batch / ms, "floor_ms": floor, "wanted_ms": wanted}
    record.add("row", **{**asdict(spec), **asdict(found), **more, "ms": ms})


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="how long it may take; default: 9")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to see that it works")
    parser.add_argument(
        "--quick", action="store_true", help="small networks: does it work? No word about speed"
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only the rows with this text in their name"
    )
    parser.add_argument(
        "--no-check", action="store_true", help="time the networks though answers are out of bounds"
    )
    parser.add_argument("--no-profiler", action="store_true", help="do not count launches")
    parser.add_argument(
        "--backend", default="", help="of torch.compile; default: inductor, with --quick aot_eager"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help=f"folder of gpu.jsonl and gpu.md; default: {RESULTS.relative_to(ROOT)}, none for a part or a CPU",
    )
    options = parser.parse_args(arguments)
    if options.minutes <= 0:
        parser.error("--minutes must be more than 0")
    whole = not (options.quick or options.only or options.device == "cpu")
    if options.output is None and whole:
        options.output = RESULTS
    options.backend = options.backend or ("aot_eager" if options.quick else "inductor")
    return options
