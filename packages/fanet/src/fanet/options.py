"""Command-line options of each verb but `train`: light dataclasses, so that `--help` stays fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from fanet.config import MAX_PIXELS, DataConfig
from papers_shared import images
from papers_shared.ranges import Within
from papers_shared.types import AskedPrecision, Device, Precision


@dataclass(frozen=True)
class PredictOptions:
    """Segment images with a trained model: index masks, overlays and one JSON line per image."""

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """A model folder (`best` in a run folder) or a Hub name."""
    inputs: Annotated[Positional[tuple[str, ...]], arg(metavar="IMAGE [IMAGE ...]")]
    """Images, folders of images, globs in quotes ('in/**/*.png'), lists of them (.txt), videos, or a data set: a folder
    that `datasets` has saved, or hub:OWNER/NAME:SPLIT."""
    output: str = "predictions"
    """Folder for masks/, overlays/, predictions.jsonl, .csv and .html; images that it holds already are left as they
    are."""
    every: Annotated[int, Within(1)] = 1
    """Of a video the first of each so many frames."""
    flip: bool = False
    """Average with the mirrored image."""
    multi_scale: bool = False
    """Average over the ratios 0.5, 0.75, 1, 1.25, 1.5, 1.75 (mmsegmentation's `--aug-test`, together with
    `--flip`)."""
    tile: Annotated[int, Within(0, 65_535)] = 0
    """Slide a square window of this many pixels over the image at its native resolution, for images whose
    objects would be lost when the whole is shrunk; 0: the paper's protocol, the whole image shrunk to the
    test scale."""
    overlap: Annotated[float, Within(0, 0.99)] = 0.25
    """Share of the window that neighbouring windows have in common; their logits are averaged."""
    coco: Literal["none", "rle", "polygons"] = "none"
    """Write the classes of all images to predictions.coco.json too, as run lengths or as polygons."""
    format: Literal["jsonl", "parquet"] = "jsonl"
    """parquet: write the records to predictions.parquet too."""
    overlay_side: Annotated[int, Within(0)] = 2048
    """Longest side of the overlays in pixels; 0: as large as the image, as the masks always are."""
    max_pixels: Annotated[int, Within(1)] = MAX_PIXELS
    """Refuse images with more pixels than this; about 10 bytes per pixel are needed."""
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
    """Images of one size that go through the network together; 0: as many as a GPU takes, and on a CPU one."""
    workers: Annotated[int, Within(-1, 1024)] = -1
    """Processes that read images; -1: the cores that there are, 12 at most; 0: none beside this one."""
    overwrite: bool = False
    """Delete the predictions that the folder holds of earlier calls, and make all anew."""
    skip_errors: bool = False
    """Leave what failed in an earlier call as it is; otherwise it is tried again."""


@dataclass(frozen=True)
class AppOptions:
    """Open a page in the browser where a model segments images; the same server answers programs."""

    model: Positional[str] = ""
    """A model folder (`best` in a run folder) or a Hub name; none: the newest of fanet-demo/, a toy."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0: everyone who reaches this machine may use the page, there is no password."""
    port: Annotated[int, Within(0, 65_535)] = 0
    """0: the first free one from 7860."""
    examples: tuple[str, ...] = ()
    """Images to offer, folders or globs of them; none: scenes of the demo."""
    flip: bool = False
    """Average with the mirrored image."""
    multi_scale: bool = False
    """Average over the ratios 0.5, 0.75, 1, 1.25, 1.5, 1.75 (mmsegmentation's `--aug-test`, together with
    `--flip`)."""
    tile: Annotated[int, Within(0, 65_535)] = 0
    """Slide a square window of this many pixels over the image at its native resolution; 0: the paper's protocol."""
    overlap: Annotated[float, Within(0, 0.99)] = 0.25
    """Share of the window that neighbouring windows have in common; their logits are averaged."""
    max_pixels: Annotated[int, Within(1)] = images.MAX_PIXELS
    """Refuse images with more pixels than this; about 10 bytes per pixel are needed."""
    device: Device = "auto"
    """cpu, cuda, cuda:N or mps; auto: the first of cuda, mps and cpu that there is."""
    precision: AskedPrecision = "auto"
    """What the network computes in: fp32, tf32 (on GPUs), or bf16 or fp16 (autocast); auto: bf16 on a GPU that has it,
    fp32 elsewhere."""
    untrained: bool = False
    """Answer with a model whose parts were never trained; the page then says so."""


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
    tile: Annotated[int, Within(0, 65_535)] = 0
    """Slide a square window of this many pixels over the image at its native resolution; 0: the paper's protocol."""
    overlap: Annotated[float, Within(0, 0.99)] = 0.25
    """Share of the window that neighbouring windows have in common; their logits are averaged."""
    precision: Precision = "fp32"
    """What the network computes in: fp32, tf32 (on GPUs), or bf16 or fp16 (autocast)."""
    compile: bool = False
    """Compile the network's blocks with `torch.compile`: slower for the first images, faster for many."""
    cuda_graphs: bool = False
    """On a GPU: capture the network's calls once for each size of the image, and replay them."""
    output: str = ""
    """JSON file; empty: MODEL-evaluation-DATA-SPLIT.json beside the model folder."""


