"""The Markdown page of one package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.cases import Case
from benchmarks.growth import IDEAL
from benchmarks.published import beside
from benchmarks.start import STAGES

PROTOCOL = (
    "Networks of a group run interleaved in one process (A B A B ...); figures are medians, with smallest and largest "
    "round. A group has 3 to 7 rounds, as many as take 30 seconds. The first two calls are not counted (where a round "
    "takes 10 seconds, and where things grow, the first); a compiled network's very first one is given apart, as "
    "compile time on an empty compiler cache.",
    "GMAC: 1e9 multiply-adds of convolutions and matrix products, attention included (torch.utils.flop_counter / 2), "
    "of one picture.",
    "Memory: a fresh process per network; peak over three training steps minus the level after network and optimizer "
    "were built (CPU: resident set; GPU: torch's allocator).",
    "Ratio to plain: time of `plain` eager over the row's time, of the same rounds; above 1 is faster.",
    "Growth: from small to large, 2 rounds or as many as take 10 seconds; `over ideal` is time per size, for sides "
    "per pixel, over that of the smallest size. Memory is the peak of the first call over the level before. Sizes "
    "whose time or memory would pass a limit by the slope so far are skipped, and listed.",
    "Processes: DistributedDataParallel on gloo, one thread each, the same batch on each; one launch after the other.",
    "Export: `torch.export` of the contiguous network; its program beside the eager network, interleaved.",
    "Cold start: from the import to the first answer in a fresh process, files in the system's cache.",
)
TableOf = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Head and rows."""


def markdown(record: dict[str, Any]) -> str:
    machine, versions = record["machine"], record["versions"]
    lines = [
        f"# Benchmarks of {record['package']}",
        "",
        f"`{record['command']}`, {record['started']}, {record['seconds'] / 60:.1f} minutes"
        f"{'' if record['complete'] else ', interrupted'}; load of the machine {record['load']} before.",
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads_used']} threads; "
        f"device {machine['device']}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f"; commit {record['commit'] or 'unknown'}.",
        "",
    ]
    lines += _targets(record) + _networks(record) + _published(record) + _groups(record) + _growth(record)
    for title, key, none in (
        ("Not measured", "missing", "Nothing was left out of the list of cases."),
        ("Skipped", "skipped", "No size was too large."),
    ):
        entries = [f"- {entry['what']}: {entry['reason']}" for entry in record[key]]
        lines += [f"## {title}", "", *(entries or [none]), ""]
    lines += ["## Protocol", "", *(f"- {sentence}" for sentence in record["protocol"]), ""]
    return "\n".join(lines)


def _targets(record: dict[str, Any]) -> list[str]:
    if not record["targets"]:
        return ["Targets are judged on a full CPU run only.", ""]
    return ["## Targets", "", *_table(*target_table(record)), ""]


def target_table(record: dict[str, Any]) -> TableOf:
    """The verdict stands in the last column."""
    head = ("target", "bound", "measured", "verdict")
    return head, [
        (
            t["target"],
            t["bound"],
            f"{t['ratio']:.2f} ({t['low']:.2f} to {t['high']:.2f})" if "ratio" in t else "",
            t["verdict"],
        )
        for t in record["targets"]
    ]


def network_table(record: dict[str, Any]) -> TableOf:
    """A row for each part of each network; GMAC by side."""
    rows = []
    for name, parts in record["networks"].items():
        for part, figures in parts.items():
            if part != "title":
                gmacs = {int(k.removeprefix("gmac@")): v for k, v in figures.items() if k.startswith("gmac@")}
                sizes = ", ".join(f"{value:.2f} at {side}" for side, value in sorted(gmacs.items()))
                rows.append((name, parts["title"], part, f"{figures['parameters'] / 1e6:.2f}", sizes))
    return ("network", "what", "part", "parameters (M)", "GMAC"), rows


def _networks(record: dict[str, Any]) -> list[str]:
    if not record["networks"]:
        return []
    return ["## Networks", "", *_table(*network_table(record)), "", same_function(record), ""]


def same_function(record: dict[str, Any]) -> str:
    if not record["equality"]:
        return "`plain` was not built, so that no answers were compared."
    worst = max(record["equality"].values())
    return f"`{record['package']}` and `plain` carry the same weights; their answers differ by {worst:.1e} at most."


def _published(record: dict[str, Any]) -> list[str]:
    return ["## Beside the papers' figures", "", *_table(*published_table(record)), ""]


def published_table(record: dict[str, Any]) -> TableOf:
    head = ("figure", "published", "where", "measured here", "ratio", "remark")
    return head, [
        (
            entry["published"].what,
            f"{entry['published'].value:g} {entry['published'].unit}",
            entry["published"].where,
            "not measured" if entry["measured"] is None else f"{entry['measured']:.2f}",
            "" if entry["ratio"] is None else f"{entry['ratio']:.3f}",
            entry["published"].remark,
        )
        for entry in beside(record)
    ]


