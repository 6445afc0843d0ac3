"""The papers' own figures of size and speed, and what this suite measured of the same thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    package: str
    network: str
    what: str
    value: float
    unit: str
    where: str
    part: str
    figure: str
    """Name in `networks[network][part]`; `ms` is the median of one picture at batch 1."""
    remark: str = ""


CLASSIFIER = "the paper counts the ImageNet classifier, here is the backbone"
PUBLISHED = (
    Published("fanet", "fanet", "FANet, parameters", 36.7, "M", "Tables 3 and 4", "backbone", "parameters",
              f"{CLASSIFIER}: 0.77 M less; the segmentor has 46.06 M"),
    Published("fanet", "fanet", "FANet at 224x224", 5.8, "GMAC", "Table 4", "backbone", "gmac@224",
              "a multiply-add is one"),
    Published("fanet", "focalnet_tiny_lrf", "FocalNet-T, parameters", 28.6, "M", "Tables 3 and 4", "backbone",
              "parameters", CLASSIFIER),
    Published("fanet", "focalnet_tiny_lrf", "FocalNet-T at 224x224", 4.5, "GMAC", "Table 4", "backbone", "gmac@224",
              "a multiply-add is one"),
    Published("fanet", "focalnet_base_lrf", "FocalNet-B, parameters", 88.7, "M", "Table 3", "backbone", "parameters",
              CLASSIFIER),
    Published("plvl", "plvl", "PLVL, parameters", 218.02, "M", "Table 3", "network", "parameters",
              "the authors' network holds 1.00 M that it never uses"),
    Published("plvl", "plvl", "PLVL at 448x448, 40 word pieces", 75.04, "G", "Table 3", "network", "paper_gmac",
              "counted as the authors do: linear and convolution modules and four per element into a norm, without "
              "attention products and the projections of cross-attention and decoder"),
    Published("plvl", "plvl", "PLVL, one picture", 45.96, "ms", "Table 3, one A100", "network", "ms"),
    Published("plvl", "plvl", "EEVG, one picture", 50.04, "ms", "Table 3, one A100", "network", "ms",
              "beside this package's PLVL"),
    Published("plvl", "plvl", "PolyFormer, one picture", 82.72, "ms", "Table 3, one A100", "network", "ms",
              "beside this package's PLVL"),
    Published("cabl-cgsr", "cabl-cgsr", "Conformer-S, parameters", 37.7, "M", "Conformer (Peng et al. 2021)",
              "classifier", "parameters", "the paper of CABL states none; Conformer's counts 1000 classes, here is 1"),
    Published("cabl-cgsr", "cabl-cgsr", "Conformer-S at 224x224", 10.6, "GMAC", "Conformer (Peng et al. 2021)",
              "classifier", "gmac@224", "the head on the convolution branch and CABL's edge filters add to it"),
)  # fmt: skip


def beside(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Each published figure of a package with `measured` (None: it was not) and `ratio`, measured over published."""
    found = []
    for entry in PUBLISHED:
        if entry.package == record["package"]:
            measured = _measured(entry, record)
            ratio = None if measured is None else measured / entry.value
            found.append({"published": entry, "measured": measured, "ratio": ratio})
    return found


def _measured(entry: Published, record: dict[str, Any]) -> float | None:
    if entry.figure == "ms":
        wanted = {
            "network": entry.network,
            "part": entry.part,
            "mode": "inference",
            "batch": 1,
            "compiled": False,
        }
        found = [
            r for r in record["results"] if wanted.items() <= r["case"].items() and not r["case"]["small"]
        ]
        return found[0]["median"] * 1e3 if found else None
    value = record["networks"].get(entry.network, {}).get(entry.part, {}).get(entry.figure)
    if value is None or record["quick"]:
        return None
    return float(value) / (1e6 if entry.figure == "parameters" else 1)
