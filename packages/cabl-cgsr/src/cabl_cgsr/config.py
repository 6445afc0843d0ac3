"""Configuration: frozen dataclasses, and one function per recipe.

Everything that the paper leaves open is a named field here, with its default. A recipe is a row of a table in
the paper; its docstring names the table, the row, the published figure and the command that trains it, and
every value can be changed on the command line (`--optim.lr 1e-4`).
This module imports no heavy library: `cabl-cgsr train --help` stays fast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

NUM_BLOCKS = 12


@dataclass(frozen=True)
class ConformerSizes:
    """Widths of a Conformer of 12 blocks: 1-4 at stride 4, 5-8 at stride 8, 9-12 at stride 16."""

    stem_chans: int
    conv_chans: int
    """Channels of the convolution branch in blocks 1-4; doubled in 5-8 and again in 9-12."""
    embed_dim: int
    """Width of the tokens."""
    num_heads: int
    mlp_ratio: int = 4


BACKBONES = {
    "conformer_small": ConformerSizes(stem_chans=64, conv_chans=256, embed_dim=384, num_heads=6),
    "test_conformer": ConformerSizes(stem_chans=16, conv_chans=32, embed_dim=24, num_heads=3, mlp_ratio=2),
}
"""`conformer_small`: the paper's Conformer-S, patches of 16 pixels; `test_conformer`: small, for tests."""


@dataclass(frozen=True)
class CablConfig:
    """Context-aware boundary localization (Section II-B): fixed edge filters S on convolution features X."""

    operator: Literal["sobel", "prewitt", "scharr", "none"] = "sobel"
    """Table V compares sobel and prewitt; scharr is an extra; none: the plain dual-branch network."""
    blocks: int = 12
    """The first n blocks get it. Table IV: 4, 8, 12."""
    structure: Literal["i", "i_edges", "ii", "iii"] = "iii"
    """With g = gate(S(X)). iii: X + g * X (Eq. 1); i: g * X; i_edges: g alone; ii: X + g. The figure that
    shows the structures of Table III is lost: i and ii are this project's reading of it, not the paper's
    word."""
    gate: Literal["raw", "sigmoid", "tanh", "max"] = "sigmoid"
    """raw: Eq. (1) to the letter, which squares the features block by block and overflows half precision;
    max: divided by the largest value of each map."""
    placement: Literal["output", "first", "last"] = "output"
    """output: on what a block hands to the next; first: before the first 1x1 convolution of the block, the
    shortcut untouched; last: before the last 1x1 convolution of both convolution parts of the block."""
    channels: Literal["depthwise", "summed"] = "depthwise"
    """depthwise: an edge map for each channel; summed: one edge map of the sum of the channels."""
    padding: Literal["replicate", "zeros", "reflect"] = "replicate"
    """zeros draws a frame of false edges."""
    magnitude: Literal["l2", "l1"] = "l2"
    """l2: sqrt(gx^2 + gy^2 + eps); l1: |gx| + |gy|."""
    eps: float = 1e-12
    """Under the root, which has no finite gradient at 0."""


@dataclass(frozen=True)
class CamConfig:
    """From the network's maps to one map and one score for each picture (Section II-C, Eq. 2)."""

    source: Literal["union", "conv", "trans"] = "union"
    """Which class activation map is coupled with the attention; conv is TransCAM's."""
    union: Literal["max", "probabilistic", "sum"] = "max"
    """Of the two maps a and b, each scaled to [0, 1]: their maximum, a + b - ab, or a + b."""
    attention: Literal["matrix", "transposed", "class_row", "none"] = "matrix"
    """matrix: A @ map, TransCAM's rule; transposed: A^T @ map; class_row: the class token's row of A times
    the map, element by element, nearest to the letter of Eq. (2)."""
    sizes: tuple[int, ...] = (256, 512, 768)
    """Squares, in pixels, to which a picture is resized (Section III-A)."""
    mirror: bool = True
    """Each size also mirrored left to right."""
    aggregation: Literal["mean", "max"] = "mean"
    """Over all sizes and mirrors, at the size of the picture."""
    scaling: Literal["clip_minmax", "clip_max", "minmax"] = "clip_minmax"
    """Of the aggregated map to [0, 1]. clip: negative values to 0 first, without which one deep basin lifts
    all the rest; minmax: (x - min) / (max - min); max: x / max."""
    score: Literal["probabilities", "logits"] = "probabilities"
    """Image score: mean of both branches' probabilities, or the probability of the sum of their logits; then
    the mean over all sizes and mirrors."""


