"""The list of cases: package, network, part, mode and input. Whoever grows the suite adds to this file.

Cases that differ only in the network, or in being compiled, form a group: they run interleaved, A B A B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

PACKAGES = {
    "fanet": "benchmarks.fanet_networks",
    "plvl": "benchmarks.plvl_networks",
    "cabl-cgsr": "benchmarks.cabl_cgsr_networks",
}
"""Package -> module with `NETWORKS`, `REQUIRED`, `PROTOCOL`, `build`, `inference`, `training_step`, `check_equality`,
`measure_loader` and `cold_start`."""
MODES = ("inference", "training", "memory", "loader", "export", "start", "growth")
FANET_BACKBONES = ("fanet", "plain", "focalnet_tiny_lrf", "convnext_tiny")
FANET_SEGMENTORS = (*FANET_BACKBONES, "deeplabv3_resnet50", "smp_upernet")
NETWORK_NAMES = (*FANET_SEGMENTORS, "focalnet_base_lrf", "plvl", "clipseg", "cabl-cgsr")
SIDES, PLVL_SIDES = (224, 384, 512, 768, 1024), (224, 448, 672, 1024)
BATCHES, SENTENCES, PROMPTS, PROCESSES = (1, 2, 8, 32), (1, 2, 5, 20), (1, 4, 16), (1, 2)


@dataclass(frozen=True)
class Case:
    package: str
    network: str
    part: str
    """backbone, segmentor; network, sentences; classifier, three scales, prompts, embedding; or samples (loader)."""
    mode: str
    side: int
    """Height and width of the input, in pixels; of the training sample for the loader."""
    batch: int = 1
    """Of each process."""
    precision: str = "float32"
    compiled: bool = False
    count: int = 1
    """Sentences or prompts about the picture, or processes."""
    axis: str = ""
    """What grows in the mode `growth`: side, batch, sentences, prompts or processes."""
    small: bool = False
    """Small stand-ins of plvl, CLIPSeg, Conformer and SAM: to see that the suite works."""

    @property
    def group(self) -> Case:
        return replace(self, network="", compiled=False)

    @property
    def variant(self) -> str:
        return f"{self.network} compiled" if self.compiled else self.network

    @property
    def size(self) -> int:
        """Where a growth case stands on its axis."""
        return {"side": self.side, "batch": self.batch}.get(self.axis, self.count)

    @property
    def subject(self) -> str:
        return f"{self.count} {self.part}" if self.part in ("sentences", "prompts") else self.part

    def __str__(self) -> str:
        size = f"{self.side}x{self.side}, batch {self.batch}, {self.precision}"
        processes = f", {self.count} processes" if self.axis == "processes" else ""
        mode = f"{self.mode} by {self.axis}" if self.axis else self.mode
        return f"{self.package}: {self.subject}, {mode}, {size}{processes}"


def cases_of(package: str, *, device: str = "cpu", quick: bool = False) -> list[Case]:
    """All cases of a package, groups side by side; those of growth from small to large.

    `quick` keeps every kind of case but shrinks inputs and networks, compiles nothing, and measures two sizes of what
    grows. Fresh processes are what takes long then: memory is fanet's alone, two ranks are cabl-cgsr's. It shows that
    the suite works, not how fast anything is.
    """
    lists = {
        "cpu": {"fanet": _fanet_cpu, "plvl": _plvl_cpu, "cabl-cgsr": _cabl_cgsr_cpu},
        "cuda": {"fanet": _fanet_cuda, "plvl": _plvl_cuda, "cabl-cgsr": _cabl_cgsr_cuda},
    }
    cases = lists[device][package]()
    return _quick(cases) if quick else cases


def groups_of(cases: Sequence[Case]) -> dict[Case, list[Case]]:
    groups: dict[Case, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    return groups


def _each(networks: Sequence[str], package: str, part: str, mode: str, side: int, **more: Any) -> list[Case]:
    return [Case(package, network, part, mode, side, **more) for network in networks]


def _growth(
    networks: Sequence[str], package: str, part: str, axis: str, side: int, **more: Any
) -> list[Case]:
    sizes = {"batch": BATCHES, "sentences": SENTENCES, "prompts": PROMPTS, "processes": PROCESSES}
    sizes["side"] = PLVL_SIDES if package == "plvl" else SIDES
    field = axis if axis in ("side", "batch") else "count"
    points = ({"side": side, **more, field: size} for size in sizes[axis])
    return [
        Case(package, network, part, "growth", axis=axis, **point) for point in points for network in networks
    ]


def _fanet_cpu() -> list[Case]:
    bare, heads, ours = FANET_BACKBONES, FANET_SEGMENTORS, FANET_BACKBONES[:2]
    return [
        *_each(bare, "fanet", "backbone", "inference", 224),
        *_each((*bare, "focalnet_base_lrf"), "fanet", "backbone", "inference", 512),
        *_each(bare, "fanet", "backbone", "inference", 512, compiled=True),
        *_each(bare, "fanet", "backbone", "training", 512, batch=2),
        *_each(heads, "fanet", "segmentor", "inference", 224),
        *_each((*heads, "focalnet_base_lrf"), "fanet", "segmentor", "inference", 512),
        *_each(heads, "fanet", "segmentor", "training", 512, batch=2),
        *_each(bare, "fanet", "backbone", "memory", 512, batch=2),
        *_each((*ours, "deeplabv3_resnet50"), "fanet", "segmentor", "memory", 512, batch=2),
        Case("fanet", "fanet", "samples", "loader", 512),
        Case("fanet", "fanet", "segmentor", "export", 512),
        Case("fanet", "fanet", "segmentor", "start", 512),
        *_growth(ours, "fanet", "segmentor", "side", 224),
        *_growth(ours, "fanet", "segmentor", "batch", 224),
        *_growth(ours[:1], "fanet", "segmentor", "processes", 256, batch=2),
    ]


def _fanet_cuda() -> list[Case]:
    """bf16 at batch 1 and 32; batch norm of the 1x1 pooled map cannot train on one image, hence 2 there."""
    bare, heads, ours = FANET_BACKBONES, FANET_SEGMENTORS, FANET_BACKBONES[:2]
    cases = [
        *_both("fanet", bare, "backbone", "inference", 512, (1, 32)),
        *_both("fanet", bare, "backbone", "training", 512, (1, 32)),
        *_both("fanet", ours[:1], "segmentor", "inference", 512, (1, 32)),
        *_both("fanet", ours[:1], "segmentor", "training", 512, (2, 32)),
        *_each(heads[1:], "fanet", "segmentor", "inference", 512, batch=32),
        *_each(heads[1:], "fanet", "segmentor", "training", 512, batch=32),
        *_each(bare, "fanet", "backbone", "memory", 512, batch=32),
        *_growth(ours, "fanet", "segmentor", "side", 224),
        *_growth(ours, "fanet", "segmentor", "batch", 512),
    ]
    return [replace(case, precision="bf16") for case in cases]


def _plvl_cpu() -> list[Case]:
    ours, all_three = ("plvl", "plain"), ("plvl", "plain", "clipseg")
    return [
        *_each(all_three, "plvl", "network", "inference", 448),
        *_each(all_three, "plvl", "network", "inference", 448, batch=8),
        *_each(ours, "plvl", "network", "training", 448, batch=2),
        *_each(("plvl", "calls", "plain calls"), "plvl", "sentences", "inference", 448, count=10),
        *_each(ours, "plvl", "network", "memory", 448, batch=2),
        Case("plvl", "plvl", "samples", "loader", 448),
        Case("plvl", "plvl", "network", "export", 448),
        Case("plvl", "plvl", "network", "start", 448),
        *_growth(all_three, "plvl", "network", "side", 224),
        *_growth(ours[:1], "plvl", "network", "batch", 224),
        *_growth(("plvl", "calls"), "plvl", "sentences", "sentences", 448),
        *_growth(ours[:1], "plvl", "network", "processes", 224),
    ]


def _plvl_cuda() -> list[Case]:
    """bf16 at batch 1, 8 and 32, training at the paper's 20 per GPU."""
    ours = ("plvl", "plain")
    cases = [
        *_both("plvl", (*ours, "clipseg"), "network", "inference", 448, (1, 8, 32)),
        *_both("plvl", ours, "network", "training", 448, (20,)),
        *_each(("plvl", "calls", "plain calls"), "plvl", "sentences", "inference", 448, count=10),
        *_each(ours, "plvl", "network", "memory", 448, batch=20),
        *_growth(ours, "plvl", "network", "side", 224),
        *_growth(ours, "plvl", "network", "batch", 448),
        *_growth(("plvl", "calls"), "plvl", "sentences", "sentences", 448),
    ]
    return [replace(case, precision="bf16") for case in cases]


