"""Runs the jobs: the variants of a job each in a process of its own, their calls in turns, A B C A B C."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.jobs import AGAINST, COMPILED, OURS, PLAIN, Job, module_of
from papers_shared.errors import UserError

LONG_ENOUGH, FEWEST = 180.0, 3
"""Seconds after which a job's rounds end early, but not before this many."""
SAME = (AGAINST, PLAIN, COMPILED)
"""Variants that must answer as ours does; so must those that a package's module names as `SAME`."""


@dataclass(frozen=True)
class Plan:
    rounds: int
    threads: int
    device: str = "cpu"
    against: Path | None = None
    """Another checkout."""


@dataclass
class Row:
    """One variant of one job: what was measured, or why it was not."""

    job: Job
    variant: str
    seconds: list[float] = field(default_factory=list)
    """One value for each round."""
    bytes: int = 0
    """Peak memory beside the network."""
    parameters: int = 0
    gmac: float = 0.0
    difference: float | None = None
    """The largest relative difference from ours, of all outputs; None for ours, and for networks of others."""
    missing: str = ""
    """Why nothing was measured."""


class DifferentAnswersError(UserError):
    """The speed of another function is not worth measuring."""


class Worker:
    """The process of one variant.

    Raises:
        RuntimeError: From any call: the process ended; the message has its last line of error.
    """

    def __init__(self, job: Job, variant: str, folder: Path, plan: Plan) -> None:
        checkout = plan.against if variant == AGAINST and plan.against else ROOT
        request: dict[str, Any] = {"job": asdict(job.network()), "variant": variant, "folder": str(folder)}
        request |= {"threads": plan.threads, "device": plan.device}
        self._errors = (folder / f"{variant}.log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(request)],
            cwd=ROOT,
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(plan.threads),
                "PYTHONPATH": os.pathsep.join(sources(checkout)),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._answer()

    def ask(self, method: str) -> Any:
        """What `Subject.METHOD()` answers."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # the process ended: the answer says why
            print(method, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return json.loads(line)
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line for line in self._errors.read().splitlines() if line.strip()]
        self._errors.close()
        raise RuntimeError(lines[-1] if lines else f"the process ended with exit code {code}")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def sources(checkout: Path) -> list[str]:
    """The folders to import from: the packages of a checkout, and the benchmarks of this one."""
    folders = [*sorted(checkout.glob("packages/*/src")), checkout / "shared" / "src"]
    own = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [*(str(folder.resolve()) for folder in folders), str(ROOT), *filter(None, own)]


def measure(job: Job, plan: Plan, save: Callable[[Row], None]) -> None:
    """Measure one job, correctness first.

    Args:
        save: Called with each row as soon as it is measured.

    Raises:
        DifferentAnswersError: Ours and a variant on the same weights answer differently.
        UserError: Ours can't be measured.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        workers: dict[str, tuple[Worker, Row]] = {}
        for variant in job.variants:
            row = Row(job, variant)
            try:
                worker = Worker(job, variant, Path(folder), plan)
                stack.callback(worker.close)
                _examine(worker, row)
            except RuntimeError as error:
                if variant == OURS:
                    raise UserError(f"{job.package}: {job}: {error}") from error
                row.missing = str(error)
                save(row)
                continue
            workers[variant] = worker, row
        _rounds(list(workers.values()), plan)
        for _, row in workers.values():
            save(row)


def _examine(worker: Worker, row: Row) -> None:
    """Everything but the time."""
    if row.variant not in (AGAINST, COMPILED):
        counted = worker.ask("count")
        row.parameters, row.gmac = counted["parameters"], counted["gmac"]
    module = module_of(row.job.package)
    same = (*SAME, *getattr(module, "SAME", ()))
    if row.variant in (OURS, *same):
        worker.ask("outputs")
    if row.variant in same and (found := worker.ask("compare")):
        row.difference, bound = max(found.values()), module.BOUND
        if not row.difference <= bound:
            raise DifferentAnswersError(
                f"{row.job.package}: {row.job}: {row.variant} and ours differ by {row.difference:.1e} on the same "
                f"weights, more than {bound:.0e}"
            )
    row.bytes = worker.ask("memory")


def _rounds(workers: Sequence[tuple[Worker, Row]], plan: Plan) -> None:
    began = time.perf_counter()
    for number in range(plan.rounds):
        if number >= FEWEST and time.perf_counter() - began > LONG_ENOUGH:
            break
        for worker, row in workers:
            if row.missing:
                continue
            try:
                row.seconds.append(worker.ask("seconds"))
            except RuntimeError as error:  # it was killed, or is out of memory: the others still count
                row.missing, row.seconds = str(error), []