@dataclass(frozen=True)
class PromptConfig:
    """Coarse mask and prompts of the CAM-guided SAM refinement (Section II-C)."""

    variant: Literal["null", "point", "box", "box_point"] = "box_point"
    """Table VI. null: the coarse mask stands; point: the positive one; box; box_point: box and both."""
    threshold: float | Literal["otsu"] = 0.5
    """The coarse mask is where the scaled map exceeds this."""
    connectivity: Literal[8, 4] = 8
    """Whether pixels that touch at a corner belong together."""
    far_corner: Literal["inclusive", "exclusive"] = "inclusive"
    """The box ends on the last pixel of the component, or one beyond."""
    positive_from: Literal["map", "component"] = "map"
    """Where the maximum is sought: in the whole map (it may lie outside the box) or in the component."""
    multimask: bool = False
    """Ask the segmenter for several masks and take the one it thinks best; several prompts need only one."""


@dataclass(frozen=True)
class ModelConfig:
    """The network and the preprocessing it was trained with; saved beside the weights as `config.json`."""

    backbone: str = "conformer_small"
    """A name in `BACKBONES`."""
    pretrained: str = ""
    """Start weights of the backbone: a model folder or Hub name written by this package."""
    num_logits: int = 1
    """Outputs of each head; the last one stands for "manipulated"."""
    activation: Literal["sigmoid", "softmax"] = "sigmoid"
    """sigmoid: each logit by itself; softmax: over the logits, which then must be two."""
    loss: Literal["sum_of_losses", "summed_logits"] = "sum_of_losses"
    """Eq. (3), one loss for each branch; or one loss on the sum of both branches' logits, as in TransCAM."""
    drop_path_rate: float = 0.1
    """Stochastic depth of the last transformer block; rises linearly from 0."""
    cabl: CablConfig = field(default_factory=CablConfig)
    cam: CamConfig = field(default_factory=CamConfig)
    prompts: PromptConfig = field(default_factory=PromptConfig)
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    """Subtracted from RGB pixels on 0..255."""
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    """Divides RGB pixels after the subtraction."""


@dataclass(frozen=True)
class DataConfig:
    """Where pictures lie and how a training sample is cut from one."""

    root: str = ""
    """The data folder."""
    layout: Literal[
        "auto",
        "casia2",
        "casia1",
        "casia1plus",
        "columbia",
        "coverage",
        "imd2020",
        "wscl",
        "imdlbenco",
        "folders",
    ] = "auto"
    """The released layout of a data set; wscl, imdlbenco: a JSON list, see `list`; folders: authentic/,
    manipulated/ and, for evaluation, masks/; auto: recognised from the folders."""
    list: str = ""
    """The JSON list of the layouts wscl and imdlbenco, or a text file with one picture's name a line that picks
    from the set; relative to `root` or absolute."""
    subset: Literal["auto", "train", "val", "all"] = "auto"
    """Of a WSCL list, whose `val` is the test set; auto: train for training, val for everything else."""
    coverage_forgeries: Literal[100, 91] = 100
    """Of COVERAGE; 91: without those whose masks have another size, as others do."""
    val_share: float = 0.1
    """Share of the training set that is held out for validation, by image label alone."""
    split_seed: int = 0
    """Decides which pictures are held out."""
    long_side: tuple[int, int] = (320, 640)
    """A training picture is resized, aspect ratio kept, to a long side drawn uniformly from this range."""
    crop_size: int = 512
    """Side of the random crop; what is smaller is padded with zeros after the normalisation."""
    flip: float = 0.5
    """Probability of the horizontal flip."""
    jitter: tuple[float, float, float, float] = (0.3, 0.3, 0.3, 0.1)
    """Strength of the random brightness, contrast, saturation and hue."""
    workers: int = 2
    """Loader processes per training process."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW, the schedule of its rate, and how a global batch is computed."""

    batch_size: int = 8
    """Global batch: samples per optimizer step over all processes and accumulation steps."""
    accumulation: int = 1
    """Micro-batches per optimizer step."""
    lr: float = 5e-5
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 5e-4
    decay_norms: bool = True
    """Apply weight decay to norms and biases too."""
    schedule: Literal["constant", "poly", "cosine"] = "constant"
    """The paper names no schedule and TransCAM has none."""
    power: float = 1.0
    """Exponent of the poly schedule."""
    min_lr: float = 0.0
    warmup_steps: int = 0
    warmup_ratio: float = 1e-6
    """Share of the rate at step 0 of the linear warm-up."""
    steps: int = 0
    """Optimizer steps; with `epochs` > 0 derived from the data."""
    epochs: int = 30
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
    eval_every: int = 1_400
    """An epoch of CASIAv2, about."""
    checkpoint_every: int = 700
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
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)


