"""How time and memory grow with the input, from small to large; what would not fit is skipped and said so."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType

import psutil
import torch
from torch import nn

from benchmarks import measure, processes
from benchmarks.cases import Case, groups_of
from benchmarks.findings import Findings, Plan

IDEAL = {"side": 2.0, "batch": 1.0, "sentences": 1.0, "prompts": 1.0, "processes": 0.0}
"""Time over size^IDEAL is constant where work grows as the input does; processes of constant load: as time is."""
STEEPEST = {"side": 4.0}
"""Attention takes time and memory with the square of the number of tokens."""


@dataclass
class Course:
    """What one network took so far along one axis."""

    axis: str
    sizes: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    bytes: list[float] = field(default_factory=list)

    def add(self, size: int, seconds: float, taken: float) -> None:
        self.sizes.append(size)
        self.seconds.append(seconds)
        self.bytes.append(taken)

    def expected(self, values: list[float], size: int) -> float:
        """The last value, carried on to `size` along the slope of the last two points; 0 before the first."""
        if not values:
            return 0.0
        low, high = IDEAL[self.axis], STEEPEST.get(self.axis, IDEAL[self.axis])
        slope = high
        if len(values) > 1 and min(values[-2:]) > 0:
            steps = math.log(self.sizes[-1] / self.sizes[-2])
            slope = min(max(math.log(values[-1] / values[-2]) / steps, low), high)
        return values[-1] * (size / self.sizes[-1]) ** slope

    def too_large(self, case: Case, plan: Plan, baseline: int) -> str:
        """Why this size is not tried; empty if it is."""
        seconds, taken = self.expected(self.seconds, case.size), self.expected(self.bytes, case.size)
        room = memory_limit(plan)
        if baseline + taken > room:
            whole = (baseline + taken) / 2**30
            return f"would take about {whole:.1f} GiB of {room / 2**30:.1f}, by the sizes before"
        if seconds > plan.longest:
            return f"a call would take about {seconds:.0f} s, more than {plan.longest:g}, by the sizes before"
        return ""


def memory_limit(plan: Plan) -> float:
    """Bytes of the GPU, or of this machine and no more than the plan allows."""
    if plan.device.type == "cuda":
        return float(torch.cuda.get_device_properties(plan.device).total_memory)
    return min(plan.memory, float(psutil.virtual_memory().total))


def run(
    cases: list[Case],
    networks: dict[str, nn.Module],
    module: ModuleType,
    plan: Plan,
    findings: Findings,
    done: Callable[[Case], None],
) -> None:
    """One part along one axis. The first call of each network at each size shows its memory and does not count."""
    courses = {name: _course(name, cases[0], findings) for name in networks}
    for group, members in groups_of(cases).items():
        runners: dict[Case, measure.Runner] = {}
        firsts: dict[Case, tuple[float, float]] = {}
        for case in members:
            if case.network not in networks:
                continue
            peak, course = measure.Peak(plan.device), courses[case.network]
            if reason := course.too_large(case, plan, peak.baseline):
                findings.skip(case, reason)
                continue
            try:
                runner = module.inference(networks[case.network], case, plan.device)
                seconds = measure.timed(runner, plan.device)
            except (RuntimeError, MemoryError) as error:  # out of memory: the other networks still count
                findings.miss(f"{case}, {case.network}", error)
                continue
            runners[case], firsts[case] = runner, (seconds, peak.figures()["bytes"])
        rounds = plan.rounds(sum(seconds for seconds, _ in firsts.values()), growth=True)
        for case, values in measure.interleaved(runners, rounds, plan.device).items():
            courses[case.network].add(case.size, min(values), firsts[case][1])
            findings.add(case, "seconds", values, bytes=firsts[case][1])
        done(group)


def _course(network: str, like: Case, findings: Findings) -> Course:
    """What an earlier run found of it."""
    course = Course(like.axis)
    for result in findings.results:
        case = Case(**result["case"])
        if (case.network, case.part, case.axis) == (network, like.part, like.axis):
            course.add(case.size, result["min"], result["bytes"])
    return course


def run_processes(case: Case, plan: Plan, findings: Findings) -> None:
    """One launch: training steps of the same load on each process."""
    cores = psutil.cpu_count(logical=False) or 1
    if plan.device.type == "cuda":
        findings.skip(case, "processes are measured on the CPU")
    elif case.count > cores:
        findings.skip(case, f"{case.count} processes of one thread need as many cores, here is {cores}")
    else:
        try:
            findings.add(case, "seconds", processes.ask(case, 2 if plan.quick else 4))
        except RuntimeError as error:
            findings.miss(f"{case}, {case.network}", error)
