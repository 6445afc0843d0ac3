"""`python -m benchmarks predict [PACKAGE ...]`: images per second from files to files.

Each way reads images, decodes and resizes them, asks the network, and writes what `predict` writes; the networks have
the papers' sizes and random weights. Images are small by default, so that all but the network weighs most; with
`--scale 4` they have about the papers' sizes.

    one by one      predict, one image at a time, read by the same process
    batched         predict --batch-size 8 --workers 2
    two processes   the same under torchrun, half of the threads each
    plain loop      another library's network, one image at a time: Pillow, its processor, a mask and an overlay
    network alone   the network's own time at batch size 8, everything in memory: what reading and writing add to
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from benchmarks import RESULTS, ROOT, machine
from papers_shared.files import write_text

SIZE = (120, 160)
"""Height and width of the images at scale 1."""
BATCH, WORKERS = 8, 2
WAYS = ("one by one", "batched", "two processes", "plain loop")


class Subject(NamedTuple):
    network: nn.Module
    predict: Callable[..., Any]
    """Images, output and the options of `predict_many`."""
    peer: Callable[[Image.Image], np.ndarray]
    """An image -> its mask, (H, W) bool or uint8."""
    peer_name: str


def fanet(scale: int) -> Subject:
    from transformers import (
        ConvNextConfig,
        SegformerImageProcessor,
        UperNetConfig,
        UperNetForSemanticSegmentation,
    )

    from fanet.config import ZEROWASTE_CLASSES, ModelConfig
    from fanet.modeling.segmenter import Segmenter
    from fanet.predict import predict_many

    side = 128 * scale
    sizes = ModelConfig(class_names=ZEROWASTE_CLASSES, test_scale=(side, side))
    network = Segmenter.from_config(sizes).eval()
    backbone = ConvNextConfig(
        hidden_sizes=[96, 192, 384, 768], out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    config = UperNetConfig(backbone_config=backbone, num_labels=5, use_auxiliary_head=False)
    peer = UperNetForSemanticSegmentation(config).eval()
    processor = SegformerImageProcessor(size=(side, side))

    def segment(image: Image.Image) -> np.ndarray:
        output = peer(**processor(image, return_tensors="pt"))
        (mask,) = processor.post_process_semantic_segmentation(output, [(image.height, image.width)])
        return mask.numpy().astype(np.uint8)

    return Subject(
        network,
        lambda images, output, **options: predict_many(network, images, output, untrained=True, **options),
        segment,
        "UperNet with ConvNeXt-T of transformers",
    )


def plvl(scale: int) -> Subject:
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    from plvl.config import ModelConfig
    from plvl.modeling.plvl import PLVL
    from plvl.predict import predict_many
    from plvl.tokenizer import VOCABULARY, make_vocabulary

    network = PLVL.from_config(ModelConfig(image_size=112 * scale)).eval()
    network.extra_files = {VOCABULARY: make_vocabulary(["the red block"], network.config.vocab_size)}
    peer = CLIPSegForImageSegmentation(CLIPSegConfig()).eval()
    words = torch.tensor([[49406, 518, 736, 49407]])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ([0.48, 0.46, 0.41], [0.27, 0.26, 0.28]))

    def ground(image: Image.Image) -> np.ndarray:
        square = torch.from_numpy(np.array(image.resize((224, 224)))).permute(2, 0, 1) / 255
        logits = peer(pixel_values=((square - mean) / std)[None], input_ids=words).logits
        whole = nn.functional.interpolate(logits.reshape(1, 1, 224, 224), (image.height, image.width))
        return (whole[0, 0] > 0).numpy()

    return Subject(
        network,
        lambda images, output, **options: predict_many(
            network, [(image, ["the red block"]) for image in images], output, untrained=True, **options
        ),
        ground,
        "CLIPSeg of transformers, at its own 224x224",
    )


def cabl_cgsr(scale: int) -> Subject:
    import timm
    from timm.data import create_transform

    from cabl_cgsr.config import CamConfig, ModelConfig
    from cabl_cgsr.modeling.localizer import Localizer
    from cabl_cgsr.predict import predict_many

    network = Localizer.from_config(ModelConfig(cam=CamConfig(sizes=(128 * scale,), mirror=False))).eval()
    peer = timm.create_model("convnext_tiny", num_classes=1).eval()
    transform = create_transform((3, 128 * scale, 128 * scale), crop_pct=1.0)

    def localize(image: Image.Image) -> np.ndarray:
        features = peer.forward_features(transform(image)[None])
        cam = nn.functional.conv2d(features, peer.head.fc.weight[:, :, None, None])
        whole = nn.functional.interpolate(cam, (image.height, image.width), mode="bilinear")
        return (whole[0, 0] > whole.mean()).numpy()

    return Subject(
        network,
        lambda images, output, **options: predict_many(
            network, images, output, untrained=True, refiner=None, **options
        ),
        localize,
        "ConvNeXt-T of timm with a class activation map",
    )


SUBJECTS = {"fanet": fanet, "plvl": plvl, "cabl-cgsr": cabl_cgsr}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=", ".join(SUBJECTS))
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--scale", type=int, default=1, help="1: 120x160 pixels; 4: 480x640, as the papers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--output", type=Path, help=f"page; default: {RESULTS.relative_to(ROOT)}/predict-cpu.md"
    )
    parser.add_argument("--rank", nargs=2, metavar=("IMAGES", "OUTPUT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.packages if name not in SUBJECTS]:
        parser.error(f"there is nothing to measure of {unknown[0]!r}: choose from {', '.join(SUBJECTS)}")
    torch.set_grad_enabled(False)
    if options.rank:
        images, output = map(Path, options.rank)
        seconds = _seconds(
            SUBJECTS[options.packages[0]](options.scale), "batched", sorted(images.iterdir()), output
        )
        sys.stdout.write(f"{seconds}\n")  # at once, as the other process writes too
        return 0
    threads = torch.get_num_threads()
    height, width = (side * options.scale for side in SIZE)
    lines = [
        "# predict: images per second",
        "",
        f"{machine.processor('cpu', threads)}, float32; {machine.versions()}; commit {machine.commit(ROOT)}; load "
        f"before: {machine.load():.1f}. {options.images} images of {height}x{width} pixels, best of "
        f"{options.rounds} rounds in turns; how: `benchmarks/throughput.py`.",
        "",
        f"| package | {' | '.join(WAYS)} | batched / one by one | added to the network alone |",
        f"|---|{'---|' * (len(WAYS) + 2)}",
    ]
    notes = []
    for package in options.packages or SUBJECTS:
        subject = SUBJECTS[package](options.scale)
        with tempfile.TemporaryDirectory() as folder:
            best, alone = _measure(package, subject, Path(folder), options)
        rates = [options.images / best[way] for way in WAYS]
        lines.append(
            f"| {package} | {' | '.join(f'{rate:.1f}' for rate in rates)} | {rates[1] / rates[0]:.2f} | "
            f"{best['batched'] / alone - 1:+.0%} |"
        )
        notes.append(f"{package}'s plain loop: {subject.peer_name}.")
        print("\n".join([*lines[-1:]]), flush=True)
    page = "\n".join([*lines, "", *notes, ""])
    print(page)
    if options.output or not options.packages:
        write_text(options.output or RESULTS / "predict-cpu.md", page)
    return 0


def _measure(
    package: str, subject: Subject, folder: Path, options: argparse.Namespace
) -> tuple[dict[str, float], float]:
    """Seconds of each way, and of the network alone in `batched`, the best of all rounds."""
    (folder / "images").mkdir()
    rng, images = np.random.default_rng(0), []
    height, width = (side * options.scale for side in SIZE)
    for number in range(options.images):
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        images.append(folder / "images" / f"{number:04d}.jpg")
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(images[-1])
    best = dict.fromkeys(WAYS, float("inf"))
    alone = float("inf")
    for turn in range(options.rounds):
        for way in WAYS:
            output = folder / f"{way} {turn}".replace(" ", "-")
            if way == "two processes":
                seconds = _two_processes(package, options.scale, folder / "images", output)
            else:
                with _timed(subject.network) as spent:
                    seconds = _seconds(subject, way, images, output)
                if way == "batched":
                    alone = min(alone, sum(spent))
            best[way] = min(best[way], seconds)
    return best, alone


def _seconds(subject: Subject, way: str, images: Sequence[Path], output: Path) -> float:
    start = time.perf_counter()
    if way == "plain loop":
        output.mkdir()
        for path in images:
            image = Image.open(path).convert("RGB")
            mask = subject.peer(image)
            drawn = np.asarray(image) // 2 + np.where(mask[..., None] > 0, np.uint8([0, 100, 0]), np.uint8(0))
            Image.fromarray(mask.astype(np.uint8)).save(output / f"{path.stem}-mask.png")
            Image.fromarray(drawn).save(output / f"{path.stem}-overlay.png")
    elif way == "batched":
        subject.predict(images, output, batch_size=BATCH, workers=WORKERS)
    else:
        subject.predict(images, output, batch_size=1)
    return time.perf_counter() - start


def _two_processes(package: str, scale: int, images: Path, output: Path) -> float:
    """The time of the slower one, without starting."""
    command = ["torchrun", "--nproc_per_node", "2", "-m", "benchmarks", "predict", package]
    threads = str(max(1, torch.get_num_threads() // 2))
    done = subprocess.run(
        [*command, "--scale", str(scale), "--rank", str(images), str(output)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": threads},
        capture_output=True,
        text=True,
        check=True,
    )
    return max(map(float, done.stdout.split()))


@contextmanager
def _timed(network: nn.Module) -> Iterator[list[float]]:
    """The seconds of each call of the parts that a network's road calls."""
    spent: list[float] = []
    originals = {}
    for name in ("forward", "forward_maps", "encode_image", "encode_text", "ground"):
        if hasattr(network, name):
            originals[name] = getattr(network, name)

            def timed(*inputs: Any, call: Callable[..., Any] = originals[name], **named: Any) -> Any:
                start = time.perf_counter()
                answer = call(*inputs, **named)
                spent.append(time.perf_counter() - start)
                return answer

            setattr(network, name, timed)
    try:
        yield spent
    finally:
        for name in originals:
            delattr(network, name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
