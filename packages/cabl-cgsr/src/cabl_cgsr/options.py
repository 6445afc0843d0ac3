"""Command-line options of every verb but `train`: light dataclasses, so that `--help` stays fast."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from cabl_cgsr.config import (
    LARGEST_SIZE,
    SMALLEST_SIZE,
    DataConfig,
    ModelConfig,
    PromptVariant,
    check_config,
    one_scale,
)
from papers_shared.dataclass_json import dataclass_from_json, dataclass_to_json
from papers_shared.errors import UserError
from papers_shared.images import MAX_PIXELS
from papers_shared.ranges import Within
from papers_shared.types import AskedPrecision, Device, Precision

CHANGEABLE = ("cam", "prompts")
"""Sections of a model's configuration that say how its answers are made, and that `--change` reaches."""


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """How a trained model answers; alike for all verbs that run one."""

    sizes: Annotated[tuple[int, ...], Within(SMALLEST_SIZE, LARGEST_SIZE)] = ()
    """Squares, in pixels, to which an image is resized; empty: the model's own (256, 512 and 768 in the paper)."""
    mirror: bool = True
    """Each size also mirrored left to right, if the model does so (the paper does)."""
    fast: bool = False
    """The middle one of the sizes, unmirrored, in place of all."""
    change: tuple[str, ...] = ()
    """Other inference options of the model to change, such as cam.union=sum or prompts.threshold=0.4."""

    def config_for(self, model: ModelConfig) -> ModelConfig:
        """The configuration of a model with these options applied."""
        config = with_changes(model, self.change)
        cam = replace(
            config.cam, sizes=self.sizes or config.cam.sizes, mirror=self.mirror and config.cam.mirror
        )
        config = replace(config, cam=cam)
        check_config(config)
        return one_scale(config) if self.fast else config


@dataclass(frozen=True)
class PredictOptions(InferenceOptions):
    """Is an image manipulated, and where: masks, overlays, an evidence sheet and one JSON line per image."""

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """A model folder (`best` in a run folder) or a Hub name."""
    inputs: Annotated[Positional[tuple[str, ...]], arg(metavar="IMAGE [IMAGE ...]")]
    """Images, folders of images, globs in quotes ('in/**/*.png'), lists of them (.txt), or a data set: a folder that
    `datasets` has saved, or hub:OWNER/NAME:SPLIT."""
    output: str = "predictions"
    """Folder for masks/, cams/, overlays/, sheets/, predictions.jsonl, .csv and .html; images that it holds already
    are left as they are."""
    refiner: str = "grabcut"
    """grabcut; or sam: and a SAM checkpoint, folder or Hub name; or none."""
    always_refine: bool = False
    """Refine every image, not only those judged manipulated."""
    threshold: Annotated[float | None, Within(0, 1)] = None
    """An image is judged manipulated when the probability exceeds this; None: as the model's calibration has it, which
    also answers "can't say"."""
    format: Literal["jsonl", "parquet"] = "jsonl"
    """parquet: write the records to predictions.parquet too."""
    overlay_side: Annotated[int, Within(0, 65_535)] = 2048
    """Longest side of the overlays in pixels; larger images are shrunk; 0: full size."""
    max_pixels: Annotated[int, Within(1)] = MAX_PIXELS
    """Refuse images with more pixels than this; about 40 bytes per pixel are needed."""
    device: Device = "auto"
    """cpu, cuda, cuda:N or mps; auto: the first of cuda, mps and cpu that there is."""
    precision: AskedPrecision = "auto"
    """What the network computes in: fp32, tf32 (on GPUs), or bf16 or fp16 (autocast); auto: bf16 on a GPU that has it,
    fp32 elsewhere."""
    compile: bool = False
    """Compile the network's blocks with `torch.compile`: slower for the first images, faster for many."""
    cuda_graphs: bool = False
    """On a GPU: capture the network's calls once for each size of the image, and replay them."""
    untrained: bool = False
    """Answer with a model whose parts were never trained; every record and drawing then says so."""
    batch_size: Annotated[int, Within(0, 4096)] = 0
    """Images that go through the network together; 0: as many as a GPU takes, and on a CPU one."""
    workers: Annotated[int, Within(-1, 1024)] = -1
    """Processes that read images; -1: the cores that there are, 12 at most; 0: none beside this one."""
    overwrite: bool = False
    """Delete the predictions that the folder holds of earlier calls, and make all anew."""
    skip_errors: bool = False
    """Leave what failed in an earlier call as it is; otherwise it is tried again."""


