"""The list of cases: package, network, part, mode and input. Whoever grows the suite adds to this file.

Cases that differ only in the network, or in being compiled, form a group: they run interleaved, A B A B.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

PACKAGES = {
    "fanet": "benchmarks.fanet_networks",
    "plvl": "benchmarks.plvl_networks",
    "cabl-cgsr": "benchmarks.cabl_cgsr_networks",
}
"""Package -> module with `NETWORKS`, `REQUIRED`, `build`, `inference`, `training_step`, `measure_loader` and
`check_equality`, and where it differs from `benchmarks.report.PROTOCOL` its own `PROTOCOL`."""
MODES = ("inference", "training", "memory", "loader")
FANET_NETWORKS = ("fanet", "plain", "focalnet_tiny_lrf", "convnext_tiny")
NETWORK_NAMES = (*FANET_NETWORKS, "plvl", "cabl-cgsr")


@dataclass(frozen=True)
class Case:
    package: str
    network: str
    part: str
    """backbone, segmentor, network, ten sentences, classifier, three scales, four prompts, embedding, or frames
    (loader)."""
    mode: str
    side: int
    """Height and width of the input, in pixels; of the crop for the loader."""
    batch: int
    precision: str = "float32"
    compiled: bool = False

    @property
    def group(self) -> Case:
        return replace(self, network="", compiled=False)

    @property
    def variant(self) -> str:
        return f"{self.network} compiled" if self.compiled else self.network

    def __str__(self) -> str:
        size = f"{self.side}x{self.side}, batch {self.batch}, {self.precision}"
        return f"{self.package}: {self.part}, {self.mode}, {size}"


def cases_of(package: str, *, device: str = "cpu", quick: bool = False) -> list[Case]:
    """All cases of a package, groups side by side.

    `quick` keeps every kind of case but shrinks the inputs, compiles nothing and measures the memory of two
    networks only: it shows that the suite works, not how fast anything is.
    """
    makers = {
        "fanet": _fanet_cuda if device == "cuda" else _fanet_quick if quick else _fanet_cpu,
        "plvl": _plvl_cuda if device == "cuda" else _plvl_quick if quick else _plvl_cpu,
        "cabl-cgsr": _cabl_cgsr_cuda if device == "cuda" else _cabl_cgsr_quick if quick else _cabl_cgsr_cpu,
    }
    return makers[package]()


def groups_of(cases: list[Case]) -> dict[Case, list[Case]]:
    groups: dict[Case, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    return groups


def _fanet_cpu() -> list[Case]:
    def each(part: str, mode: str, side: int, batch: int, compiled: tuple[bool, ...] = ()) -> list[Case]:
        return [
            Case("fanet", network, part, mode, side, batch, compiled=flag)
            for flag in (False, *compiled)
            for network in FANET_NETWORKS
        ]

    return [
        *each("backbone", "inference", 224, 1),
        *each("backbone", "inference", 512, 1, (True,)),
        *each("backbone", "training", 512, 2),
        *each("segmentor", "inference", 224, 1),
        *each("segmentor", "inference", 512, 1),
        *each("segmentor", "training", 512, 2),
        *each("backbone", "memory", 512, 2),
        *each("segmentor", "memory", 512, 2),
        Case("fanet", "fanet", "frames", "loader", 512, 1),
    ]


def _fanet_quick() -> list[Case]:
    shrunk = [replace(case, side=64) for case in _fanet_cpu() if not case.compiled and case.side != 224]
    few = ("fanet", "plain")
    return [
        case for case in shrunk if case.mode != "memory" or (case.network in few and case.part == "backbone")
    ]


def _fanet_cuda() -> list[Case]:
    """bf16 at batch 1 and 32; batch norm of the 1x1 pooled map cannot train on one image, hence 2 there."""

    def each(part: str, mode: str, batch: int, networks: tuple[str, ...]) -> list[Case]:
        return [
            Case("fanet", network, part, mode, 512, batch, "bf16", compiled)
            for compiled in (False, True)
            for network in networks
        ]

    return [
        *each("backbone", "inference", 1, FANET_NETWORKS),
        *each("backbone", "inference", 32, FANET_NETWORKS),
        *each("backbone", "training", 1, FANET_NETWORKS),
        *each("backbone", "training", 32, FANET_NETWORKS),
        *each("segmentor", "inference", 1, FANET_NETWORKS[:1]),
        *each("segmentor", "inference", 32, FANET_NETWORKS[:1]),
        *each("segmentor", "training", 2, FANET_NETWORKS[:1]),
        *each("segmentor", "training", 32, FANET_NETWORKS[:1]),
        *[Case("fanet", network, "backbone", "memory", 512, 32, "bf16") for network in FANET_NETWORKS],
    ]


def _plvl_cpu() -> list[Case]:
    def both(mode: str, batch: int) -> list[Case]:
        return [Case("plvl", network, "network", mode, 448, batch) for network in ("plvl", "plain")]

    return [
        *both("inference", 1),
        *both("inference", 8),
        *both("training", 2),
        *[Case("plvl", network, "ten sentences", "inference", 448, 1) for network in ("plvl", "calls")],
        *both("memory", 2),
    ]


def _plvl_quick() -> list[Case]:
    return [replace(case, side=64, batch=min(case.batch, 2)) for case in _plvl_cpu() if case.mode != "memory"]


def _plvl_cuda() -> list[Case]:
    """bf16 at batch 1, 8 and 32, training at the paper's 20 per GPU."""

    def both(mode: str, batch: int, compiled: tuple[bool, ...] = (False, True)) -> list[Case]:
        return [
            Case("plvl", network, "network", mode, 448, batch, "bf16", flag)
            for flag in compiled
            for network in ("plvl", "plain")
        ]

    sentences = [
        Case("plvl", network, "ten sentences", "inference", 448, 1, "bf16") for network in ("plvl", "calls")
    ]
    return [
        *both("inference", 1),
        *both("inference", 8),
        *both("inference", 32),
        *both("training", 20),
        *sentences,
        *both("memory", 20, (False,)),
    ]


