"""Command-line options of each verb but `train`: light dataclasses, so that `--help` stays fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tyro.conf import Positional

from fanet.config import MAX_PIXELS, DataConfig
from papers_shared.types import Device, Precision


@dataclass(frozen=True)
class PredictOptions:
    """Segment images with a trained model: index masks, overlays and one JSON line per image."""

    model: Positional[str]
    """A model folder (`best` in a run folder) or a Hub name."""
    inputs: Positional[tuple[str, ...]]
    """Images, folders of images (their first level only) or globs in quotes ('in/**/*.png')."""
    output: str = "predictions"
    """Folder for masks/, overlays/ and predictions.jsonl; results of other images in it stay."""
    flip: bool = False
    """Average with the mirrored image."""
    multi_scale: bool = False
    """Average over the ratios 0.5, 0.75, 1, 1.25, 1.5, 1.75 (mmsegmentation's `--aug-test`, together with
    `--flip`)."""
    tile: int = 0
    """Slide a square window of this many pixels over the image at its native resolution, for images whose
    objects would be lost when the whole is shrunk; 0: the paper's protocol, the whole image shrunk to the
    test scale."""
    overlap: float = 0.25
    """Share of the window that neighbouring windows have in common; their logits are averaged."""
    overlay_side: int = 2048
    """Longest side of the overlays in pixels; 0: as large as the image, as the masks always are."""
    max_pixels: int = MAX_PIXELS
    """Refuse images with more pixels than this; about 10 bytes per pixel are needed."""
    device: Device = "auto"
    """auto: the GPU if there is one."""
    precision: Precision = "no"
    """Compute the network in bf16 or fp16 (autocast); no: float32."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Score a model on a split: per-class IoU, mIoU, pixel accuracy."""

    model: Positional[str]
    """Model folder or Hub name."""
    data: DataConfig = field(default_factory=DataConfig)
    split: str = "test"
    flip: bool = False
    """Average with the mirrored image."""
    multi_scale: bool = False
    """Average over the ratios 0.5, 0.75, 1, 1.25, 1.5, 1.75 (mmsegmentation's `--aug-test`, together with
    `--flip`)."""
    tile: int = 0
    """Slide a square window of this many pixels over the image at its native resolution; 0: the paper's protocol."""
    overlap: float = 0.25
    """Share of the window that neighbouring windows have in common; their logits are averaged."""
    precision: Precision = "no"
    """Compute the network in bf16 or fp16 (autocast); no: float32."""
    output: str = ""
    """JSON file; empty: MODEL-evaluation-DATA-SPLIT.json beside the model folder."""


@dataclass(frozen=True)
class ConvertOptions:
    """Turn official checkpoints into a model folder."""

    source: Positional[str]
    """The official checkpoint: the ImageNet classifier or the mmsegmentation segmentor."""
    output: Positional[str]
    """Model folder to write."""


@dataclass(frozen=True)
class ExportOptions:
    """Write the network as one file, `torch.export` or ONNX, and check that it agrees with eager."""

    model: Positional[str]
    """A model folder (`best` in a run folder) or a Hub name."""
    output: str
    """The file to write: NAME.pt2 or NAME.onnx."""
    format: Literal["auto", "torch", "onnx"] = "auto"
    """auto: by the suffix of the file."""
    height: int = 512
    """Height of the network's input in pixels; the exported network takes this size only."""
    width: int = 928
    """Width of the network's input in pixels; the default fits a 1920x1080 image in the test pipeline."""
    batch: int = 1
    """Images per call."""


@dataclass(frozen=True)
class FiguresOptions:
    """Draw the paper's figures: the qualitative panel (Fig. 5) and the FRM's feature maps (Fig. 6)."""

    models: Positional[tuple[str, ...]]
    """Model folders or Hub names; each is a column of the panel, the first FANet among them shows its FRM."""
    images: tuple[str, ...]
    """Images, folders or globs; each is a row of the panel."""
    output: str
    """Folder for qualitative.png and one frm-NAME.png per image."""
    masks: tuple[str, ...] = ()
    """Truth as index masks (files, folders or globs), matched by the image's name without suffix."""
    width: int = 320
    """Width of one image of a figure in pixels."""
    device: Device = "auto"
    """auto: the GPU if there is one."""


@dataclass(frozen=True)
class DemoOptions:
    """Make toy scenes, train a small FANet on them, evaluate, predict, and write one HTML page about it."""

    output: str = "fanet-demo"
    """Folder for the scenes, the run and index.html."""
    steps: int = 0
    """Optimizer steps; 0: as the recipe `toy` says, about a minute on two cores."""
    seed: int = 0
    """Seed of the scenes and of the training."""


@dataclass(frozen=True)
class DataCheckOptions:
    """Read every image and mask once and say what is wrong with them, and what to do."""

    root: Positional[str] = ""
    """The data folder; the same as --data.root."""
    data: DataConfig = field(default_factory=DataConfig)
    json: str = ""
    """Write the findings to this file too."""


@dataclass(frozen=True)
class DataCacheOptions:
    """Show the cache of decoded images and masks, or clear it."""

    folder: str = ""
    """The cache folder; empty: the user cache folder."""
    clear: bool = False
    """Delete what is in it."""


@dataclass(frozen=True)
class DataToyOptions:
    """Write the embedded conveyor-belt scenes."""

    root: Positional[str]
    """Folder to write the conveyor-belt scenes to, in the layout of ZeroWaste-f."""
    seed: int = 0
