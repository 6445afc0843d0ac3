"""`python -m benchmarks projection RESULT.json ...`: hours and cost of the papers' full schedules.

From measured figures alone: the training step of the recipe's own network, and the loader's samples per second and
core. A schedule whose network was not measured on a GPU gets no GPU hours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import RESULTS
from benchmarks.tables.document import Document, Grid, Section
from benchmarks.tables.recipes import Length, length_of, recipes_of
from benchmarks.tables.throughput import Speed, at_batch, read_speeds, training_speeds
from papers_shared.errors import UserError
from papers_shared.runs import plan_step

GPUS = (1, 8, 32)
SCHEDULES = {
    "fanet": ("zerowaste_f", "focalnet_t", "imagenet1k"),
    "plvl": ("refcoco_unc", "refcocoplus_unc", "refcocog_umd", "mixed_pretrain", "mixed_coco"),
    "cabl-cgsr": ("casia2",),
}
HEAD = (
    "recipe", "samples", "GPUs", "batch of each", "measured", "loader allows", "hours", "GPU hours", "cost",
)  # fmt: skip
"""The last with a price only."""
LEAD = (
    "Hours are the samples of the schedule over the measured samples per second: of the training step, or of the "
    "loader's cores where these are slower. Several GPUs are taken to be that many times as fast, which is the most "
    "they can be: no exchange between them was measured, and smaller batches than the measured one are slower. "
    "Validation and checkpoints are not counted."
)


@dataclass(frozen=True)
class Machine:
    """What a GPU comes with."""

    cores_per_gpu: int
    price: float
    """Of a GPU hour; 0: not given."""


def main(arguments: list[str]) -> int:
    """Exit code 0; 2 for wrong use."""
    options = _parse(arguments)
    try:
        files = options.results or sorted(RESULTS.glob("*.json"))
        speeds = read_speeds(files)
        machine = Machine(options.cores_per_gpu, options.price)
        document = project(speeds, machine, [str(file) for file in files])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(document.markdown())
    if options.output:
        print("written: " + ", ".join(map(str, document.write(options.output, "projection"))))
    return 0


def project(speeds: Sequence[Speed], machine: Machine, files: Sequence[str]) -> Document:
    """The page."""
    sections = []
    for package, names in SCHEDULES.items():
        own = [speed for speed in speeds if speed.package == package]
        parts: list[str | Grid] = [_loader_sentence(own, machine)]
        head = HEAD if machine.price else HEAD[:-1]
        rows = [row for name in names for row in _rows(package, name, own, machine)]
        parts.append(Grid(head, [[*row, *[""] * (len(head) - len(row))] for row in rows]))
        sections.append(Section(package, parts))
    read = f"Read: {', '.join(files)}." if files else "No result was read: measure with python -m benchmarks."
    price = f"{machine.price:g} per GPU hour. " if machine.price else "No price was given (--price). "
    return Document("What the full schedules would take", LEAD, sections, f"{price}{read}")


def _rows(package: str, name: str, speeds: Sequence[Speed], machine: Machine) -> Iterator[list[str]]:
    """One recipe's rows, as far as they are known."""
    length = length_of(package, name)
    samples = f"{'about ' if length.about else ''}{length.samples:,}"
    lead = [f"`{name}`", "unknown" if length.unknown else samples]

    found = training_speeds(speeds, package, name)
    on_gpu = [speed for speed in found if speed.gpu]
    if length.unknown:
        yield [*lead, "", "", length.unknown.removeprefix("unknown: ")]
        return
    if not on_gpu:
        yield [*lead, "any", "", "no GPU result: nothing is projected for GPUs"]
    for gpus in GPUS if on_gpu else ():
        share, problem = share_of(package, name, gpus)
        speed = at_batch(on_gpu, share)
        if problem or speed is None:
            yield [*lead, str(gpus), "", problem]
            continue
        yield [*lead, str(gpus), str(share), *_projected(length, speed, gpus, _loader(speeds), machine)]
    on_cpu = at_batch(
        [speed for speed in found if not speed.gpu], recipes_of(package)[name]().optim.batch_size
    )
    if on_cpu is not None:
        hours = length.samples / on_cpu.per_second / 3600
        measured = f"{on_cpu.per_second:.2f} per second ({on_cpu})"
        yield [*lead, "none: this CPU only", str(on_cpu.batch), measured, "", f"{hours:,.0f}"]


def _projected(
    length: Length, speed: Speed, gpus: int, loader: Speed | None, machine: Machine
) -> Iterator[str]:
    """Measured, what the loader allows, hours, GPU hours and cost."""
    rate = speed.per_second
    yield f"{rate:.1f} per second ({speed})"
    if loader is None:
        yield "not measured"
    else:
        allowed = loader.per_second * machine.cores_per_gpu
        yield f"{allowed:.1f} per second{': the limit' if allowed < rate else ''}"
        rate = min(rate, allowed)
    hours = length.samples / (rate * gpus) / 3600
    yield f"{hours:,.1f}"
    yield f"{hours * gpus:,.1f}"
    if machine.price:
        yield f"{hours * gpus * machine.price:,.0f}"


def share_of(package: str, name: str, gpus: int) -> tuple[int, str]:
    """(samples of each GPU per step, why the paper's global batch cannot be kept on so many)."""
    recipe = recipes_of(package)[name]()
    batch = recipe.optim.batch_size
    smallest = getattr(recipe, "smallest_micro_batch", 1)  # fanet's recipes have one
    try:
        plan = plan_step(batch, gpus, accumulation=1, smallest=smallest)
    except UserError:
        return 0, f"not possible: the paper's batch of {batch} cannot be kept on {gpus} GPUs"
    return min(plan.micro_batch, getattr(recipe.optim, "micro_batch", batch)), ""


def _loader(speeds: Sequence[Speed]) -> Speed | None:
    """The package's own pipeline at its fastest: for fanet with the cache filled."""
    own = [one for one in speeds if one.mode == "loader" and one.variant.split(",")[0] == one.package]
    return min(own, key=lambda one: one.seconds, default=None)


def _loader_sentence(speeds: Sequence[Speed], machine: Machine) -> str:
    loader = _loader(speeds)
    if loader is None:
        return "The loader was not measured: its limit is unknown."
    return (
        f"Loader: {loader.per_second:.1f} samples per second and core (`{loader.variant}`, {loader.device}), "
        f"{machine.cores_per_gpu} cores per GPU."
    )


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks projection", description=__doc__)
    parser.add_argument(
        "results", nargs="*", type=Path, metavar="RESULT.json", help="default: benchmarks/results"
    )
    parser.add_argument("--cores-per-gpu", type=int, default=8, help="loader processes that each GPU has")
    parser.add_argument("--price", type=float, default=0.0, help="of a GPU hour, in any currency")
    parser.add_argument("--output", type=Path, help="folder for the Markdown and the HTML page")
    options = parser.parse_args(arguments)
    if options.cores_per_gpu < 1 or options.price < 0:
        parser.error("--cores-per-gpu must be at least 1, and --price not negative")
    return options