def _cabl_cgsr_cpu() -> list[Case]:
    """Training at ImageNet's 224 and at the crop of the recipe, 512."""
    ours, name = ("cabl-cgsr", "plain"), "cabl-cgsr"
    return [
        *_each(ours, name, "classifier", "inference", 224),
        *_each(ours, name, "classifier", "inference", 512),
        *_each(ours, name, "classifier", "training", 224, batch=4),
        *_each(ours, name, "classifier", "training", 512, batch=2),
        *_each(ours, name, "three scales", "inference", 768),
        *_sam_cases(),
        *_each(ours, name, "classifier", "memory", 224, batch=4),
        *_each(ours, name, "classifier", "memory", 512, batch=2),
        Case(name, name, "samples", "loader", 512),
        Case(name, name, "classifier", "export", 512),
        Case(name, name, "three scales", "start", 768),
        *_growth(ours, name, "classifier", "side", 224),
        *_growth(ours, name, "classifier", "batch", 224),
        *_growth(("sam", "sam calls"), name, "prompts", "prompts", 1024),
        *_growth(ours[:1], name, "classifier", "processes", 224, batch=2),
    ]


def _cabl_cgsr_cuda() -> list[Case]:
    """bf16 at batch 1 and 32, training at the recipe's 8 and at 32; SAM in float32."""
    ours, name = ("cabl-cgsr", "plain"), "cabl-cgsr"
    cases = [
        *_both(name, ours, "classifier", "inference", 512, (1, 32)),
        *_each(ours, name, "classifier", "training", 512, batch=8),
        *_each(ours, name, "classifier", "training", 512, batch=32),
        *_each(ours, name, "three scales", "inference", 768),
        *_each(ours, name, "three scales", "inference", 768, batch=32),
        *_each(ours, name, "classifier", "memory", 512, batch=8),
        *_each(ours, name, "classifier", "memory", 512, batch=32),
        *_growth(ours, name, "classifier", "side", 224),
        *_growth(ours, name, "classifier", "batch", 512),
    ]
    growth = _growth(("sam", "sam calls"), name, "prompts", "prompts", 1024)
    return [*(replace(case, precision="bf16") for case in cases), *_sam_cases(), *growth]