def _cabl_cgsr_cpu() -> list[Case]:
    """Training at ImageNet's 224 and at the crop of the recipe, 512."""

    def both(part: str, mode: str, side: int, batch: int) -> list[Case]:
        return [Case("cabl-cgsr", network, part, mode, side, batch) for network in ("cabl-cgsr", "plain")]

    return [
        *both("classifier", "inference", 224, 1),
        *both("classifier", "inference", 512, 1),
        *both("classifier", "training", 224, 4),
        *both("classifier", "training", 512, 2),
        *both("three scales", "inference", 768, 1),
        *_sam_cases(1024),
        *both("classifier", "memory", 224, 4),
        *both("classifier", "memory", 512, 2),
    ]


def _cabl_cgsr_quick() -> list[Case]:
    return [
        replace(case, side=64, batch=min(case.batch, 2))
        for case in _cabl_cgsr_cpu()
        if case.mode != "memory" and case.side != 224
    ]


def _cabl_cgsr_cuda() -> list[Case]:
    """bf16 at batch 1 and 32, training at the recipe's 8 and at 32; SAM in float32."""

    def both(
        part: str, mode: str, side: int, batch: int, compiled: tuple[bool, ...] = (False,)
    ) -> list[Case]:
        return [
            Case("cabl-cgsr", network, part, mode, side, batch, "bf16", flag)
            for flag in compiled
            for network in ("cabl-cgsr", "plain")
        ]

    return [
        *both("classifier", "inference", 512, 1, (False, True)),
        *both("classifier", "inference", 512, 32, (False, True)),
        *both("classifier", "training", 512, 8),
        *both("classifier", "training", 512, 32),
        *both("three scales", "inference", 768, 1),
        *both("three scales", "inference", 768, 32),
        *_sam_cases(1024),
        *both("classifier", "memory", 512, 8),
        *both("classifier", "memory", 512, 32),
    ]


def _sam_cases(side: int) -> list[Case]:
    return [
        Case("cabl-cgsr", network, part, "inference", side, 1)
        for part in ("four prompts", "embedding")
        for network in ("sam", "sam calls")
    ]
