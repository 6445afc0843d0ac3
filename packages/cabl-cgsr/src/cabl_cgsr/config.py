"""Configuration of the network, of its activation maps and of the prompts: frozen dataclasses.

Everything that the paper leaves open is a named field here, with its default.
This module imports no heavy library.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

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
