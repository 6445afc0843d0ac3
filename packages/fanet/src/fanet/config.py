"""Configuration as frozen dataclasses: the network, its data, the loss, the optimizer, and all of a recipe.

Every value can be changed on the command line (`--optim.lr 1e-4`). This module imports no heavy library, so that
`fanet train --help` stays fast.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

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
    pretrained: str = ""
    """Start weights of the backbone: a model folder or Hub name written by this package, or `timm` for timm's own."""
    class_names: tuple[str, ...] = ()
    """Names of the classes in id order; training takes them from the data set."""
    palette: tuple[RGB, ...] = ()
    """RGB colours of the classes in drawings, in id order; missing ones are chosen."""
    in_chans: int = 3
    drop_path_rate: float = 0.1
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
    decoder_channels: int = 256
    pool_scales: tuple[int, ...] = (1, 2, 3, 6)
    """Output sizes of the pyramid pooling module of the UperNet head."""
    auxiliary: bool = True
    """Train an FCN head on `auxiliary_stage` beside the main head."""
    auxiliary_stage: int = 2
    """Index of the backbone stage (0 is stride 4) under the auxiliary head."""
    auxiliary_channels: int = 256
    dropout: float = 0.1
    """Dropout of whole channels before the last convolution of each head."""
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    """Subtracted from RGB pixels on 0..255."""
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    """Divides RGB pixels after the subtraction."""
    test_scale: tuple[int, int] = (2048, 512)
    """Limits of the long and the short side, in pixels, of the keep-ratio resize at test time."""
    test_divisor: int = 32
    """A second resize at test time rounds both sides up to multiples of this."""

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True)
class DataConfig:
    """Where the data lies and how a training sample is cut from it."""

    root: str = ""
    """The data folder (or a Hub data set name with `--data.layout dataset`)."""
    layout: Literal["auto", "zerowaste", "official", "coco", "folders", "class_folders", "dataset"] = "auto"
    """zerowaste: {split}/data + sem_seg; official: images/{split} + annotations/{split}; coco: {split}/data +
    labels.json polygons; folders: {split}/images + {split}/masks; class_folders: {split}/CLASS/*.jpg;
    dataset: a Hub data set or a `save_to_disk` folder; auto: recognised from the folders."""
    class_names: tuple[str, ...] = ()
    """Names in id order; empty: ZeroWaste's five, or the names the data set brings (classes.txt, features)."""
    ignore_index: int = 255
    """Value of pixels in a mask that are neither learned from nor scored."""
    train_split: str = "train"
    val_split: str = "val"
    crop_size: int = 512
    scale: tuple[int, int] = (2048, 512)
    """Limits of the long and the short side, in pixels, of the keep-ratio resize before `ratio_range`."""
    ratio_range: tuple[float, float] = (0.5, 2.0)
    cat_max_ratio: float = 0.75
    """A crop is drawn again (10 times) while one class fills this share of its labelled pixels or more."""
    flip: float = 0.5
    """Probability of the horizontal flip."""
    photometric: bool = True
    """Brightness, contrast, saturation and hue distortion."""
    workers: int = 2
    """Loader processes per training process."""
    cache: str = ""
    """Folder of decoded images and masks; empty: the user cache folder (`fanet data cache` shows and clears it)."""
    cache_gb: float = 24.0
    """The cache stops growing at this size (3,002 images of 1920x1080 take 24 GB with their masks); 0: no cache."""


@dataclass(frozen=True)
class LossConfig:
    """Cross-entropy, and what is mixed or weighted before it."""

    average: Literal["valid", "all"] = "valid"
    """What the summed cross-entropy is divided by: labelled pixels, or all pixels (as mmsegmentation 0.x does)."""
    auxiliary_weight: float = 0.5
    label_smoothing: float = 0.0
    """Classifier only."""
    mixup: float = 0.0
    """Classifier only: alpha of mixup."""
    cutmix: float = 0.0
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
