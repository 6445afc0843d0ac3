"""`plvl data build`, `convert`, `check` and `toy`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from papers_shared.errors import UserError
from papers_shared.files import check_writable, write_json
from plvl.data.audit import audit
from plvl.data.build import Missing, build
from plvl.data.check import check, unusual_splits
from plvl.data.hub import hub
from plvl.data.items import Listing, Reading
from plvl.data.mixtures import held_out, mixture_plan
from plvl.data.published import BENCHMARKS, beside_published
from plvl.data.readers import listing_of
from plvl.data.sources.coco_file import coco_file
from plvl.data.sources.flickr30k import flickr30k
from plvl.data.sources.json_lines import json_lines
from plvl.data.sources.label_lists import label_lists
from plvl.data.sources.refer import SETS, refer
from plvl.data.sources.visual_genome import visual_genome

if TYPE_CHECKING:
    from plvl.options import DataBuildOptions, DataCheckOptions, DataConvertOptions, DataToyOptions

_OWN: dict[str, Callable[..., Listing]] = {
    "visual_genome": visual_genome,
    "flickr30k": flickr30k,
    "labels": label_lists,
    "hub": hub,
    "jsonl": json_lines,
    "coco": coco_file,
}
"""Data set -> its reader; the option of the same name gives its folder."""


def run_build(options: DataBuildOptions) -> int:
    """Build, and print the counts beside the published ones."""
    given = {field.name: getattr(options, field.name) for field in fields(options)}
    reading = Reading(**{field.name: given.pop(field.name) for field in fields(Reading)})
    manifest = build_dataset(**given, reading=reading)
    print("\n".join(summary(manifest)))
    print(f"written: {options.output} (--data.root {options.output})")
    return 0


def run_convert(options: DataConvertOptions) -> int:
    """Write what a data folder holds as a built one, and print the counts."""
    data = replace(options.data, root=options.root or options.data.root)
    listing = listing_of(data)
    manifest = build(options.output, listing.name, [listing], images=data.images, missing=options.missing)
    print("\n".join(summary(manifest)))
    print(f"written: {options.output} (--data.root {options.output})")
    return 0


def build_dataset(
    dataset: str,
    output: str,
    *,
    images: str = "",
    missing: Missing = "error",
    reading: Reading | None = None,
    **folders: str,
) -> dict[str, Any]:
    """What `plvl data build` does; returns the manifest.

    Args:
        folders: The releases, by the names of their options: refer, visual_genome, flickr30k, labels, hub, jsonl, coco.

    Raises:
        UserError: A release that the data set needs is not given, or a source cannot be read.
    """
    listings = list(_listings(dataset, images, folders, reading or Reading()))
    more: dict[str, Any] = {}
    if dataset.startswith("mixed_"):
        without = held_out(listings) if dataset.endswith("_clean") else None
        more["plan"] = mixture_plan(without)
    return build(output, dataset, listings, images=images, missing=missing, **more)


def _listings(dataset: str, images: str, folders: dict[str, str], reading: Reading) -> Iterator[Listing]:
    """What a data set is made of."""

    def given(name: str) -> str:
        if not folders.get(name):
            raise UserError(f"{dataset} needs --{name.replace('_', '-')}: the folder of that release")
        return folders[name]

    if dataset in _OWN:
        yield _OWN[dataset](given(dataset), images, reading)
        return
    for name in [dataset] if dataset in SETS else BENCHMARKS:
        yield refer(given("refer"), name, images, reading)
    if dataset.startswith("mixed_pretrain"):
        for name in ("visual_genome", "flickr30k"):
            yield _OWN[name](given(name), images, reading)


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
        lines += [f"{source['name']}: {count:,} times: {what}" for what, count in source["remarks"].items()]
    lines += [
        f"warning: {finding.source}: {finding.message}; {finding.remedy}"
        for finding in unusual_splits(manifest["dataset"], manifest["splits"])
    ]
    if manifest["missing_images"]:
        lines.append(f"{manifest['missing_images']:,} images are missing")
    return [*lines, f"sha256 {manifest['sha256']}"]


def run_check(options: DataCheckOptions) -> int:
    """Check and audit, and print the findings."""
    if options.json:
        check_writable(options.json)
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
    manifest = build_dataset("toy", str(root / "built"), refer=str(root / "refer"))
    print("\n".join(summary(manifest)))
    print(f"written: {root} (--data.root {root / 'built'})")
    return 0