def casia2() -> Recipe:
    """The model of the paper, trained on CASIAv2's image labels. Table I, row "Ours".

    Published, I-AUC / P-F1 with CGSR: CASIAv1 0.816/0.300, Columbia 0.963/0.382, COVERAGE 0.658/0.190, IMD2020
    0.783/0.368, average 0.805/0.310. The same weights are the last rows of Tables II to VI; CGSR needs no
    training, and `cabl-cgsr evaluate --prompts null point box box_point` gives all of Table VI.
    Section III-A: Conformer-S from ImageNet, 30 epochs, batch 8, AdamW, rate 5e-5, weight decay 5e-4, random
    scaling. Where the text is silent TransCAM's recipe stands: long side 320 to 640, crop 512, colour jitter,
    flip, no schedule.

        accelerate launch -m cabl_cgsr train casia2 --data.root CASIA2 --model.pretrained IMAGENET_FOLDER
    """
    return Recipe(name="casia2")


def ablation_baseline() -> Recipe:
    """Table II, rows without CABL: the dual-branch network alone.

    Published, average of COVERAGE and IMD2020: I-AUC 0.708, P-F1 0.248 without and 0.264 with CGSR.

        accelerate launch -m cabl_cgsr train ablation_baseline --data.root CASIA2 --model.pretrained IMAGENET_FOLDER
    """
    return _ablation("ablation_baseline", operator="none")


def ablation_structure_i() -> Recipe:
    """Table III, structure i, read as the product without residual. Published: I-AUC 0.696, P-F1 0.194.

    The figure that shows the structures is lost; `--model.cabl.structure i_edges` is the other reading. Average
    of COVERAGE and IMD2020, without CGSR.

        accelerate launch -m cabl_cgsr train ablation_structure_i --data.root CASIA2 --model.pretrained IMAGENET_FOLDER
    """
    return _ablation("ablation_structure_i", structure="i")


def ablation_structure_ii() -> Recipe:
    """Table III, structure ii, read as the sum without product. Published: I-AUC 0.695, P-F1 0.244.

    The figure that shows the structures is lost. Average of COVERAGE and IMD2020, without CGSR.

        accelerate launch -m cabl_cgsr train ablation_structure_ii --data.root CASIA2 --model.pretrained IMAGENET_FOLDER
    """
    return _ablation("ablation_structure_ii", structure="ii")


def ablation_blocks_4() -> Recipe:
    """Table IV, CABL in blocks 1-4. Published: I-AUC 0.675, P-F1 0.200 (COVERAGE and IMD2020, without CGSR).

    accelerate launch -m cabl_cgsr train ablation_blocks_4 --data.root CASIA2 --model.pretrained IMAGENET_FOLDER
    """
    return _ablation("ablation_blocks_4", blocks=4)


def ablation_blocks_8() -> Recipe:
    """Table IV, CABL in blocks 1-8. Published: I-AUC 0.718, P-F1 0.241 (COVERAGE and IMD2020, without CGSR).

    accelerate launch -m cabl_cgsr train ablation_blocks_8 --data.root CASIA2 --model.pretrained IMAGENET_FOLDER
    """
    return _ablation("ablation_blocks_8", blocks=8)


def ablation_prewitt() -> Recipe:
    """Table V, Prewitt's operator. Published, average of four sets without CGSR: I-AUC 0.803, P-F1 0.251.

    accelerate launch -m cabl_cgsr train ablation_prewitt --data.root CASIA2 --model.pretrained IMAGENET_FOLDER
    """
    return _ablation("ablation_prewitt", operator="prewitt")


def toy() -> Recipe:
    """A small network on the embedded splices and copy-moves: a minute and a half on two CPU cores. No table.

    Its map is the convolution branch's alone, without attention: a network that starts from nothing and trains for
    a minute has no attention worth following.

        cabl-cgsr demo, or: cabl-cgsr train toy --data.root TOY_FOLDER
    """
    return Recipe(
        name="toy",
        model=ModelConfig(
            backbone="test_conformer",
            drop_path_rate=0.0,
            cam=CamConfig(source="conv", attention="none", sizes=(96, 112, 128)),
        ),
        data=DataConfig(long_side=(128, 128), crop_size=96, jitter=(0.0, 0.0, 0.0, 0.0), workers=0),
        optim=OptimConfig(
            batch_size=8,
            lr=2e-3,
            weight_decay=1e-2,
            schedule="cosine",
            steps=600,
            epochs=0,
            warmup_steps=20,
            clip_grad=1.0,
        ),
        run=RunConfig(eval_every=100, checkpoint_every=50, log_every=10),
    )


def _ablation(name: str, **cabl: Any) -> Recipe:
    return Recipe(name=name, model=ModelConfig(cabl=CablConfig(**cabl)))


RECIPES: dict[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe
    for recipe in (
        casia2,
        ablation_baseline,
        ablation_structure_i,
        ablation_structure_ii,
        ablation_blocks_4,
        ablation_blocks_8,
        ablation_prewitt,
        toy,
    )
}
