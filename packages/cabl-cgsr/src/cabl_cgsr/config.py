"""Configuration as frozen dataclasses.

What the paper leaves open is a named field here, with its default. Importing this is light: `--help` stays fast.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from papers_shared.errors import UserError
from papers_shared.ranges import Within, check_ranges
from papers_shared.training import config as training

NUM_BLOCKS = 12
SMALLEST_SIZE = 16
"""Pixels of a side: one patch."""
LARGEST_SIZE = 4096
"""Pixels of a side: attention over 65,536 patches takes 17 GB for each head."""

PromptVariant = Literal["null", "point", "box", "box_point"]
"""Table VI. null: the coarse mask stands; point: the positive one; box; box_point: box and both points."""


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
    blocks: Annotated[int, Within(0, NUM_BLOCKS)] = 12
    """The first n blocks get it. Table IV: 4, 8, 12."""
    structure: Literal["i", "i_edges", "ii", "iii"] = "iii"
    """With g = gate(S(X)). iii: X + g * X (Eq. 1); i: g * X; i_edges: g alone; ii: X + g. The drawing that
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
    """zeros draws false edges around the image."""
    magnitude: Literal["l2", "l1"] = "l2"
    """l2: sqrt(gx^2 + gy^2 + eps); l1: |gx| + |gy|."""
    eps: Annotated[float, Within(0, 1, above=True)] = 1e-12
    """Under the root, which has no finite gradient at 0."""


@dataclass(frozen=True)
class CamConfig:
    """From the network's maps to one map and one score for each image (Section II-C, Eq. 2)."""

    source: Literal["union", "conv", "trans"] = "union"
    """Which class activation map is coupled with the attention; conv is TransCAM's."""
    union: Literal["max", "probabilistic", "sum"] = "max"
    """Of the two maps a and b, each scaled to [0, 1]: their maximum, a + b - ab, or a + b."""
    attention: Literal["matrix", "transposed", "class_row", "none"] = "matrix"
    """matrix: A @ map, TransCAM's rule; transposed: A^T @ map; class_row: the class token's row of A times
    the map, element by element, nearest to the letter of Eq. (2)."""
    sizes: Annotated[tuple[int, ...], Within(SMALLEST_SIZE, LARGEST_SIZE, filled=True)] = (256, 512, 768)
    """Squares, in pixels, to which an image is resized (Section III-A)."""
    mirror: bool = True
    """Each size also mirrored left to right."""
    aggregation: Literal["mean", "max"] = "mean"
    """Over all sizes and mirrors, at the size of the image."""
    scaling: Literal["clip_minmax", "clip_max", "minmax"] = "clip_minmax"
    """Of the aggregated map to [0, 1]. clip: negative values to 0 first, without which one deep basin lifts
    all the rest; minmax: (x - min) / (max - min); max: x / max."""
    score: Literal["probabilities", "logits"] = "probabilities"
    """Image score: mean of both branches' probabilities, or the probability of the sum of their logits; then
    the mean over all sizes and mirrors."""


@dataclass(frozen=True)
class PromptConfig:
    """Coarse mask and prompts of the CAM-guided SAM refinement (Section II-C)."""

    variant: PromptVariant = "box_point"
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
class Calibration:
    """From image score to verdict, chosen on held-out images at each validation of a training."""

    temperature: Annotated[float, Within(0, above=True)] = 1.0
    """The logit of the score is divided by it: the probability that the image is manipulated."""
    threshold: Annotated[float, Within(0, 1)] = 0.5
    """An image is judged manipulated when the probability exceeds this."""
    unsure: Annotated[float, Within(0, 1)] = 0.0
    """Probabilities nearer to the threshold than this are judged "can't say"."""
    images: Annotated[int, Within(0)] = 0
    """Held-out images that it was chosen on; 0: it was not chosen, and the score is the probability."""


@dataclass(frozen=True)
class ModelConfig:
    """The network and the preprocessing it was trained with; saved beside the weights as `config.json`."""

    backbone: str = "conformer_small"
    """A name in `BACKBONES`."""
    pretrained: str = ""
    """Start weights of the backbone: a model folder; a checkpoint of Conformer; a Hub name or `owner/name/FILE`; an
    https address. See docs/weights.md."""
    num_logits: Annotated[int, Within(1, 1024)] = 1
    """Outputs of each head; the last one stands for "manipulated"."""
    activation: Literal["sigmoid", "softmax"] = "sigmoid"
    """sigmoid: each logit by itself; softmax: over the logits, which then must be two."""
    drop_path_rate: Annotated[float, Within(0, 0.99)] = 0.1
    """Stochastic depth of the last transformer block; rises linearly from 0."""
    grad_checkpointing: bool = False
    """Compute the edge maps again in the backward pass: a fifth less memory in training, for some more time."""
    cabl: CablConfig = field(default_factory=CablConfig)
    cam: CamConfig = field(default_factory=CamConfig)
    prompts: PromptConfig = field(default_factory=PromptConfig)
    calibration: Calibration = field(default_factory=Calibration)
    mean: Annotated[tuple[float, float, float], Within(-65_535, 65_535)] = (123.675, 116.28, 103.53)
    """Subtracted from RGB pixels on 0..255."""
    std: Annotated[tuple[float, float, float], Within(0.001, 65_535)] = (58.395, 57.12, 57.375)
    """Divides RGB pixels after the subtraction."""


