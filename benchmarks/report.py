"""What a run becomes: one JSON file with everything, and a Markdown page of tables."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.cases import PACKAGES, Case
from benchmarks.measure import ROOT

LIBRARIES = (
    "fanet",
    "plvl",
    "cabl-cgsr",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "segment-anything",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "datasets",
)
PROTOCOL = (
    "Networks of a group run interleaved in one process (A B A B ...); figures are medians, with smallest "
    "and largest round. The first two calls are not counted; a compiled network's very first one is given "
    "apart, as compile time on an empty compiler cache.",
    "Inference: eval mode, no gradients, normalised noise in the network's own memory layout. `plain` is "
    "contiguous NCHW, and so are the bare peers on the CPU, as timm builds them; FANet, and every segmentor "
    "but `plain`, is channels-last, as the package runs it. The segmentor answers logits at stride 4.",
    "Training: forward, loss, backward, AdamW step, as the recipe `zerowaste_f` trains. The bare backbone's "
    "loss is the sum over its four maps of the mean square.",
    "GMAC: 1e9 multiply-adds of convolutions and matrix products (torch.utils.flop_counter / 2), one image.",
    "Memory: a fresh process per network; peak over three training steps minus the level after network and "
    "optimizer were built (CPU: resident set; GPU: torch's allocator).",
    "Ratio to plain: time of `plain` eager over the row's time, of the same rounds; above 1 is faster.",
    "Loader: one process, one thread; the PNG frames lie in the operating system's file cache. The first "
    "epoch fills fanet's cache of decoded frames. fanet's rate includes flip, colour distortion, class-aware "
    "crop and normalisation; PIL's does not.",
)


def protocol(package: str) -> tuple[str, ...]:
    """How the cases of a package are measured."""
    return getattr(importlib.import_module(PACKAGES[package]), "PROTOCOL", PROTOCOL)


def environment(device: torch.device, threads: int) -> dict[str, Any]:
    """Machine, versions and commit."""
    machine = {
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=False),
        "threads_used": threads,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed as a distribution"
    return {
        "machine": machine,
        "versions": versions,
        "commit": _commit(),
    }


def markdown(record: dict[str, Any]) -> str:
    """The page of one package."""
    machine, versions = record["machine"], record["versions"]
    lines = [
        f"# Benchmarks of {record['package']}",
        "",
        f"`{record['command']}`, {record['started']}, {record['seconds'] / 60:.1f} minutes.",
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads_used']} threads; "
        f"device {machine['device']}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f"; commit {record['commit'] or 'unknown'}.",
        "",
    ]
    lines += _targets(record) + _networks(record) + _groups(record)
    lines += ["## Not measured", "", *(f"- {m['what']}: {m['reason']}" for m in record["missing"])]
    lines += [] if record["missing"] else ["Nothing was left out of the list of cases."]
    lines += ["", "## Protocol", "", *(f"- {sentence}" for sentence in record["protocol"]), ""]
    return "\n".join(lines)


def _targets(record: dict[str, Any]) -> list[str]:
    if not record["targets"]:
        return ["Targets are judged on a full CPU run only.", ""]
    rows = [
        (
            t["target"],
            t["bound"],
            f"{t['ratio']:.2f} ({t['low']:.2f} to {t['high']:.2f})" if "ratio" in t else "",
            t["verdict"],
        )
        for t in record["targets"]
    ]
    return ["## Targets", "", *_table(("target", "bound", "measured", "verdict"), rows), ""]


def _networks(record: dict[str, Any]) -> list[str]:
    if not record["networks"]:
        return []
    rows = []
    for name, figures in record["networks"].items():
        for part in figures:
            if part != "title":
                gmacs = {
                    k.removeprefix("gmac@"): v for k, v in figures[part].items() if k.startswith("gmac@")
                }
                sizes = ", ".join(f"{value:.2f} at {side}" for side, value in gmacs.items())
                rows.append((name, figures["title"], part, f"{figures[part]['parameters'] / 1e6:.2f}", sizes))
    worst = max(record["equality"].values(), default=float("nan"))
    head = ("network", "what", "part", "parameters (M)", "GMAC")
    same = f"`{record['package']}` and `plain` carry the same weights; their answers differ by {worst:.1e} at most."
    return ["## Networks", "", *_table(head, rows), "", same, ""]


def _groups(record: dict[str, Any]) -> list[str]:
    groups: dict[Case, list[dict[str, Any]]] = {}
    for result in record["results"]:
        groups.setdefault(Case(**result["case"]).group, []).append(result)
    lines = []
    for group, results in groups.items():
        lines += [f"## {str(group).partition(': ')[2].capitalize()}", ""]
        lines += [*_table(*_rows(group, results, record["networks"])), ""]
    return lines


def _rows(
    group: Case, results: list[dict[str, Any]], networks: dict[str, Any]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    head: tuple[str, ...]
    if group.mode == "loader":
        head = ("pipeline", "crops per second", "min", "max")
        return head, [(r["variant"], *(f"{r[k]:.1f}" for k in ("median", "min", "max"))) for r in results]
    plain = next((r["median"] for r in results if Case(**r["case"]).variant == "plain"), float("nan"))
    if group.mode == "memory":
        head = ("network", "peak of the step (MB)", "whole process or device (MB)", "over plain")
        return head, [
            (
                r["case"]["network"],
                f"{r['median'] / 1e6:.0f}",
                f"{r['peak_bytes'] / 1e6:.0f}",
                f"{r['median'] / plain:.2f}",
            )
            for r in results
        ]
    columns = ["network", "ms per image", "min", "max", "images per second", "ratio to plain"]
    columns += ["ms per GMAC", "compile (s)"] if group.mode == "inference" else ["compile (s)"]
    rows = []
    for r in results:
        case, per_image = Case(**r["case"]), r["median"] / group.batch * 1e3
        row = [case.variant, *(f"{r[k] / group.batch * 1e3:.1f}" for k in ("median", "min", "max"))]
        row += [f"{1e3 / per_image:.2f}", f"{plain / r['median']:.2f}"]
        if group.mode == "inference":
            row.append(f"{per_image / networks[case.network][case.part][f'gmac@{case.side}']:.2f}")
        rows.append((*row, f"{r['compile_seconds']:.0f}" if "compile_seconds" in r else ""))
    return tuple(columns), rows


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    cells = [head, ("---",) * len(head), *rows]
    return ["| " + " | ".join(row) + " |" for row in cells]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def _commit() -> str | None:
    """Commit of the tree, with `+changes` where it has any; None outside git."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+changes" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
