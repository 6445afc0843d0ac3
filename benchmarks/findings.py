"""What a run of one package finds, and how often it repeats things; kept as JSON after every group."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks import measure
from benchmarks.cases import Case
from papers_shared.errors import UserError
from papers_shared.runs.atomic import write_bytes

SAME = ("format", "package", "machine", "versions", "commit", "quick")
"""What must agree before a run goes on with the file of another."""


@dataclass(frozen=True)
class Plan:
    """How often things are repeated, where, and what is too large to be measured here."""

    device: torch.device
    threads: int
    repeats: int = 7
    """Rounds at most."""
    quick: bool = False
    seconds: float = 30.0
    """What the measured rounds of a group may take together, unless that would leave less than three."""
    longest: float = 30.0
    """Seconds that one call may take where things grow; longer ones are skipped."""
    memory: float = 24 * 2**30
    """Bytes that growth may take on the CPU."""

    def rounds(self, round_seconds: float, *, growth: bool = False) -> int:
        """Measured rounds of a group whose networks together take `round_seconds`."""
        if self.quick:
            return min(2, self.repeats)
        least = 2 if growth else 3
        budget = self.seconds / 3 if growth else self.seconds
        return max(min(least, self.repeats), min(self.repeats, int(budget / max(round_seconds, 1e-9))))


@dataclass
class Findings:
    """Everything a run of one package found; part of its JSON file."""

    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    equality: dict[str, float] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)
    missing: list[dict[str, str]] = field(default_factory=list)
    """What failed or is not installed."""
    skipped: list[dict[str, str]] = field(default_factory=list)
    """Sizes that would not fit."""
    finished: list[dict[str, Any]] = field(default_factory=list)
    """The groups that are done."""

    def add(self, case: Case, unit: str, values: list[float], **more: Any) -> None:
        """Of networks that one case measures several of, `variant` says which."""
        numbers = measure.summary(values)
        entry = {"case": asdict(case), "unit": unit, "variant": case.variant, **numbers, "repeats": values}
        self.results.append({**entry, **more})

    def miss(self, what: str, reason: BaseException) -> None:
        first = f"{type(reason).__name__}: {reason}".splitlines()[0]
        entry = {"what": what, "reason": first}
        if entry not in self.missing:
            self.missing.append(entry)
            print(f"  not measured: {what} ({first})", flush=True)

    def skip(self, case: Case, reason: str) -> None:
        self.skipped.append({"what": f"{case}, {case.network}", "reason": reason})
        print(f"  skipped: {case}, {case.network} ({reason})", flush=True)

    def finish(self, group: Case) -> None:
        self.finished.append(asdict(group))

    def rest(self, cases: Iterable[Case]) -> list[Case]:
        """The cases whose group is not finished."""
        done = [Case(**entry) for entry in self.finished]
        return [case for case in cases if case.group not in done]


def write(path: Path, record: dict[str, Any]) -> None:
    """The file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, (json.dumps(record, indent=1) + "\n").encode())


def read(path: Path) -> dict[str, Any]:
    """A result file.

    Raises:
        UserError: it is missing, no JSON, or no result of this suite.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); name a JSON file of benchmarks/results"
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); name a file that this suite wrote") from error
    if not isinstance(record, dict) or record.get("format") != 2 or "results" not in record:
        raise UserError(f"{path}: field `format` is not 2: measure it anew with this suite")
    return record


def resume(path: Path, record: dict[str, Any]) -> Findings:
    """The findings of an earlier run to go on with; failures and skips of groups that are not done are forgotten.

    Raises:
        UserError: it ran elsewhere, on other versions or another commit.
    """
    if not path.exists():
        return Findings()
    old = read(path)
    if differs := [name for name in SAME if old.get(name) != record[name]]:
        raise UserError(
            f"{path}: field `{differs[0]}` is not that of this run: leave --resume out to begin anew"
        )
    return Findings(**{name: old[name] for name in Findings.__dataclass_fields__})