@dataclass(frozen=True)
class ConvertOptions:
    """Turn official checkpoints into a model folder."""

    source: Positional[str]
    """A checkpoint of the authors (ImageNet or segmentor), or an UperNet of transformers or mmsegmentation: here, on
    the Hub (owner/name or owner/name/FILE) or at an https address."""
    output: Positional[str]
    """Model folder to write."""
    sha256: str = ""
    """Refuse a source with another SHA-256 than this one."""


@dataclass(frozen=True)
class ExportOptions:
    """Write the network as one file, `torch.export` or ONNX, and check that it agrees with eager."""

    model: Positional[str]
    """A model folder (`best` in a run folder) or a Hub name."""
    output: str
    """The file to write: NAME.pt2 or NAME.onnx."""
    format: Literal["auto", "torch", "onnx"] = "auto"
    """auto: by the suffix of the file."""
    height: Annotated[int, Within(1, 65_535)] = 512
    """Height of the network's input in pixels; the exported network takes this size only."""
    width: Annotated[int, Within(1, 65_535)] = 928
    """Width of the network's input in pixels; the default fits a 1920x1080 image in the test pipeline."""
    batch: Annotated[int, Within(1, 65_535)] = 1
    """Images per call."""
    precision: Precision = "fp32"
    """What eager computes in where the file is compared with it; the file itself computes in float32."""
    untrained: bool = False
    """Export a model whose parts were never trained, too."""
    overwrite: bool = False
    """Replace a file of that name."""


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
    width: Annotated[int, Within(16, 8192)] = 320
    """Width of one image of a figure in pixels."""
    device: Device = "auto"
    """cpu, cuda, cuda:N or mps; auto: the first of cuda, mps and cpu that there is."""
    untrained: bool = False
    """Draw with models whose parts were never trained, too; every drawing then says so."""
    overwrite: bool = False
    """Replace drawings of these names."""


@dataclass(frozen=True)
class DemoOptions:
    """Make toy scenes, train a small FANet on them, evaluate, predict, and write one HTML page about it."""

    output: str = "fanet-demo"
    """Folder for the scenes, the run and index.html."""
    steps: Annotated[int, Within(0)] = 0
    """Optimizer steps; 0: as the recipe `toy` says, about a minute on two cores."""
    seed: Annotated[int, Within(0, 2**63 - 1)] = 0
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
class DataConvertOptions:
    """Write what was read as one plain layout: images/SPLIT, masks/SPLIT with class ids, and classes.txt."""

    root: Positional[str]
    """The data folder, in any layout; the same as --data.root."""
    output: Positional[str]
    """Folder to write; one that this command wrote is replaced."""
    data: DataConfig = field(default_factory=DataConfig)


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
    seed: Annotated[int, Within(0, 2**63 - 1)] = 0