@dataclass(frozen=True)
class AppOptions(InferenceOptions):
    """Open a page in the browser where a model judges images; the same server answers programs."""

    model: Positional[str] = ""
    """A model folder (`best` in a run folder) or a Hub name; none: the newest of cabl-cgsr-demo/, a toy."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0: everyone who reaches this machine may use the page, there is no password."""
    port: Annotated[int, Within(0, 65_535)] = 0
    """0: the first free one from 7860."""
    examples: tuple[str, ...] = ()
    """Images to offer, folders or globs of them; none: images of the demo."""
    refiner: str = "grabcut"
    """grabcut; or sam: and a SAM checkpoint, folder or Hub name; or none."""
    always_refine: bool = False
    """Refine every image, not only those judged manipulated."""
    threshold: Annotated[float | None, Within(0, 1)] = None
    """An image is judged manipulated when the probability exceeds this; None: as the model's calibration has it, which
    also answers "can't say"."""
    max_pixels: Annotated[int, Within(1)] = MAX_PIXELS
    """Refuse images with more pixels than this; about 40 bytes per pixel are needed."""
    device: Device = "auto"
    """cpu, cuda, cuda:N or mps; auto: the first of cuda, mps and cpu that there is."""
    precision: AskedPrecision = "auto"
    """What the network computes in: fp32, tf32 (on GPUs), or bf16 or fp16 (autocast); auto: bf16 on a GPU that has it,
    fp32 elsewhere."""
    untrained: bool = False
    """Answer with a model whose parts were never trained; the page then says so."""


@dataclass(frozen=True)
class EvaluateOptions(InferenceOptions):
    """Score models on test sets: I-AUC and P-F1 of each set and their average."""

    models: Positional[tuple[str, ...]]
    """Model folders or Hub names; of several the mean and the spread are printed too."""
    data: DataConfig = field(default_factory=DataConfig)
    sets: tuple[str, ...] = ()
    """Further test sets, each FOLDER or LAYOUT=FOLDER."""
    protocol: Literal["paper", "all"] = "paper"
    """all: every published definition side by side."""
    prompts: tuple[PromptVariant, ...] = ()
    """Prompt variants to refine with (Table VI); empty: the model's own; null: the coarse mask alone."""
    refiner: str = "grabcut"
    """grabcut; or sam: and a SAM checkpoint, folder or Hub name; or none."""
    draws: Annotated[int, Within(0, 100_000)] = 1000
    """Bootstrap draws for the 95 % intervals; 0: none."""
    batch_size: Annotated[int, Within(1, 4096)] = 1
    """Images per forward pass."""
    precision: Precision = "fp32"
    """What the network computes in: fp32, tf32 (on GPUs), or bf16 or fp16 (autocast)."""
    compile: bool = False
    """Compile the network's blocks with `torch.compile`: slower for the first images, faster for many."""
    cuda_graphs: bool = False
    """On a GPU: capture the network's calls once for each size of the image, and replay them."""
    cache: str = ""
    """Folder of predictions; empty: the user cache folder. It may be deleted at any time."""
    output: str = ""
    """JSON file; empty: MODEL-evaluation-SETS.json beside the first model folder, the protocol in its name too where it
    is not the default."""


@dataclass(frozen=True)
class RobustnessOptions(InferenceOptions):
    """P-F1 under JPEG compression and Gaussian blur (Fig. 5)."""

    models: Positional[tuple[str, ...]]
    """Model folders or Hub names; each is a curve."""
    data: DataConfig = field(default_factory=DataConfig)
    """The test set; the paper's is CASIAv1."""
    output: str = "robustness"
    """Folder for robustness.png and robustness.json."""
    jpeg: Annotated[tuple[int, ...], Within(1, 100)] = (100, 90, 80, 70, 60, 50)
    """JPEG qualities; the paper's list is lost, these are IMDLBenCo's."""
    blur: Annotated[tuple[int, ...], Within(0, 4095)] = (0, 3, 7, 11, 15, 19, 23)
    """Side of the Gaussian kernel in pixels, odd; 0: none. Sigma is 0.3 ((k - 1) / 2 - 1) + 0.8."""
    refiner: str = "grabcut"
    """grabcut; or sam: and a SAM checkpoint, folder or Hub name; or none: the coarse mask alone."""
    draws: Annotated[int, Within(0, 100_000)] = 1000
    """Bootstrap draws for the 95 % intervals; 0: none."""
    batch_size: Annotated[int, Within(1, 4096)] = 1
    """Images per forward pass."""
    precision: Precision = "fp32"
    """What the network computes in: fp32, tf32 (on GPUs), or bf16 or fp16 (autocast)."""
    cache: str = ""
    """Folder of predictions; empty: the user cache folder."""


@dataclass(frozen=True)
class ConvertOptions:
    """Turn a Conformer-S (ImageNet) or TransCAM checkpoint into a model folder."""

    source: Positional[str]
    """The checkpoint, of the authors, of mmpretrain or of TransCAM: here, on the Hub (owner/name or
    owner/name/FILE) or at an https address."""
    output: Positional[str]
    """Model folder to write."""
    sha256: str = ""
    """Refuse a source with another SHA-256 than this one."""
    operator: Literal["none", "sobel", "prewitt", "scharr"] = "none"
    """Edge operator of the model; none: as the checkpoint was trained. `train --model.pretrained` takes only the
    backbone's weights, so it does not matter there."""


