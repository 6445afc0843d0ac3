"""Command-line options of each verb but `train` and `data`: light dataclasses, so that `--help` stays fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tyro.conf import Positional

from plvl.config import DataConfig

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["no", "bf16", "fp16"]


@dataclass(frozen=True)
class PredictOptions:
    """Find what sentences mean in pictures: boxes, masks, overlays and one JSON line per sentence."""

    model: Positional[str]
    """A model folder (`best` in a run folder) or a Hub name."""
    picture: Positional[str]
    """A picture, or a folder of pictures."""
    sentences: Positional[tuple[str, ...]] = ()
    """What to find, each in quotes: "the man in the blue shirt". With a folder, in each of its pictures."""
    sentences_file: str = ""
    """JSON lines with `image` (a file of the folder) and `expression`, a sentence or a list of them."""
    output: str = "predictions"
    """Folder for masks/, overlays/ and predictions.jsonl."""
    score_map: bool = False
    """Draw the map of centre scores beside each overlay."""
    overlay_side: int = 1024
    """Longest side of the overlays in pixels; 0: as large as the picture, as the masks always are."""
    max_pixels: int = 500_000_000
    """Refuse pictures with more pixels than this."""
    device: Device = "auto"
    """auto: the GPU if there is one."""
    precision: Precision = "no"
    """Compute the network in bf16 or fp16 (autocast); no: float32."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Score a model on a split: Acc@0.5 of boxes; mIoU, oIoU and Precision@0.5 to 0.9 of masks."""

    model: Positional[str]
    """Model folder (`best`, `best_box` or `best_mask` in a run folder) or Hub name."""
    data: DataConfig = field(default_factory=DataConfig)
    split: str = "val"
    protocol: Literal["paper", "original", "all"] = "all"
    """paper: the authors' stretched square; original: the picture's own pixels; all: both."""
    batch_size: int = 20
    """Expressions per forward pass of each process."""
    precision: Precision = "no"
    output: str = ""
    """JSON file; empty: MODEL-evaluation-SPLIT.json beside the model folder."""


@dataclass(frozen=True)
class ConvertOptions:
    """Turn other people's checkpoints into a folder of ours."""

    source: Positional[str]
    """PLVL's or EEVG's checkpoint, detectron2's ViTDet-B .pkl, a BERT folder or its old .tar.gz archive."""
    output: Positional[str]
    """Folder to write."""
    vocabulary: str = ""
    """For PLVL and EEVG: a vocab.txt, or a folder or Hub name that has one, to put into the folder."""


@dataclass(frozen=True)
class ExportOptions:
    """Write the network as one file, `torch.export` or ONNX, and check that it agrees with eager."""

    model: Positional[str]
    """A model folder (`best` in a run folder) or a Hub name."""
    output: str
    """The file to write: NAME.pt2 or NAME.onnx."""
    format: Literal["auto", "torch", "onnx"] = "auto"
    """auto: by the suffix of the file."""
    batch: int = 1
    """Pictures and sentences per call."""


@dataclass(frozen=True)
class FiguresOptions:
    """Draw the paper's figures 5 to 7: picture, truth, prediction and centre score map, one row per sentence."""

    model: Positional[str]
    """A model folder (`best` in a run folder) or a Hub name."""
    data: DataConfig = field(default_factory=DataConfig)
    """The data to draw from."""
    split: str = "val"
    count: int = 4
    """Rows of the figure."""
    seed: int = 0
    """Which expressions are drawn."""
    output: str = "figures"
    """Folder for qualitative.png."""
    width: int = 320
    """Width of one picture of the figure in pixels."""
    device: Device = "auto"
    """auto: the GPU if there is one."""


@dataclass(frozen=True)
class DemoOptions:
    """Make toy scenes, train a small PLVL and a language-blind one on them, and write one HTML page about it."""

    output: str = "plvl-demo"
    """Folder for the scenes, the runs and index.html."""
    steps: int = 0
    """Optimizer steps of each model; 0: as the recipe `toy` says."""
    seed: int = 0
    """Seed of the scenes and of the training."""
