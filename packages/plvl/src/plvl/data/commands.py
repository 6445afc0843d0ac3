"""`plvl data build`, `check` and `toy`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from papers_shared.errors import UserError
from papers_shared.runs import write_json
from plvl.data.audit import audit
from plvl.data.build import build
from plvl.data.check import check
from plvl.data.mixtures import held_out, mixture_plan
from plvl.data.published import BENCHMARKS, beside_published
from plvl.data.records import Source
from plvl.data.sources.flickr30k import flickr30k
from plvl.data.sources.hub import hub
from plvl.data.sources.json_lines import json_lines
from plvl.data.sources.label_lists import label_lists
from plvl.data.sources.refer import SETS, refer
from plvl.data.sources.visual_genome import visual_genome
from plvl.options_data import DataBuildOptions, DataCheckOptions, DataToyOptions

_OWN: dict[str, Callable[..., Source]] = {
    "visual_genome": visual_genome,
    "flickr30k": flickr30k,
    "labels": label_lists,
    "hub": hub,
    "jsonl": json_lines,
}
"""Data set -> its reader; the option of the same name says where it is."""


def run_build(options: DataBuildOptions) -> int:
    """Build, and print the counts beside the published ones."""
    manifest = build_dataset(options)
    print("\n".join(summary(manifest)))
    print(f"written: {options.output} (--data.root {options.output})")
    return 0


def build_dataset(options: DataBuildOptions) -> dict[str, Any]:
    """What `plvl data build` does; returns the manifest.

    Raises:
        UserError: an option is missing, or a source cannot be read.
    """
    sources = sources_of(options)
    more: dict[str, Any] = {}
    if options.dataset.startswith("mixed_"):
        without = held_out(sources) if options.dataset.endswith("_clean") else None
        more["plan"] = mixture_plan(without)
    return build(
        options.output, options.dataset, sources, images=options.images, missing=options.missing, **more
    )


def sources_of(options: DataBuildOptions) -> list[Source]:
    """The sources that a data set is made of."""
    dataset = options.dataset
    if dataset in SETS:
        return [refer(_given(options, "refer"), dataset, options.images)]
    if dataset in _OWN:
        return [_OWN[dataset](_given(options, dataset), options.images)]
    sources = [refer(_given(options, "refer"), name, options.images) for name in BENCHMARKS]
    if dataset.startswith("mixed_pretrain"):
        sources += [
            _OWN[name](_given(options, name), options.images) for name in ("visual_genome", "flickr30k")
        ]
    return sources


def summary(manifest: dict[str, Any]) -> list[str]:
    """Counts beside the published ones, what was left out, and the hash."""
    lines, agree = beside_published(manifest["dataset"], manifest["splits"])
    known = " of " in "".join(lines)
    if known:
        lines.append("the published counts" if agree else "NOT the published counts")
    for source in manifest["sources"]:
        lines += [
            f"{source['name']}: {count:,} left out, {what}" for what, count in source["left_out"].items()
        ]
    if manifest["missing_pictures"]:
        lines.append(f"{manifest['missing_pictures']:,} pictures are missing")
    return [*lines, f"sha256 {manifest['sha256']}"]


def run_check(options: DataCheckOptions) -> int:
    """Check and audit, and print the findings."""
    data = replace(options.data, root=options.root or options.data.root)
    report = check(data, vocabulary=options.vocabulary, max_tokens=options.max_tokens)
    try:
        report.extend(list(audit(data, options.training, options.visual_genome, options.detector)))
    except UserError as error:
        if str(error) not in {finding.message for finding in report.errors}:
            report.add("error", "the leakage audit", str(error))
    report.print()
    if options.json:
        write_json(Path(options.json), report.to_json())
    return report.exit_code


def run_toy(options: DataToyOptions) -> int:
    """Write the toy release and build it."""
    from plvl.toy import write_refer

    root = Path(options.root)
    sizes = {"train": options.train, "val": options.val, "test": options.test, "side": options.side}
    write_refer(root / "refer", seed=options.seed, **sizes)
    manifest = build_dataset(DataBuildOptions("toy", str(root / "built"), refer=str(root / "refer")))
    print("\n".join(summary(manifest)))
    print(f"written: {root} (--data.root {root / 'built'})")
    return 0


def _given(options: DataBuildOptions, name: str) -> str:
    value = str(getattr(options, name))
    if not value:
        raise UserError(f"{options.dataset} needs --{name.replace('_', '-')}: the folder of that release")
    return value