@dataclass(frozen=True)
class ExportOptions:
    """Write classifier and activation map as one file, `torch.export` or ONNX, and check it against eager."""

    model: Positional[str]
    """A model folder (`best` in a run folder) or a Hub name."""
    output: str
    """The file to write: NAME.pt2 or NAME.onnx."""
    format: Literal["auto", "torch", "onnx"] = "auto"
    """auto: by the suffix of the file."""
    size: Annotated[int, Within(SMALLEST_SIZE, LARGEST_SIZE)] = 512
    """Side of the square input in pixels, a multiple of 16; the exported network takes this size only."""
    batch: Annotated[int, Within(1, 4096)] = 1
    """Images per call."""
    precision: Precision = "fp32"
    """What eager computes in where the file is compared with it; the file itself computes in float32."""
    untrained: bool = False
    """Export a model whose parts were never trained, too."""
    overwrite: bool = False
    """Replace a file of that name."""


@dataclass(frozen=True)
class FiguresOptions:
    """Draw the paper's qualitative panel (Fig. 4): image, truth, each model's map, coarse and refined mask."""

    models: Positional[tuple[str, ...]]
    """Model folders or Hub names."""
    images: tuple[str, ...]
    """Images, folders or globs; each is a row of the panel."""
    output: str = "figures"
    """Folder for qualitative.png."""
    masks: tuple[str, ...] = ()
    """Truth masks (files, folders or globs), matched by the image's name, with or without `_gt`."""
    refiner: str = "grabcut"
    """grabcut; or sam: and a SAM checkpoint, folder or Hub name; or none."""
    width: Annotated[int, Within(16, 65_535)] = 240
    """Width of one image of the panel in pixels."""
    device: Device = "auto"
    """cpu, cuda, cuda:N or mps; auto: the first of cuda, mps and cpu that there is."""
    untrained: bool = False
    """Draw with models whose parts were never trained, too; every drawing then says so."""
    overwrite: bool = False
    """Replace drawings of these names."""


@dataclass(frozen=True)
class DemoOptions:
    """Make spliced images, learn from their labels, evaluate, refine, and write one HTML page about it."""

    output: str = "cabl-cgsr-demo"
    """Folder for the images, the run and index.html."""
    steps: Annotated[int, Within(0, 10_000_000)] = 0
    """Optimizer steps; 0: as the recipe `toy` says, about a minute and a half on two cores."""
    seed: Annotated[int, Within(0, 2**63 - 1)] = 0
    """Seed of the images and of the training."""


@dataclass(frozen=True)
class DataCheckOptions:
    """Read every image and mask of a set and say what is wrong with them, and what to do."""

    root: Positional[str] = ""
    """The data folder; the same as --data.root."""
    data: DataConfig = field(default_factory=DataConfig)
    against: tuple[str, ...] = ()
    """Folders of other sets, such as the test sets: images that occur in both are named."""
    keep_list: str = ""
    """Write the names of the readable images that are in none of the other sets to this file, for --data.list."""
    json: str = ""
    """Write the findings to this file too."""
    overwrite: bool = False
    """Replace files of these names."""


@dataclass(frozen=True)
class DataToyOptions:
    """Write the embedded splices and copy-moves in CASIA's layout."""

    root: Positional[str]
    """Folder for CASIA2 (training) and CASIA1 (test)."""
    seed: Annotated[int, Within(0, 2**63 - 1)] = 0
    train: Annotated[int, Within(2, 1_000_000)] = 160
    """Scenes of the training set; each gives an authentic and a manipulated image."""
    test: Annotated[int, Within(2, 1_000_000)] = 32
    """Scenes of the test set."""
    size: Annotated[tuple[int, int], Within(32, 4096)] = (96, 128)
    """Height and width of the images in pixels."""


@dataclass(frozen=True)
class DataConvertOptions:
    """Write what was read of a data set as one plain layout: authentic/, manipulated/ and masks/."""

    root: Positional[str]
    """The data folder; the same as --data.root."""
    output: Positional[str]
    """Folder to write; one that this verb has written is replaced."""
    data: DataConfig = field(default_factory=DataConfig)


def with_changes(config: ModelConfig, changes: Sequence[str]) -> ModelConfig:
    """The configuration with `SECTION.FIELD=VALUE` applied; values are JSON, or a bare word.

    Raises:
        UserError: A change has another form, names no field of `cam` or `prompts`, or its value does not fit.
    """
    parts = dataclass_to_json(config)
    for change in changes:
        path, equals, text = change.partition("=")
        section, _, name = path.partition(".")
        if not equals or section not in CHANGEABLE or name not in parts[section]:
            known = ", ".join(f"{key}.{field}" for key in CHANGEABLE for field in parts[key])
            raise UserError(f"--change {change!r}: write NAME=VALUE with a NAME of {known}")
        value = text
        with suppress(ValueError):
            value = json.loads(text)
        parts[section][name] = value
    changed = dataclass_from_json(ModelConfig, parts, "--change")
    try:
        check_config(changed)
    except UserError as error:
        raise UserError(f"--change: {error}") from error
    return changed
