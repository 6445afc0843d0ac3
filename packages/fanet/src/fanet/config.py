"""Configuration as frozen dataclasses: the network, its data, the loss, the optimizer, and all of a recipe.

Every value can be changed on the command line (`--optim.lr 1e-4`). This module imports no heavy library, so that
`fanet train --help` stays fast.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from papers_shared.ranges import Names, Within
from papers_shared.training import config as shared
from papers_shared.training.config import RunConfig
from papers_shared.types import RGB

ZEROWASTE_CLASSES = ("background", "rigid_plastic", "cardboard", "metal", "soft_plastic")
ZEROWASTE_PALETTE: tuple[RGB, ...] = ((10, 10, 10), (6, 230, 230), (4, 200, 3), (204, 5, 255), (235, 255, 7))
MAX_PIXELS = 500_000_000
"""Prediction refuses images with more pixels unless it is told otherwise."""


@dataclass(frozen=True)
class ModelConfig:
    """The network and the preprocessing it was trained with; saved beside the weights as `config.json`."""

    task: Literal["segment", "classify"] = "segment"
    """segment: backbone + UperNet head; classify: the ImageNet classifier."""
    backbone: str = "fanet_tiny"
    """A timm model name: `fanet_tiny`, `focalnet_tiny_lrf`, `convnext_tiny`, ..."""
    backbone_options: Annotated[tuple[str, ...], Names()] = ()
    """More arguments of the timm model as NAME=NUMBERS: `depths=2,2,6,2 window_size=7`."""
    pretrained: str = ""
    """Start weights of the backbone: `timm` for timm's own; a folder of this package or of timm; a weight file; a Hub
    name or `owner/name/FILE`; an https address. See docs/weights.md."""
    class_names: Annotated[tuple[str, ...], Names()] = ()
    """Names of the classes in id order; training takes them from the data set."""
    palette: Annotated[tuple[RGB, ...], Within(0, 255)] = ()
    """RGB colours of the classes in drawings, in id order; missing ones are chosen."""
    ignore_index: Annotated[int, Within(-100, 255)] = 255
    """Value of pixels in masks that the model did not learn from; training takes it from `--data.ignore-index`."""
    in_chans: Annotated[int, Within(1, 1024)] = 3
    image_size: Annotated[int, Within(0, 16_384)] = 0
    """Side of the square images that a backbone of one size is built for, others are resized to it; training takes it
    from `--data.crop-size`, and 0 stands for backbones of any size."""
    drop_path_rate: Annotated[float, Within(0, 0.99)] = 0.1
    """Stochastic depth of the last block; rises linearly from 0."""
    scm: bool = True
    """Spatial context module of the AFE block (Table 2); FANet backbones only."""
    frm_high: bool = True
    """High-frequency branch of the feature refinement module (Table 2); FANet backbones only."""
    frm_low: bool = True
    """Low-frequency branch of the feature refinement module (Table 2); FANet backbones only."""
    grad_checkpointing: bool = False
    """Recompute the backbone's blocks in the backward pass: less memory, more time."""
    head: Literal["upernet", "deeplabv3plus"] = "upernet"
    """upernet: the paper's; deeplabv3plus: that of segmentation_models_pytorch (the extra `peers`) on a backbone whose
    last stage is dilated to stride 16, such as `resnet101`."""
    level_norm: Annotated[float, Within(0, 0.1)] = 0.0
    """Epsilon of a layer norm on each of the backbone's maps before the heads, as the UperNet models of transformers
    and mmsegmentation have it; 0: none."""
    decoder_channels: Annotated[int, Within(1, 8192)] = 256
    pool_scales: Annotated[tuple[int, ...], Within(1, 64, filled=True)] = (1, 2, 3, 6)
    """Output sizes of the pyramid pooling module of the UperNet head."""
    auxiliary: bool = True
    """Train an FCN head on `auxiliary_stage` beside the main head."""
    auxiliary_stage: Annotated[int, Within(0, 3)] = 2
    """Index of the backbone stage (0 is stride 4) under the auxiliary head."""
    auxiliary_channels: Annotated[int, Within(1, 8192)] = 256
    dropout: Annotated[float, Within(0, 0.99)] = 0.1
    """Dropout of whole channels before the last convolution of each head."""
    mean: Annotated[tuple[float, float, float], Within(-65_535, 65_535)] = (123.675, 116.28, 103.53)
    """Subtracted from RGB pixels on 0..255; with start weights, unless changed here, the values that belong to them."""
    std: Annotated[tuple[float, float, float], Within(0.001, 65_535)] = (58.395, 57.12, 57.375)
    """Divides RGB pixels after the subtraction; follows the start weights like `mean`."""
    test_scale: Annotated[tuple[int, int], Within(1, 8192)] = (2048, 512)
    """Limits of the long and the short side, in pixels, of the keep-ratio resize at test time."""
    test_divisor: Annotated[int, Within(1, 4096)] = 32
    """A second resize at test time rounds both sides up to multiples of this."""

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True)
class DataConfig:
    """Where the data lies and how a training sample is cut from it."""

    root: str = ""
    """The data folder (or a Hub data set name with `--data.layout dataset`)."""
    layout: Literal[
        "auto",
        "zerowaste",
        "official",
        "folders",
        "voc",
        "cityscapes",
        "coco",
        "yolo",
        "label_studio",
        "class_folders",
        "dataset",
    ] = "auto"
    """How the folder is built (see DATA.md); auto: recognised from the names in it; dataset: a Hub data set or a
    `save_to_disk` folder."""
    class_names: Annotated[tuple[str, ...], Names()] = ()
    """Names in id order, background first; empty: those that the data set brings, or ZeroWaste's five."""
    mask_values: Annotated[tuple[int, ...], Within(0, 255)] = ()
    """Stored values of the masks in the order of the classes: `0 255` for black and white masks, `255 0` for
    inverted ones, `1 2 3` for ids that begin at 1; empty: 0, 1, 2, ... or what a list in the data set says."""
    ignore_index: Annotated[int, Within(-100, 255)] = 255
    """Value of pixels in a mask that are neither learned from nor scored."""
    overlap: Literal["class", "order", "area"] = "class"
    """Which object wins where drawn ones overlap: the one of the highest class id (as in ZeroWaste's masks), the last
    one in the file, or the smallest."""
    train_split: str = "train"
    val_split: str = "val"
    val_share: Annotated[float, Within(0, 0.9)] = 0.0
    """Share of the training images that is set aside as the validation split where the data set has none; images of
    one video, and copies of one image, stay together."""
    val_seed: Annotated[int, Within(0)] = 0
    """Which images these are."""
    allow_outside: bool = False
    """Follow names in annotation files and lists that lead out of the data folder."""
    crop_size: Annotated[int, Within(1, 8192)] = 512
    scale: Annotated[tuple[int, int], Within(1, 8192)] = (2048, 512)
    """Limits of the long and the short side, in pixels, of the keep-ratio resize before `ratio_range`."""
    ratio_range: Annotated[tuple[float, float], Within(0.01, 100, ascending=True)] = (0.5, 2.0)
    cat_max_ratio: Annotated[float, Within(0, 1)] = 0.75
    """A crop is drawn again (10 times) while one class fills this share of its labelled pixels or more."""
    flip: Annotated[float, Within(0, 1)] = 0.5
    """Probability of the horizontal flip."""
    photometric: bool = True
    """Brightness, contrast, saturation and hue distortion."""
    workers: Annotated[int, Within(-1, 1024)] = -1
    """Loader processes per training process; -1: one for each core that it may use, 12 at most."""
    timeout: Annotated[int, Within(0)] = 600
    """Seconds to wait for a batch of a loader process before the run ends with a sentence; 0: for ever."""
    verify: bool = False
    """Compare the contents of all files with those at the run's last start, in place of sizes and times."""
    cache: str = ""
    """Folder of decoded images and masks; empty: the user cache folder (`fanet data cache` shows and clears it)."""
    cache_gb: Annotated[float, Within(0, 1e6)] = 24.0
    """The cache stops growing at this size (3,002 images of 1920x1080 take 24 GB with their masks); 0: no cache."""


@dataclass(frozen=True)
class LossConfig:
    """Cross-entropy, and what is mixed or weighted before it."""

    average: Literal["valid", "all"] = "valid"
    """What the summed cross-entropy is divided by: labelled pixels, or all pixels (as mmsegmentation 0.x does)."""
    auxiliary_weight: Annotated[float, Within(0)] = 0.5
    label_smoothing: Annotated[float, Within(0, 1)] = 0.0
    """Classifier only."""
    mixup: Annotated[float, Within(0)] = 0.0
    """Classifier only: alpha of mixup."""
    cutmix: Annotated[float, Within(0)] = 0.0
    """Classifier only: alpha of CutMix."""


@dataclass(frozen=True)
class OptimConfig(shared.OptimConfig):
    """AdamW, the schedule of its learning rate, and how a global batch is computed."""

    batch_size: int = 2
    lr: float = 9e-5
    steps: int = 40_000
    channels_last: bool = False
    """Keep the heads and other backbones in the channels-last memory format too; FANet's own blocks always are."""


@dataclass(frozen=True)
class Recipe:
    """All options of one training run."""

    name: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(eval_every=4_000))