@dataclass(frozen=True)
class DataConfig:
    """Where images lie and how a training sample is cut from one."""

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
        "nist16",
        "dso1",
        "korus",
        "autosplice",
        "wscl",
        "imdlbenco",
        "folders",
    ] = "auto"
    """The released layout of a data set, see DATA.md; folders: authentic/, manipulated/ and, for evaluation, masks/;
    auto: recognised from the names of folders and files."""
    list: str = ""
    """A list of images, masks and labels (JSON of WSCL or IMDLBenCo, CSV, text), or of names alone, which picks from
    the set; relative to `root` or absolute."""
    subset: Literal["auto", "train", "val", "all"] = "auto"
    """Of a WSCL list, whose `val` is the test set, or of folders named train, val and test; auto: train for training,
    val (or test) for everything else."""
    allow_outside: bool = False
    """Follow names in lists that lead out of the data folder."""
    invert_masks: bool = False
    """Read black as manipulated; for NIST16 and DSO-1, whose masks are so already, read white as manipulated."""
    mask_threshold: Annotated[int, Within(0, 254)] = 0
    """Grey level of a mask up to which a pixel counts as authentic: 127 for masks with traces of JPEG."""
    coverage_forgeries: Literal[100, 91] = 100
    """Of COVERAGE; 91: without those whose masks have another size, as others do."""
    val_share: Annotated[float, Within(0, 0.9)] = 0.1
    """Share of the training set that is held out for validation, by image label alone; 0: none, and the model of the
    last step is the result."""
    val_seed: Annotated[int, Within(0, 2**63 - 1)] = 0
    """Decides which images are held out."""
    long_side: Annotated[tuple[int, int], Within(0, 16_384, ascending=True)] = (320, 640)
    """A training image is resized, aspect ratio kept, to a long side drawn uniformly from this range; 0 0: it keeps
    its size."""
    crop_size: Annotated[int, Within(SMALLEST_SIZE, LARGEST_SIZE)] = 512
    """Side of the random crop; what is smaller is padded with zeros after the normalisation."""
    flip: Annotated[float, Within(0, 1)] = 0.5
    """Probability of the horizontal flip."""
    jitter: Annotated[tuple[float, float, float, float], Within(0, 1)] = (0.3, 0.3, 0.3, 0.1)
    """Strength of the random brightness, contrast, saturation and hue."""
    workers: Annotated[int, Within(-1, 1024)] = -1
    """Loader processes per training process; -1: one for each core that it may use, 12 at most."""
    timeout: Annotated[int, Within(0)] = 600
    """Seconds to wait for a batch of a loader process before the run ends with a sentence; 0: for ever."""
    verify: bool = False
    """Compare the contents of all files with those at the run's last start, in place of sizes and times."""


@dataclass(frozen=True)
class LossConfig:
    """The training loss."""

    kind: Literal["sum_of_losses", "summed_logits"] = "sum_of_losses"
    """Eq. (3), one loss for each branch; or one loss on the sum of both branches' logits, as in TransCAM."""


@dataclass(frozen=True)
class OptimConfig(training.OptimConfig):
    """The paper's values (Section III-A)."""

    batch_size: int = 8
    lr: float = 5e-5
    weight_decay: float = 5e-4
    schedule: Literal["constant", "poly", "cosine"] = "constant"
    """The paper names no schedule and TransCAM has none."""
    epochs: int = 30
    channels_last: bool = True


@dataclass(frozen=True)
class Recipe:
    """All of one training run."""

    name: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: training.RunConfig = field(default_factory=lambda: training.RunConfig(checkpoint_every=700))


def one_scale(config: ModelConfig) -> ModelConfig:
    """The middle one of the sizes, unmirrored: one forward pass in place of six."""
    sizes = sorted(config.cam.sizes)
    return replace(config, cam=replace(config.cam, sizes=(sizes[len(sizes) // 2],), mirror=False))


def check_config(config: ModelConfig) -> None:
    """Refuse what no network can be built from.

    Raises:
        UserError: It names the option and what it may be.
    """
    if config.backbone not in BACKBONES:
        raise UserError(f"--model.backbone is {config.backbone!r}: choose one of {', '.join(BACKBONES)}")
    if config.activation == "softmax" and config.num_logits < 2:
        raise UserError("--model.activation is 'softmax': that needs --model.num-logits 2")
    threshold = config.prompts.threshold
    if threshold != "otsu" and not 0 <= threshold <= 1:
        raise UserError(f"--model.prompts.threshold is {threshold!r}: give 0 to 1, or 'otsu'")
    check_ranges(config, "--model.")


def check_data(config: DataConfig) -> None:
    """Refuse what no training sample can be cut with.

    Raises:
        UserError: It names the option and what it may be.
    """
    check_ranges(config, "--data.")
    if config.long_side[0] == 0 < config.long_side[1]:
        raise UserError(
            f"--data.long-side is {config.long_side}: give two sizes from 1 on, or 0 0 to keep the size"
        )
    if config.jitter[3] > 0.5:
        raise UserError(
            f"--data.jitter is {list(config.jitter)}: give at most 0.5 as the last number, the hue"
        )
