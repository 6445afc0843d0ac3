"""Command-line options of each verb but `train` and `data`: light dataclasses, so that `--help` stays fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tyro.conf import Positional

from cabl_cgsr.config import DataConfig

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["no", "bf16", "fp16"]
Variant = Literal["null", "point", "box", "box_point"]


@dataclass(frozen=True)
class EvaluateOptions:
    """Score models on test sets: I-AUC and P-F1 of each set and their average."""

    models: Positional[tuple[str, ...]]
    """Model folders or Hub names; of several the mean and the spread are printed too."""
    data: DataConfig = field(default_factory=DataConfig)
    sets: tuple[str, ...] = ()
    """Further test sets, each FOLDER or LAYOUT=FOLDER."""
    protocol: Literal["paper", "all"] = "paper"
    """all: every published definition side by side."""
    prompts: tuple[Variant, ...] = ()
    """Prompt variants to refine with (Table VI); empty: the model's own; null: the coarse mask alone."""
    refiner: str = "grabcut"
    """grabcut; or a SAM checkpoint, folder or Hub name; or none."""
    change: tuple[str, ...] = ()
    """Inference options of the model to change, such as cam.union=sum or prompts.threshold=0.4."""
    draws: int = 1000
    """Bootstrap draws for the 95 % intervals; 0: none."""
    batch_size: int = 1
    """Pictures per forward pass."""
    precision: Precision = "no"
    cache: str = ""
    """Folder of predictions; empty: the user cache folder. It may be deleted at any time."""
    output: str = ""
    """JSON file; empty: evaluation.json beside the first model folder."""


@dataclass(frozen=True)
class RobustnessOptions:
    """P-F1 under JPEG compression and Gaussian blur (Fig. 5)."""

    models: Positional[tuple[str, ...]]
    """Model folders or Hub names; each is a curve."""
    data: DataConfig = field(default_factory=DataConfig)
    """The test set; the paper's is CASIAv1."""
    output: str = "robustness"
    """Folder for robustness.png and robustness.json."""
    jpeg: tuple[int, ...] = (100, 90, 80, 70, 60, 50)
    """JPEG qualities; the paper's list is lost, these are IMDLBenCo's."""
    blur: tuple[int, ...] = (0, 3, 7, 11, 15, 19, 23)
    """Side of the Gaussian kernel in pixels, odd; 0: none. Sigma is 0.3 ((k - 1) / 2 - 1) + 0.8."""
    refiner: str = "grabcut"
    """grabcut; or a SAM checkpoint, folder or Hub name; or none: the coarse mask alone."""
    change: tuple[str, ...] = ()
    """Inference options of the model to change, such as cam.union=sum or prompts.threshold=0.4."""
    draws: int = 1000
    """Bootstrap draws for the 95 % intervals; 0: none."""
    batch_size: int = 1
    precision: Precision = "no"
    cache: str = ""
    """Folder of predictions; empty: the user cache folder."""


@dataclass(frozen=True)
class PredictOptions:
    """Is a picture manipulated, and where: masks, overlays, an evidence sheet and one JSON line per picture."""

    model: Positional[str]
    """A model folder (`best` in a run folder) or a Hub name."""
    inputs: Positional[tuple[str, ...]]
    """Pictures, folders of pictures (their first level only) or globs in quotes ('in/**/*.png')."""
    output: str
    """Folder for masks/, cams/, overlays/, sheets/ and predictions.jsonl."""
    refiner: str = "grabcut"
    """grabcut; or a SAM checkpoint, folder or Hub name; or none."""
    always_refine: bool = False
    """Refine every picture, not only those judged manipulated."""
    fast: bool = False
    """One scale, unmirrored, in place of all."""
    threshold: float = 0.5
    """A picture is judged manipulated when its score exceeds this."""
    change: tuple[str, ...] = ()
    """Inference options of the model to change, such as cam.union=sum or prompts.threshold=0.4."""
    max_pixels: int = 178_956_970
    """Refuse pictures with more pixels than this; about 40 bytes per pixel are needed."""
    device: Device = "auto"
    """auto: the GPU if there is one."""
    precision: Precision = "no"
    """Compute the network in bf16 or fp16 (autocast); no: float32."""


@dataclass(frozen=True)
class ConvertOptions:
    """Turn a Conformer-S (ImageNet) or TransCAM checkpoint into a model folder."""

    source: Positional[str]
    """The checkpoint: .pth, .pt or .safetensors."""
    output: Positional[str]
    """Model folder to write."""
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
    size: int = 512
    """Side of the square input in pixels, a multiple of 16; the exported network takes this size only."""
    batch: int = 1
    """Pictures per call."""


@dataclass(frozen=True)
class FiguresOptions:
    """Draw the paper's qualitative panel (Fig. 4): picture, truth, each model's map, coarse and refined mask."""

    models: Positional[tuple[str, ...]]
    """Model folders or Hub names."""
    images: tuple[str, ...]
    """Pictures, folders or globs; each is a row of the panel."""
    output: str
    """Folder for qualitative.png."""
    masks: tuple[str, ...] = ()
    """Truth masks (files, folders or globs), matched by the picture's name, with or without `_gt`."""
    refiner: str = "grabcut"
    """grabcut; or a SAM checkpoint, folder or Hub name; or none."""
    width: int = 240
    """Width of one picture of the panel in pixels."""
    device: Device = "auto"
    """auto: the GPU if there is one."""


@dataclass(frozen=True)
class DemoOptions:
    """Make spliced pictures, learn from their labels, evaluate, refine, and write one HTML page about it."""

    output: str = "cabl-cgsr-demo"
    """Folder for the pictures, the run and index.html."""
    steps: int = 0
    """Optimizer steps; 0: as the recipe `toy` says, about a minute and a half on two cores."""
    seed: int = 0
    """Seed of the pictures and of the training."""