def _both(
    package: str, networks: Sequence[str], part: str, mode: str, side: int, batches: Sequence[int]
) -> list[Case]:
    """Eager and compiled, group by group."""
    return [
        case
        for batch in batches
        for compiled in (False, True)
        for case in _each(networks, package, part, mode, side, batch=batch, compiled=compiled)
    ]


def _sam_cases() -> list[Case]:
    pair = ("sam", "sam calls")
    return [
        *_each(pair, "cabl-cgsr", "prompts", "inference", 1024, count=4),
        *_each(pair, "cabl-cgsr", "embedding", "inference", 1024),
    ]


def _quick(cases: Sequence[Case]) -> list[Case]:
    kept: list[Case] = []
    memory_of = next((case.group for case in cases if case.mode == "memory"), None)
    for case in cases:
        if case.mode == "growth":
            sizes = sorted({c.size for c in cases if (c.part, c.axis) == (case.part, case.axis)})[:2]
            if case.size not in sizes:
                continue
        if case.compiled or (case.mode == "memory" and (case.group != memory_of or case.network != "fanet")):
            continue
        if case.axis == "processes" and (case.package != "cabl-cgsr" or case.count != max(PROCESSES)):
            continue
        side = 64 * (1 + sizes.index(case.size)) if case.axis == "side" else 64
        kept.append(replace(case, side=side, batch=min(case.batch, 2), small=True))
    return list(dict.fromkeys(kept))
