"""Configuration: frozen dataclasses, and one function per recipe.

A recipe is a row of a table in the paper. Its docstring names the table, the row, the published figure and
the command that trains it; every value can be changed on the command line (`--optim.lr 1e-4`).
This module imports no heavy library: `fanet train --help` stays fast.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

ZEROWASTE_CLASSES = ("background", "rigid_plastic", "cardboard", "metal", "soft_plastic")
ZEROWASTE_PALETTE = ((10, 10, 10), (6, 230, 230), (4, 200, 3), (204, 5, 255), (235, 255, 7))


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
    palette: tuple[tuple[int, int, int], ...] = ()
    """One RGB colour per class for drawings; empty: chosen."""
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
    layout: Literal["auto", "zerowaste", "authors", "coco", "folders", "class_folders", "dataset"] = "auto"
    """zerowaste: {split}/data + sem_seg; authors: images/{split} + annotations/{split}; coco: {split}/data +
    labels.json polygons; folders: {split}/images + {split}/masks; class_folders: {split}/CLASS/*.jpg;
    dataset: a Hub data set or a `save_to_disk` folder; auto: recognised from the folders."""
    class_names: tuple[str, ...] = ()
    """Names in id order; empty: ZeroWaste's five, or the names the data set brings (classes.txt, features)."""
    ignore_index: int = 255
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
    """Folder of decoded frames; empty: the user cache folder (`fanet data cache` shows and clears it)."""
    cache_gb: float = 24.0
    """The cache stops growing at this size (3,002 frames of 1920x1080 take 24 GB with their masks); 0: no cache."""


@dataclass(frozen=True)
class LossConfig:
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
class OptimConfig:
    """AdamW, the schedule of its rate, and how a global batch is computed."""

    batch_size: int = 2
    """Global batch: samples per optimizer step over all processes and accumulation steps."""
    accumulation: int = 1
    """Micro-batches per optimizer step."""
    lr: float = 9e-5
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.05
    decay_norms: bool = True
    """Apply weight decay to norms and biases too."""
    schedule: Literal["poly", "cosine"] = "poly"
    power: float = 1.0
    """Exponent of the poly schedule."""
    min_lr: float = 0.0
    warmup_steps: int = 0
    warmup_ratio: float = 1e-6
    """Share of the rate at step 0 of the linear warm-up."""
    steps: int = 40_000
    """Optimizer steps; with `epochs` > 0 derived from the data."""
    epochs: int = 0
    warmup_epochs: int = 0
    clip_grad: float = 0.0
    """Largest gradient norm; 0: no clipping."""
    ema: float = 0.0
    """Decay of the moving average of the weights, which then is what is evaluated and exported; 0: none."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    compile: bool = False
    channels_last: bool = True
    sync_bn: bool = False
    """Batch norm over all processes (GPU only)."""
    norm_eval: bool = False
    """Keep batch norm on its running statistics while training."""


@dataclass(frozen=True)
class RunConfig:
    """The run folder, its cadences, and who is told."""

    output: str = ""
    """Run folder; empty: runs/RECIPE."""
    seed: int = 0
    resume: bool = True
    """Continue from the newest complete checkpoint of the run folder, if there is one."""
    eval_every: int = 4_000
    checkpoint_every: int = 1_000
    keep: int = 2
    """Newest checkpoints kept."""
    timeout: int = 1800
    """Seconds after which a process gives up on others that do not answer."""
    log_every: int = 50
    trackers: tuple[str, ...] = ()
    """Accelerate trackers by name: tensorboard, wandb, trackio, ..."""
    deterministic: bool = False
    """Deterministic algorithms on the GPU where torch has them (slower); what it lacks is warned of."""


@dataclass(frozen=True)
class Recipe:
    """All of one training run."""

    name: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @property
    def smallest_micro_batch(self) -> int:
        """Pictures that one forward pass of training needs: two where a head takes statistics of maps pooled to 1x1."""
        together = self.model.task == "segment" and not (self.optim.norm_eval or self.optim.sync_bn)
        return 2 if together else 1


def zerowaste_f() -> Recipe:
    """FANet on ZeroWaste-f as the paper's text says. Tables 1 and 3, row "FANet (ours)".

    Published: test mIoU 54.89, pixel accuracy 91.41.
    Section 4.2: 40k iterations, batch 2, crop 512, AdamW, rate 9e-5 decayed with power 1.0, weight decay 0.05.
    Where the text is silent (auxiliary head, decoder width, drop path) the authors' configuration stands.

        accelerate launch -m fanet train zerowaste_f --data.root ZEROWASTE --model.pretrained IMAGENET_FOLDER
    """
    return Recipe(name="zerowaste_f")


def zerowaste_f_official() -> Recipe:
    """FANet on ZeroWaste-f as the authors' configuration really runs. Tables 1 and 3, row "FANet (ours)".

    Published: test mIoU 54.89, pixel accuracy 91.41.
    Differs from the text: power 0.95 with floor 1e-7, 1500 iterations of linear warm-up, weight decay 0.001 on
    all parameters, loss averaged over all pixels, ignored ones included.

        accelerate launch -m fanet train zerowaste_f_official --data.root ZEROWASTE --model.pretrained IMAGENET_FOLDER
    """
    return Recipe(
        name="zerowaste_f_official",
        loss=LossConfig(average="all"),
        optim=OptimConfig(power=0.95, min_lr=1e-7, warmup_steps=1_500, weight_decay=0.001),
    )


def ablation_1_baseline() -> Recipe:
    """Table 2, row 1: CE + ConvMLP. Published: mIoU 38.15, pixel accuracy 89.26.

    accelerate launch -m fanet train ablation_1_baseline --data.root ZEROWASTE --model.pretrained IMAGENET_FOLDER
    """
    return _ablation("ablation_1_baseline", scm=False, frm_high=False, frm_low=False)


def ablation_2_scm() -> Recipe:
    """Table 2, row 2: baseline + SCM. Published: mIoU 47.66, pixel accuracy 91.07.

    accelerate launch -m fanet train ablation_2_scm --data.root ZEROWASTE --model.pretrained IMAGENET_FOLDER
    """
    return _ablation("ablation_2_scm", scm=True, frm_high=False, frm_low=False)


def ablation_3_frm_high() -> Recipe:
    """Table 2, row 3: baseline + FRM, high frequencies. Published: mIoU 49.03, pixel accuracy 90.98.

    accelerate launch -m fanet train ablation_3_frm_high --data.root ZEROWASTE --model.pretrained IMAGENET_FOLDER
    """
    return _ablation("ablation_3_frm_high", scm=False, frm_high=True, frm_low=False)


def ablation_4_frm_low() -> Recipe:
    """Table 2, row 4: baseline + FRM, low frequencies. Published: mIoU 43.99, pixel accuracy 90.65.

    accelerate launch -m fanet train ablation_4_frm_low --data.root ZEROWASTE --model.pretrained IMAGENET_FOLDER
    """
    return _ablation("ablation_4_frm_low", scm=False, frm_high=False, frm_low=True)


def ablation_5_frm() -> Recipe:
    """Table 2, row 5: baseline + FRM, both branches. Published: mIoU 50.45, pixel accuracy 90.95.

    accelerate launch -m fanet train ablation_5_frm --data.root ZEROWASTE --model.pretrained IMAGENET_FOLDER
    """
    return _ablation("ablation_5_frm", scm=False, frm_high=True, frm_low=True)


def ablation_6_full() -> Recipe:
    """Table 2, row 6: SCM + FRM, the full FANet. Published: mIoU 54.89, pixel accuracy 91.41.

    accelerate launch -m fanet train ablation_6_full --data.root ZEROWASTE --model.pretrained IMAGENET_FOLDER
    """
    return _ablation("ablation_6_full", scm=True, frm_high=True, frm_low=True)


def focalnet_t() -> Recipe:
    """Table 3, row FocalNet-T under the same head and schedule. Published: mIoU 51.71, pixel accuracy 91.03.

    accelerate launch -m fanet train focalnet_t --data.root ZEROWASTE --model.pretrained timm
    """
    return Recipe(name="focalnet_t", model=ModelConfig(backbone="focalnet_tiny_lrf"))


def focalnet_b() -> Recipe:
    """Tables 1 and 3, row FocalNet-B. Published: mIoU 53.26 (Table 1, text) or 54.26 (Table 3), pixel accuracy 91.28.

    The gain of 1.63 that the text states fits 53.26.

        accelerate launch -m fanet train focalnet_b --data.root ZEROWASTE --model.pretrained timm
    """
    return Recipe(name="focalnet_b", model=ModelConfig(backbone="focalnet_base_lrf"))


def deeplabv3plus() -> Recipe:
    """Table 1, row DeepLabv3+, under the schedule of the other rows. Published: mIoU 52.13, pixel accuracy 91.38.

    The decoder is segmentation_models_pytorch's (`pip install "fanet[peers]"`), on timm's ResNet-101 at output stride
    16. The published row quotes ZeroWaste's authors: detectron2, batch 40, another test pipeline.

        accelerate launch -m fanet train deeplabv3plus --data.root ZEROWASTE --model.pretrained timm
    """
    model = ModelConfig(backbone="resnet101", head="deeplabv3plus", drop_path_rate=0.0)
    return Recipe(name="deeplabv3plus", model=model)


def imagenet1k() -> Recipe:
    """The ImageNet-1K classifier that FANet starts from. Table 4, row "FANet (ours)". Published: top-1 82.5.

    Section 4.2: 300 epochs, batch 80 on each of 16 GPUs, rate 1e-3, AdamW, weight decay 0.05. Open in the paper
    and taken from the works it follows (Swin, VAN): cosine schedule, 20 warm-up epochs, no decay of norms and
    biases, label smoothing 0.1, mixup 0.8, CutMix 1.0, RandAugment, random erasing, clipping at 5.

        accelerate launch --num_processes 16 -m fanet train imagenet1k --data.root IMAGENET --optim.precision bf16
    """
    return Recipe(
        name="imagenet1k",
        model=ModelConfig(task="classify"),
        data=DataConfig(layout="class_folders", crop_size=224, workers=8, cache_gb=0.0),
        loss=LossConfig(label_smoothing=0.1, mixup=0.8, cutmix=1.0),
        optim=OptimConfig(
            batch_size=16 * 80,
            lr=1e-3,
            weight_decay=0.05,
            decay_norms=False,
            schedule="cosine",
            min_lr=1e-5,
            epochs=300,
            warmup_epochs=20,
            clip_grad=5.0,
        ),
        run=RunConfig(eval_every=5_000, checkpoint_every=1_000),
    )


def toy() -> Recipe:
    """A small FANet on the embedded conveyor-belt scenes: about a minute on two CPU cores. No table.

    fanet demo, or: fanet train toy --data.root TOY_FOLDER
    """
    return Recipe(
        name="toy",
        model=ModelConfig(
            backbone="test_fanet",
            drop_path_rate=0.0,
            decoder_channels=32,
            auxiliary_channels=32,
            test_scale=(512, 128),
        ),
        data=DataConfig(
            crop_size=96,
            scale=(512, 128),
            ratio_range=(0.8, 1.5),
            photometric=False,
            cache_gb=0.5,
            workers=0,
        ),
        optim=OptimConfig(
            batch_size=8, lr=1e-2, weight_decay=0.01, steps=400, warmup_steps=20, clip_grad=1.0
        ),
        run=RunConfig(eval_every=100, checkpoint_every=50, log_every=10),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe
    for recipe in (
        zerowaste_f,
        zerowaste_f_official,
        ablation_1_baseline,
        ablation_2_scm,
        ablation_3_frm_high,
        ablation_4_frm_low,
        ablation_5_frm,
        ablation_6_full,
        focalnet_t,
        focalnet_b,
        deeplabv3plus,
        imagenet1k,
        toy,
    )
}


def with_classes(model: ModelConfig, class_names: tuple[str, ...]) -> ModelConfig:
    """The same network for these classes, with ZeroWaste's colours for ZeroWaste's names, else distinct hues."""
    palette = ZEROWASTE_PALETTE if class_names == ZEROWASTE_CLASSES else _distinct_colours(len(class_names))
    return replace(model, class_names=class_names, palette=palette)


def _distinct_colours(number: int) -> tuple[tuple[int, int, int], ...]:
    """Dark grey for class 0, then hues a golden angle apart: the first few are far from each other."""
    hues = [(index * 0.618034) % 1.0 for index in range(number)]
    bright = [colorsys.hsv_to_rgb(hue, 0.85, 0.95) for hue in hues]
    colours = [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in bright]
    return ((10, 10, 10), *colours[1:])


def _ablation(name: str, *, scm: bool, frm_high: bool, frm_low: bool) -> Recipe:
    model = ModelConfig(scm=scm, frm_high=frm_high, frm_low=frm_low)
    return replace(zerowaste_f_official(), name=name, model=model)
