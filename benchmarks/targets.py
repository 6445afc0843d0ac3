"""The stated speed targets, judged on a full CPU run in float32."""

from __future__ import annotations

from typing import Any

Result = dict[str, Any]
BACKBONE = {"part": "backbone", "side": 512, "precision": "float32"}


def judge(package: str, findings: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry per target: what is compared, the figure, the bound, and met / missed / not measured.

    The figure is the ratio of two medians; `low` and `high` are its extremes over the rounds, each of which
    measured both.
    """
    return {"fanet": _fanet, "plvl": _plvl, "cabl-cgsr": _cabl_cgsr}[package](findings)


def _fanet(findings: dict[str, Any]) -> list[dict[str, Any]]:
    def eager(network: str, mode: str, batch: int) -> Result | None:
        return _find(findings, network=network, mode=mode, batch=batch, compiled=False, **BACKBONE)

    def crops(variant: str) -> Result | None:
        return next((result for result in findings["results"] if result.get("variant") == variant), None)

    def gmac(network: str) -> float:
        return findings["networks"].get(network, {}).get("backbone", {}).get("gmac@512", float("nan"))

    compiled = _find(findings, network="fanet", mode="inference", batch=1, compiled=True, **BACKBONE)
    return [
        _target(
            "backbone at 512x512, batch 1: plain eager / fanet eager",
            eager("plain", "inference", 1),
            eager("fanet", "inference", 1),
            at_least=1.15,
        ),
        _target(
            "backbone at 512x512, batch 1: plain eager / fanet compiled",
            eager("plain", "inference", 1),
            compiled,
            at_least=1.5,
        ),
        _target(
            "backbone at 512x512, training step of batch 2: plain / fanet",
            eager("plain", "training", 2),
            eager("fanet", "training", 2),
            at_least=1.8,
        ),
        _target(
            "backbone at 512x512, peak training memory, batch 2: fanet / plain",
            eager("fanet", "memory", 2),
            eager("plain", "memory", 2),
            at_most=0.75,
        ),
        _target(
            "backbone at 512x512, batch 1, time per multiply-add: fanet / FocalNet-T, both eager",
            eager("fanet", "inference", 1),
            eager("focalnet_tiny_lrf", "inference", 1),
            at_most=1.0,
            factor=gmac("focalnet_tiny_lrf") / gmac("fanet"),
        ),
        _target(
            "512 crops from 1920x1080 PNG frames, rate of a cached epoch: fanet / plain PIL",
            crops("fanet, cached epoch"),
            crops("plain PIL"),
            at_least=2.0,
        ),
    ]


def _plvl(findings: dict[str, Any]) -> list[dict[str, Any]]:
    def eager(network: str, mode: str, batch: int) -> Result | None:
        return _find(
            findings, network=network, part="network", mode=mode, batch=batch, side=448, precision="float32"
        )

    def sentences(network: str) -> Result | None:
        return _find(
            findings, network=network, part="sentences", mode="inference", count=10, precision="float32"
        )

    return [
        _target(
            "448x448, 40 tokens, batch 1: plain / plvl",
            eager("plain", "inference", 1),
            eager("plvl", "inference", 1),
            at_least=1.3,
        ),
        _target(
            "448x448, training step of batch 2: plain / plvl",
            eager("plain", "training", 2),
            eager("plvl", "training", 2),
            at_least=1.2,
        ),
        _target(
            "448x448, peak training memory, batch 2: plvl / plain",
            eager("plvl", "memory", 2),
            eager("plain", "memory", 2),
            at_most=0.75,
        ),
        *(
            _target(
                f"ten sentences on one picture: ten calls of {whose} / shared",
                sentences(network),
                sentences("plvl"),
                at_least=1.5,
            )
            for network, whose in (("calls", "plvl"), ("plain calls", "plain"))
        ),
    ]


def _cabl_cgsr(findings: dict[str, Any]) -> list[dict[str, Any]]:
    def eager(
        network: str, part: str, mode: str = "inference", side: int = 1024, batch: int = 1
    ) -> Result | None:
        return _find(
            findings, network=network, part=part, mode=mode, side=side, batch=batch, precision="float32"
        )

    training = [
        _target(
            f"{side}x{side}, training step of batch {batch}: plain / cabl-cgsr",
            eager("plain", "classifier", "training", side, batch),
            eager("cabl-cgsr", "classifier", "training", side, batch),
            at_least=1.3,
        )
        for side, batch in ((224, 4), (512, 2))
    ]
    memory = [
        _target(
            f"{side}x{side}, peak training memory, batch {batch}: cabl-cgsr / plain",
            eager("cabl-cgsr", "classifier", "memory", side, batch),
            eager("plain", "classifier", "memory", side, batch),
            at_most=0.7,
        )
        for side, batch in ((224, 4), (512, 2))
    ]
    return [
        _target(
            "maps at 256, 512 and 768 with mirrors, one picture: plain / cabl-cgsr",
            eager("plain", "three scales", side=768),
            eager("cabl-cgsr", "three scales", side=768),
            at_least=1.5,
        ),
        *training,
        *memory,
        _target(
            "SAM ViT-B, four prompts on one picture: four calls / one embedding",
            eager("sam calls", "prompts"),
            eager("sam", "prompts"),
            at_least=3.5,
        ),
        _target(
            "SAM ViT-B, image encoder: transformers (fused attention) / segment_anything",
            eager("sam", "embedding"),
            eager("sam calls", "embedding"),
            at_most=1.0,
        ),
    ]


def _find(findings: dict[str, Any], **wanted: Any) -> Result | None:
    matches = (r for r in findings["results"] if wanted.items() <= r["case"].items())
    return next(matches, None)


def _target(
    what: str,
    numerator: Result | None,
    denominator: Result | None,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    factor: float = 1.0,
) -> dict[str, Any]:
    bound = f"at least {at_least}" if at_most is None else f"at most {at_most}"
    target: dict[str, Any] = {"target": what, "bound": bound, "verdict": "not measured"}
    if numerator is None or denominator is None:
        return target
    ratio = factor * numerator["median"] / denominator["median"]
    pairs = zip(numerator["repeats"], denominator["repeats"], strict=True)
    rounds = [factor * top / bottom for top, bottom in pairs]
    met = (at_least is None or ratio >= at_least) and (at_most is None or ratio <= at_most)
    target |= {"ratio": ratio, "low": min(rounds), "high": max(rounds)}
    return target | {"verdict": "met" if met else "missed"}
