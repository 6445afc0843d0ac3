"""`python -m benchmarks loaders [PACKAGE ...]`: how many training samples one core makes in a second.

Images of the size that the papers' data have go through the training pipeline of a recipe of the papers, on one thread,
with no loader process. Beside it stands what a GPU may take, and so how many loader processes it wants.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import default_collate

SECONDS = 10.0


class Made(NamedTuple):
    """What a package trains on."""

    samples: Any
    """Takes (epoch, index)."""
    collate: Callable[[Sequence[Any]], dict[str, Any]]
    batch: int
    """Samples of a micro-batch."""
    images: str
    """What they were made of."""


class Rate(NamedTuple):
    package: str
    images: str
    per_second: float
    """Samples that one core makes."""
    bytes: float
    """Of a sample that travels to the GPU."""
    wanted: float
    """Samples per second of a training step that takes as long as is wanted of an H100; nothing measured."""

    def __str__(self) -> str:
        cores = self.wanted / self.per_second
        return (
            f"{self.package:<10} {self.images:<38} {self.per_second:>8.0f} {self.bytes / 1e6:>8.2f} "
            f"{self.wanted:>10.0f} {cores:>6.1f}"
        )


HEAD = f"{'package':<10} {'images':<38} {'per core':>8} {'MB each':>8} {'H100 wants':>10} {'cores':>6}"
WANTED = {"fanet": 16 / 24e-3, "plvl": 20 / 32e-3, "cabl-cgsr": 8 / 22e-3}
"""Samples per second: micro-batch over the step that is wanted of an H100 in bf16."""


def fanet(folder: Path, images: int, small: bool) -> Made:
    from fanet.data import class_names, open_split
    from fanet.data.cache import PixelCache
    from fanet.data.samples import SegmentationSamples
    from fanet.recipes import RECIPES
    from fanet.toy import write_zerowaste
    from fanet.transforms import train_transform

    size = (96, 160) if small else (1080, 1920)
    root = write_zerowaste(folder / "data", train=images, val=1, test=1, size=size)
    recipe = RECIPES["zerowaste_f"]()
    data = replace(recipe.data, root=str(root), cache=str(folder / "cache"))
    classes = len(class_names(data))
    samples = SegmentationSamples(
        open_split(data, data.train_split),
        train_transform(data, recipe.model),
        recipe.run.seed,
        size=data.crop_size,
        num_classes=classes,
        cache=PixelCache(data.cache, data.cache_gb),
    )
    return Made(samples, default_collate, 16, f"PNG {size[1]}x{size[0]}, decoded before")


def plvl(folder: Path, images: int, small: bool) -> Made:
    from plvl.data import Collate, GroundingSamples, open_split
    from plvl.data.commands import run_toy
    from plvl.options import DataToyOptions
    from plvl.recipes import RECIPES
    from plvl.tokenizer import Tokenizer, vocabulary_for
    from plvl.transforms import train_transform

    side = 96 if small else 560  # as many pixels as 640x480
    with contextlib.redirect_stdout(io.StringIO()):
        run_toy(DataToyOptions(str(folder), train=images, val=1, test=1, side=side))
    recipe = RECIPES["refcoco_unc"]()
    rows = open_split(replace(recipe.data, root=str(folder / "built")), "train")
    config = replace(recipe.model, vocabulary="")
    samples = GroundingSamples(rows, train_transform(recipe.data, config), recipe.run.seed)
    tokenizer = Tokenizer(vocabulary_for(config, rows["expression"]), config.max_tokens)
    return Made(samples, Collate(tokenizer, rec=True, res=True), 20, f"{side}x{side}, with masks")


def cabl_cgsr(folder: Path, images: int, small: bool) -> Made:
    from cabl_cgsr.data import LabelSamples, training_split
    from cabl_cgsr.recipes import RECIPES
    from cabl_cgsr.toy import write_casia
    from cabl_cgsr.transforms import train_transform

    size = (96, 128) if small else (256, 384)
    write_casia(folder, train=max(images, 24), test=2, size=size)
    recipe = RECIPES["casia2"]()
    data = replace(recipe.data, root=str(folder / "CASIA2"))
    samples = LabelSamples(training_split(data, "train"), train_transform(data), recipe.run.seed)
    return Made(samples, default_collate, 8, f"JPEG and TIFF {size[1]}x{size[0]}")


PACKAGES = {"fanet": fanet, "plvl": plvl, "cabl-cgsr": cabl_cgsr}


def measure(package: str, *, images: int = 16, seconds: float = SECONDS, small: bool = False) -> Rate:
    """Time one package's training samples and their collation."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        made = PACKAGES[package](Path(folder), images, small)
        count, size, batches = 0, 0, _batches(made)
        next(batches)  # decoded files are kept from here on, where a package keeps them
        began = time.perf_counter()
        while (taken := time.perf_counter() - began) < seconds or not count:
            batch = next(batches)
            size = sum(value.nbytes for value in batch.values() if isinstance(value, Tensor))
            count += made.batch
        return Rate(package, made.images, count / taken, size / made.batch, WANTED[package])


def _batches(made: Made) -> Iterator[dict[str, Any]]:
    epoch = 0
    while True:
        order = [(epoch, index) for index in torch.randperm(len(made.samples)).tolist()]
        for first in range(0, len(order), made.batch):
            some = order[first : first + made.batch]
            some += order[: made.batch - len(some)]
            yield made.collate([made.samples[one] for one in some])
        epoch += 1


def main(arguments: Sequence[str]) -> int:
    """Print one line for each package."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks loaders",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=", ".join(PACKAGES))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each package")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.packages if name not in PACKAGES]:
        parser.error(f"there is no loader of {unknown[0]!r}: choose from {', '.join(PACKAGES)}")
    print(HEAD)
    for package in options.packages or PACKAGES:
        print(measure(package, seconds=options.seconds), flush=True)
    print("H100 wants: samples per second of the training step that is aimed at, not measured")
    return 0
