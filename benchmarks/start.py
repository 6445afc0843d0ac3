"""Cold start: from the import to the first answer, each time in a fresh process."""

from __future__ import annotations

from typing import Any

from benchmarks import measure

Steps = tuple[str, str, str]
"""Python code that imports, that opens the model, and that asks it."""
STAGES = ("import", "open", "first answer", "second answer")
FLOOR: Steps = ("import torch", "pass", "torch.ones(1) + 1")
"""What every program on torch pays."""


def measure_starts(programs: dict[str, Steps], rounds: int, threads: int) -> dict[str, dict[str, Any]]:
    """Name -> {"seconds": [import to first answer, of each round], "stages": {stage: median seconds}}.

    The programs run in turns. The interpreter's own start is not counted; files lie in the operating system's cache,
    as a run before the first round sees to, unless there is one round only.
    """
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
    for number in range(rounds + (rounds > 1)):
        for name, steps in programs.items():
            found = measure.in_child(["-c", _program(steps)], threads)
            if number or rounds == 1:
                runs[name].append(found)
    return {
        name: {
            "seconds": [sum(run[stage] for stage in STAGES[:3]) for run in found],
            "stages": {stage: measure.summary([run[stage] for run in found])["median"] for stage in STAGES},
        }
        for name, found in runs.items()
    }


def _program(steps: Steps) -> str:
    """A program that prints the seconds of each stage as JSON."""
    lines = ["import json, time", "times = [time.perf_counter()]"]
    for step in (*steps, steps[-1]):
        lines += [step, "times.append(time.perf_counter())"]
    lines.append("spent = [after - before for before, after in zip(times, times[1:])]")
    lines.append(f"print(json.dumps(dict(zip({STAGES!r}, spent))))")
    return "\n".join(lines)
