"""Runs the cases of a package, group by group, and collects what was measured and what could not be."""

from __future__ import annotations

import gc
import importlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from benchmarks import exported, growth, measure, memory, start
from benchmarks.cases import PACKAGES, Case, groups_of
from benchmarks.findings import Findings, Plan

SLOW = 10.0
"""Seconds of a round from which the second call of each network counts, not the third."""
Done = Callable[[Case], None]


class DifferentFunctionError(Exception):
    """Speed of another function is not worth measuring."""


def run(
    package: str,
    cases: list[Case],
    plan: Plan,
    findings: Findings | None = None,
    save: Callable[[Findings], None] = lambda findings: None,
) -> Findings:
    """Measure the cases: part by part (so that networks are built once), and within a part group by group.

    Args:
        findings: Of an earlier run: its finished groups are left out.
        save: Called whenever a group is finished.

    Raises:
        DifferentFunctionError: the package's network and the plain one do not answer the same.
    """
    torch.backends.cudnn.benchmark = True
    module = importlib.import_module(PACKAGES[package])
    findings = findings or Findings()
    cases = findings.rest(cases)

    def done(group: Case) -> None:
        findings.finish(group)
        save(findings)

    timed = [case for case in cases if case.mode in ("inference", "training")]
    for part in dict.fromkeys(case.part for case in timed):
        _time_part([case for case in timed if case.part == part], module, plan, findings, done)
        gc.collect()
    for group, members in groups_of(
        [case for case in cases if case.mode not in ("inference", "training", "growth")]
    ).items():
        for case in members:
            _progress(case, case.network)
            try:
                SINGLE[case.mode](case, module, plan, findings)
            except Exception as error:  # one kind of figure less: the others still count
                findings.miss(f"{case}, {case.network}", error)
            gc.collect()
        done(group)
    _grow([case for case in cases if case.mode == "growth"], module, plan, findings, done)
    return findings


def _time_part(cases: list[Case], module: ModuleType, plan: Plan, findings: Findings, done: Done) -> None:
    networks = _build(module, cases, findings)
    _count(module, networks, cases, findings)
    for network in networks.values():
        network.to(plan.device)
    for group, members in groups_of(cases).items():
        _progress(group)
        present = [case for case in members if case.network in networks]
        _time_group(present, networks, module, plan, findings)
        done(group)


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


def _count(module: ModuleType, networks: dict[str, nn.Module], cases: list[Case], findings: Findings) -> None:
    """Equality first, then parameters and multiply-adds of one picture, all on the CPU."""
    part, sides = cases[0].part, {case.side: case for case in cases}
    if set(module.REQUIRED) <= set(networks):
        try:
            found = module.check_equality(networks, part, (*sides, 97))
        except AssertionError as error:
            raise DifferentFunctionError(str(error)) from error
        findings.equality |= found
        print(f"{part}: same function, largest relative difference {max(found.values()):.1e}", flush=True)
    for name, network in networks.items():
        figures: dict[str, float] = {"parameters": measure.parameters(network)}
        if name == module.REQUIRED[0] and hasattr(module, "paper_gmac") and part == "network":
            figures["paper_gmac"] = module.paper_gmac(network)
        for side in {case.side for case in cases if case.network == name}:
            case = Case(cases[0].package, name, part, "inference", side, count=sides[side].count)
            figures[f"gmac@{side}"] = measure.gmac(module.inference(network, case, torch.device("cpu")))
        own = findings.networks.setdefault(name, {"title": module.NETWORKS[name]})
        own[part] = {**own.get(part, {}), **figures}


def _time_group(
    cases: list[Case], networks: dict[str, nn.Module], module: ModuleType, plan: Plan, findings: Findings
) -> None:
    torch.compiler.reset()
    runners: dict[Case, measure.Runner] = {}
    firsts: dict[Case, float] = {}
    for case in cases:
        network: Any = networks[case.network]
        if case.compiled:
            network = torch.compile(network, dynamic=False)
        make = module.inference if case.mode == "inference" else module.training_step
        runner = make(network, case, plan.device)
        try:
            firsts[case] = measure.timed(runner, plan.device)
        except Exception as error:  # no C++ compiler, out of memory: the other networks still count
            findings.miss(f"{case}, {case.variant}", error)
            continue
        runners[case] = runner
    round_seconds = sum(seconds for case, seconds in firsts.items() if not case.compiled)
    if round_seconds < SLOW:
        round_seconds = sum(measure.timed(runner, plan.device) for runner in runners.values())
    for case, values in measure.interleaved(runners, plan.rounds(round_seconds), plan.device).items():
        more = {"compile_seconds": firsts[case]} if case.compiled else {}
        findings.add(case, "seconds", values, **more)


def _grow(cases: list[Case], module: ModuleType, plan: Plan, findings: Findings, done: Done) -> None:
    for part in dict.fromkeys(case.part for case in cases if case.axis != "processes"):
        own = [case for case in cases if case.part == part and case.axis != "processes"]
        networks = {name: network.to(plan.device) for name, network in _build(module, own, findings).items()}
        for axis in dict.fromkeys(case.axis for case in own):
            along = [case for case in own if case.axis == axis]
            _progress(along[0].group)
            growth.run(along, networks, module, plan, findings, done)
        del networks
        gc.collect()
    for case in (case for case in cases if case.axis == "processes"):
        _progress(case.group)
        growth.run_processes(case, plan, findings)
        done(case.group)


def _memory(case: Case, module: ModuleType, plan: Plan, findings: Findings) -> None:
    figures = memory.ask(case, plan.device, plan.threads)
    findings.add(case, "bytes", [figures.pop("bytes")], **figures)


def _loader(case: Case, module: ModuleType, plan: Plan, findings: Findings) -> None:
    figures = module.measure_loader(case, 2 if plan.quick else min(4, plan.repeats))
    for name, rates in figures.pop("rates").items():
        findings.add(case, "samples per second", rates, variant=name, **figures)


def _start(case: Case, module: ModuleType, plan: Plan, findings: Findings) -> None:
    with tempfile.TemporaryDirectory() as folder:
        programs = {"torch alone": start.FLOOR, **module.cold_start(case, Path(folder))}
        rounds = 1 if plan.quick else min(3, plan.repeats)
        for name, found in start.measure_starts(programs, rounds, plan.threads).items():
            findings.add(case, "seconds", found["seconds"], variant=name, stages=found["stages"])


SINGLE = {"memory": _memory, "loader": _loader, "export": exported.run, "start": _start}
"""Modes whose cases are measured one by one."""


def _progress(case: Case, network: str = "") -> None:
    print(f"{time.strftime('%H:%M:%S')}  {case}{f', {network}' if network else ''}", flush=True)