def groups(record: dict[str, Any]) -> dict[Case, list[dict[str, Any]]]:
    """Results by group, without growth."""
    found: dict[Case, list[dict[str, Any]]] = {}
    for result in record["results"]:
        case = Case(**result["case"])
        if case.mode != "growth":
            found.setdefault(case.group, []).append(result)
    return found


def _groups(record: dict[str, Any]) -> list[str]:
    lines = []
    for group, results in groups(record).items():
        lines += [f"## {heading(group)}", "", *_table(*group_table(group, results, record["networks"])), ""]
    return lines


def heading(group: Case) -> str:
    text = str(group).partition(": ")[2]
    return text[:1].upper() + text[1:]


def group_table(group: Case, results: Sequence[dict[str, Any]], networks: dict[str, Any]) -> TableOf:
    if group.mode == "loader":
        head = ("pipeline", "samples per second and core", "min", "max")
        return head, [(r["variant"], *(f"{r[k]:.1f}" for k in ("median", "min", "max"))) for r in results]
    if group.mode == "start":
        head = ("program", "seconds", "min", "max", *STAGES)
        stages = [tuple(f"{r['stages'][stage]:.2f}" for stage in STAGES) for r in results]
        figures = [tuple(f"{r[k]:.2f}" for k in ("median", "min", "max")) for r in results]
        return head, [(r["variant"], *a, *b) for r, a, b in zip(results, figures, stages, strict=True)]
    if group.mode == "export":
        head = ("program", "ms per image", "min", "max", "export (s)")
        return head, [
            (
                r["variant"],
                *_per_image(group, r),
                f"{r['export_seconds']:.1f}" if "export_seconds" in r else "",
            )
            for r in results
        ]
    plain = next((r["median"] for r in results if r["variant"] == "plain"), float("nan"))
    if group.mode == "memory":
        head = ("network", "peak of the step (MB)", "whole process or device (MB)", "over plain")
        sizes = [(f"{r['median'] / 1e6:.0f}", f"{r['peak_bytes'] / 1e6:.0f}") for r in results]
        return head, [
            (r["variant"], *s, f"{r['median'] / plain:.2f}") for r, s in zip(results, sizes, strict=True)
        ]
    columns = ["network", "ms per image", "min", "max", "images per second", "ratio to plain"]
    columns += ["ms per GMAC", "compile (s)"] if group.mode == "inference" else ["compile (s)"]
    rows = []
    for r in results:
        case, per_image = Case(**r["case"]), r["median"] / group.batch * 1e3
        row = [case.variant, *_per_image(group, r), f"{1e3 / per_image:.2f}", f"{plain / r['median']:.2f}"]
        if group.mode == "inference":
            row.append(f"{per_image / networks[case.network][case.part][f'gmac@{case.side}']:.2f}")
        rows.append((*row, f"{r['compile_seconds']:.0f}" if "compile_seconds" in r else ""))
    return tuple(columns), [tuple("" if cell == "nan" else cell for cell in row) for row in rows]


def _per_image(group: Case, result: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{result[key] / group.batch * 1e3:.1f}" for key in ("median", "min", "max"))


def courses(record: dict[str, Any]) -> dict[Case, dict[str, list[dict[str, Any]]]]:
    """What grows -> network -> its results from small to large. The key is a case of the smallest size."""
    found: dict[tuple[str, str], tuple[Case, dict[str, list[dict[str, Any]]]]] = {}
    for result in record["results"]:
        case = Case(**result["case"])
        if case.mode == "growth":
            _, networks = found.setdefault((case.part, case.axis), (case.group, {}))
            networks.setdefault(case.network, []).append(result)
    return dict(found.values())


def _growth(record: dict[str, Any]) -> list[str]:
    lines = []
    for start, networks in courses(record).items():
        head = (start.axis, "network", "ms", "min", "max", "over ideal", "peak (MB)")
        rows = []
        for name, results in networks.items():
            for result, over in zip(results, over_ideal(results), strict=True):
                size = str(Case(**result["case"]).size)
                figures = (f"{result[key] * 1e3:.1f}" for key in ("median", "min", "max"))
                taken = f"{result['bytes'] / 1e6:.0f}" if "bytes" in result else ""
                rows.append((size, name, *figures, f"{over:.2f}", taken))
        lines += [f"## {growth_heading(start)}", "", *_table(head, rows), ""]
    return lines


def growth_heading(start: Case) -> str:
    kind = "training step" if start.axis == "processes" else "inference"
    fixed = {"side": f"batch {start.batch}", "batch": f"{start.side}x{start.side}"}
    return f"{start.part.capitalize()}, {kind} by {start.axis}, " + fixed.get(
        start.axis, f"{start.side}x{start.side}, batch {start.batch}"
    )


def over_ideal(results: Iterable[dict[str, Any]]) -> list[float]:
    """Time per size^ideal, over that of the first result."""
    per_size = []
    for result in results:
        case = Case(**result["case"])
        per_size.append(result["median"] / case.size ** IDEAL[case.axis])
    return [value / per_size[0] for value in per_size]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [head, ("---",) * len(head), *rows]
    return ["| " + " | ".join(row) + " |" for row in cells]
