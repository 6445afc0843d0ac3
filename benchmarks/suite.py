"""Runs the cases of a package, group by group, and collects what was measured and what could not be."""

from __future__ import annotations

import gc
import importlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import nn

from benchmarks import measure
from benchmarks.cases import PACKAGES, Case, groups_of


@dataclass
class Plan:
    """How often things are repeated, and where."""

    device: torch.device
    threads: int
    repeats: int
    quick: bool = False
    warmups: int = 1
    """Unmeasured rounds after the first call."""

    @property
    def rounds(self) -> dict[str, int]:
        """Measured rounds of each mode; long ones get fewer."""
        fewer = max(2, self.repeats * 2 // 3)
        return {"inference": self.repeats, "training": fewer, "memory": 1, "loader": fewer}


@dataclass
class Findings:
    """Everything a run of one package found; becomes the JSON file."""

    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    equality: dict[str, float] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)
    missing: list[dict[str, str]] = field(default_factory=list)

    def add(self, case: Case, unit: str, values: list[float], **more: Any) -> None:
        numbers = measure.summary(values)
        self.results.append({"case": asdict(case), "unit": unit, **numbers, "repeats": values, **more})

    def miss(self, what: str, reason: BaseException) -> None:
        self.missing.append({"what": what, "reason": f"{type(reason).__name__}: {reason}".splitlines()[0]})
        print(f"  not measured: {what} ({self.missing[-1]['reason']})", flush=True)


def run(package: str, cases: list[Case], plan: Plan) -> Findings:
    """Measure the cases, part by part (so that networks are built once), and within a part group by group.

    Raises:
        AssertionError: the package's network and the plain one are not the same function.
    """
    torch.backends.cudnn.benchmark = True
    module = importlib.import_module(PACKAGES[package])
    findings = Findings()
    timed = [case for case in cases if case.mode in ("inference", "training")]
    for part in dict.fromkeys(case.part for case in timed):
        own = [case for case in timed if case.part == part]
        networks = _build(module, own, findings)
        _count(module, part, networks, own, findings)
        for network in networks.values():
            network.to(plan.device)
        for group, members in groups_of(own).items():
            _progress(group)
            present = [case for case in members if case.network in networks]
            if present:
                _time_group(present, networks, module, plan, findings)
        del networks
        gc.collect()
    for case in cases:
        if case.mode == "memory":
            _progress(case.group, case.network)
            try:
                figures = measure.memory_in_child(case, plan.device, plan.threads)
                findings.add(case, "bytes", [figures.pop("bytes")], **figures)
            except RuntimeError as error:
                findings.miss(f"{case}, {case.network}", error)
        elif case.mode == "loader":
            _progress(case)
            figures = module.measure_loader(case, plan.rounds["loader"], plan.quick)
            for name, rates in figures.pop("rates").items():
                findings.add(case, "samples per second", rates, variant=name, **figures)
    return findings


def _build(module: ModuleType, cases: list[Case], findings: Findings) -> dict[str, nn.Module]:
    networks = {}
    for case in {case.network: case for case in cases}.values():
        try:
            networks[case.network] = module.build(case)
        except Exception as error:  # whatever keeps a peer from being built here is reported
            if case.network in module.REQUIRED:
                raise
            findings.miss(f"{case.network}, {case.part}", error)
    return networks


def _count(
    module: ModuleType, part: str, networks: dict[str, nn.Module], cases: list[Case], findings: Findings
) -> None:
    """Equality first, then parameters and multiply-adds, all on the CPU."""
    sides = tuple(dict.fromkeys(case.side for case in cases))
    if set(module.REQUIRED) <= set(networks):
        found = module.check_equality(networks, part, (*sides, 97))
        findings.equality |= found
        print(f"{part}: same function, largest relative difference {max(found.values()):.1e}", flush=True)
    for name, network in networks.items():
        figures: dict[str, float] = {f"gmac@{side}": measure.gmac(network, side) for side in sides}
        figures["parameters"] = measure.parameters(network)
        findings.networks.setdefault(name, {"title": module.NETWORKS[name]})[part] = figures


def _time_group(
    cases: list[Case], networks: dict[str, nn.Module], module: ModuleType, plan: Plan, findings: Findings
) -> None:
    torch.compiler.reset()
    runners: dict[Case, Callable[[], object]] = {}
    compile_seconds: dict[Case, float] = {}
    for case in cases:
        network: Any = networks[case.network]
        if case.compiled:
            network = torch.compile(network, dynamic=False)
        make = module.inference if case.mode == "inference" else module.training_step
        runner = make(network, case, plan.device)
        try:
            first = measure.timed(runner, plan.device)
        except Exception as error:  # no C++ compiler, out of memory: the other networks still count
            findings.miss(f"{case}, {case.variant}", error)
            continue
        runners[case] = runner
        if case.compiled:
            compile_seconds[case] = first
    seconds = measure.interleaved(runners, plan.rounds[cases[0].mode], plan.warmups, plan.device)
    for case, values in seconds.items():
        more = {"compile_seconds": compile_seconds[case]} if case.compiled else {}
        findings.add(case, "seconds", values, **more)


def _progress(case: Case, network: str = "") -> None:
    print(f"{time.strftime('%H:%M:%S')}  {case}{f', {network}' if network else ''}", flush=True)
