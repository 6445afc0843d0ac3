"""Configuration: frozen dataclasses, and the switches of the paper's ablations; the recipes are in `plvl.recipes`.

This module imports no heavy library: `plvl train --help` stays fast.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from papers_shared.ranges import Within
from papers_shared.training import config as training

BoxFormat = Literal["auto", "xyxy", "xywh"]
BoxUnit = Literal["pixels", "unit", "thousand"]
Task = Literal["mask", "center", "offset", "size"]
BOX_TASKS: tuple[Task, ...] = ("center", "offset", "size")

TABLE_4_LANGUAGE_BLOCKS: dict[str, tuple[int, ...]] = {
    "13,14,15": (),
    "3,13,14,15": (2,),
    "3,6,13,14,15": (2, 5),
    "3,6,9,13,14,15": (2, 5, 8),
    "3,6,9,12,13,14,15": (2, 5, 8, 11),
}
"""Table 4: the paper's indexes (from 1, the decoder's three layers included) ->
`ModelConfig.language_blocks`.

The paper lets the number of local blocks rise from 8 to 12 as language leaves the backbone. The authors' code
keeps blocks 2, 5, 8 and 11 global in every row (the detector's position tables fit nothing else), and so do
these rows; `local_blocks` gives the paper's reading.
"""

TABLE_6_HEAD_GROUPS: dict[str, tuple[tuple[Task, ...], ...]] = {
    "{mask}{center,offset,size}": (("mask",), ("center", "offset", "size")),
    "{mask,center}{offset,size}": (("mask", "center"), ("offset", "size")),
}
"""Table 6: rows -> `ModelConfig.head_groups`. The first row is in no code; its layers keep the widths of the second."""


@dataclass(frozen=True)
class ModelConfig:
    """The network and the preprocessing it was trained with; saved beside the weights as `config.json`.

    The defaults are the network of the paper. Blocks and layers count from 0.
    """

    rec: bool = True
    """Build the branches of the box (referring expression comprehension)."""
    res: bool = True
    """Build the branch of the mask (referring expression segmentation)."""
    pretrained: str = ""
    """Start weights of everything: a PLVL folder, a checkpoint of the authors, a Hub name or `owner/name/FILE`, or an
    https address, of the same network; `rec` and `res` may differ. See docs/weights.md."""
    vision_pretrained: str = ""
    """Start weights of the backbone's own layers: detectron2's ViTDet-B, as a file, an https address or the folder that
    `plvl convert` makes of it."""
    text_pretrained: str = ""
    """Start weights of the language model: BERT as a transformers folder, a file, an https address or a Hub name, such
    as google-bert/bert-base-uncased."""
    vocabulary: str = ""
    """Word pieces: a `vocab.txt`, or a folder or Hub name that has one; empty: that of `pretrained` or
    `text_pretrained`. A model folder carries its own."""

    image_size: Annotated[int, Within(1, 8192)] = 448
    """Side of the square images in pixels; the network itself takes any multiple of `patch_size`."""
    mean: Annotated[tuple[float, float, float], Within(-1000, 1000)] = (0.485, 0.456, 0.406)
    """Subtracted from RGB pixels on 0..1."""
    std: Annotated[tuple[float, float, float], Within(1e-6, 1000)] = (0.229, 0.224, 0.225)
    """Divides RGB pixels after the subtraction."""
    max_tokens: Annotated[int, Within(2, 65536)] = 40
    """Word pieces per sentence with [CLS] and [SEP]: longer sentences are cut, shorter ones padded."""

    in_chans: Annotated[int, Within(1, 1024)] = 3
    patch_size: Annotated[int, Within(1, 1024)] = 16
    embed_dim: Annotated[int, Within(1, 16384)] = 768
    """Width of the backbone."""
    depth: Annotated[int, Within(1, 256)] = 12
    num_heads: Annotated[int, Within(1, 1024)] = 12
    mlp_ratio: Annotated[float, Within(0.01, 64)] = 4.0
    local_blocks: Annotated[tuple[int, ...], Within(0, 255)] = (0, 1, 3, 4, 6, 7, 9, 10)
    """Backbone blocks whose self-attention stays inside windows; the others see the whole image."""
    language_blocks: Annotated[tuple[int, ...], Within(0, 255)] = (2, 5, 8, 11)
    """Backbone blocks with cross-attention to the sentence (Table 4: `TABLE_4_LANGUAGE_BLOCKS`)."""
    window_size: Annotated[int, Within(1, 1024)] = 14
    """Side of a local block's windows in tokens: four quarters of a 448 image."""
    pos_grid: Annotated[int, Within(1, 1024)] = 14
    """Side in tokens of the absolute position table; resized to each image's grid."""
    rel_pos_grid: Annotated[int, Within(1, 1024)] = 64
    """Side in tokens that the relative position tables of global blocks cover; resized to each image's grid."""
    cross_heads: Annotated[int, Within(1, 1024)] = 8
    """Heads of the backbone's cross-attention."""
    adapter_dim: Annotated[int, Within(1, 16384)] = 64
    """Inner width of the language adapter in front of each cross-attention."""
    cross_dropout: Annotated[float, Within(0, 0.99)] = 0.1
    """Dropout on the weights of the backbone's cross-attention."""
    drop_path_rate: Annotated[float, Within(0, 0.99)] = 0.1
    """Stochastic depth of the last backbone block; rises linearly from 0."""
    hide_text_padding: bool = False
    """Hide padding tokens from the backbone's cross-attention too; the authors attend to them there."""

    vocab_size: Annotated[int, Within(1, 10_000_000)] = 30522
    text_dim: Annotated[int, Within(1, 16384)] = 768
    text_depth: Annotated[int, Within(1, 256)] = 12
    text_heads: Annotated[int, Within(1, 1024)] = 12
    text_mlp_dim: Annotated[int, Within(1, 65536)] = 3072
    text_positions: Annotated[int, Within(2, 65536)] = 512
    """Longest sentence that the language model has positions for."""
    text_dropout: Annotated[float, Within(0, 0.99)] = 0.1

    decoder: Literal["plvl", "eevg"] = "plvl"
    """plvl: the paper's last global blocks; eevg: EEVG's decoder with box token and token elimination (Table 7)."""
    decoder_dim: Annotated[int, Within(1, 16384)] = 512
    decoder_depth: Annotated[int, Within(1, 256)] = 3
    decoder_heads: Annotated[int, Within(1, 1024)] = 8
    decoder_mlp_dim: Annotated[int, Within(1, 65536)] = 1024
    decoder_dropout: Annotated[float, Within(0, 0.99)] = 0.1
    elimination: Annotated[float, Within(0, 1)] = 0.015
    """eevg decoder: tokens whose score (0 to 1 within an image) is below this leave; 0: none (mixed runs: 0.0015)."""
    elimination_keep: Annotated[float, Within(0, 1)] = 0.1
    """eevg decoder, training: share of the leaving tokens that stay all the same, drawn at random."""

    head: Literal["collaborative", "eevg"] = "collaborative"
    """collaborative: the paper's convolutional head (CMTH); eevg: EEVG's two MLPs (Table 7, eevg decoder only)."""
    head_dim: Annotated[int, Within(1, 16384)] = 256
    """Width of each group's shared convolution; box branches have half of it."""
    head_groups: tuple[tuple[Task, ...], ...] = (("mask", "center"), ("offset", "size"))
    """Branches that share a part of the channels and a first convolution (Table 6: `TABLE_6_HEAD_GROUPS`)."""

    grad_checkpointing: bool = False
    """Recompute blocks and layers in the backward pass: less memory, more time."""


_EEVG = ModelConfig(language_blocks=(), decoder="eevg", head="eevg", decoder_dim=768, head_dim=384)
TABLE_7_MODELS: dict[str, ModelConfig] = {
    "EEVG": _EEVG,
    "EEVG w. CMTH": replace(_EEVG, head="collaborative"),
    "EEVG w. PLVL": replace(_EEVG, language_blocks=ModelConfig.language_blocks),
    "EEVG w. PLVL & CMTH": replace(_EEVG, language_blocks=ModelConfig.language_blocks, head="collaborative"),
}
"""Table 7. What the paper leaves open is chosen in `plvl.modeling.eevg`."""


@dataclass(frozen=True)
class LossConfig:
    """Weights and form of the loss (Section 3.4)."""

    form: Literal["sound", "official"] = "sound"
    """official: the authors' code, with its sigmoid taken twice in the mask's focal loss and no positive cell
    for a centre that rounds off the map; sound: both corrected, see `plvl.losses`.
    """
    det_weight: Annotated[float, Within(0)] = 0.1
    """Weight of GIoU + L1 + centre focal (eq. 7); the authors' mixed runs use 0.5 (boxes only) and 0.05."""
    seg_weight: Annotated[float, Within(0)] = 1.0
    """Weight of mask focal + dice (eq. 7)."""


@dataclass(frozen=True)
class DataConfig:
    """Where the data lies and how a training sample is made of it."""

    root: str = ""
    """The data folder or annotation file (or a Hub data set name with `--data.layout dataset`)."""
    layout: Literal[
        "auto", "built", "jsonl", "coco", "dataset", "refer", "labels", "visual-genome", "flickr30k"
    ] = "auto"
    """built: a folder of `plvl data build`; jsonl: {split}.jsonl, .csv or .tsv with image, expression, box and/or
    mask; coco: COCO files whose annotations have sentences; dataset: a Hub data set or a `save_to_disk` folder; refer:
    refs(...).p beside instances.json; labels: EEVG's label lists; visual-genome and flickr30k: these releases; auto:
    recognised from the files. The last four are read anew at each start: `plvl data convert` once is faster."""
    box_format: BoxFormat = "auto"
    """What the four numbers of a box are: corners x0, y0, x1, y1 (xyxy), or corner and size x, y, width, height (xywh);
    auto: as its name says, `bbox` of COCO and the Hub as xywh."""
    box_unit: BoxUnit = "pixels"
    """What boxes are measured in: pixels, fractions of the image's sides (unit), or thousandths of them (thousand)."""
    invert_masks: bool = False
    """In mask images black is the object."""
    allow_outside: bool = False
    """Follow names in annotation files that lead out of the data folder."""
    train_split: str = "train"
    val_split: str = "val"
    val_share: Annotated[float, Within(0, 0.9)] = 0.0
    """Share of the training sentences that is set aside as the validation split where the data set has none; all
    sentences about an image stay together."""
    val_seed: Annotated[int, Within(0)] = 0
    """Which images these are."""
    transform: Literal["default", "official"] = "default"
    """official: the authors' augmentation with its defects (letters swapped inside words, axes mixed up in the
    test of a crop, boxes that can end empty); default: these corrected, see `plvl.transforms`."""
    flip: Annotated[float, Within(0, 1)] = 0.5
    """Probability of the horizontal flip, which also swaps left and right in the sentence."""
    crop: Annotated[float, Within(0, 1)] = 0.5
    """Probability of a random crop where the sentence names no position in the image."""
    workers: Annotated[int, Within(-1, 1024)] = -1
    """Loader processes per training process; -1: one for each core that it may use, 12 at most."""
    timeout: Annotated[int, Within(0)] = 600
    """Seconds to wait for a batch of a loader process before the run ends with a sentence; 0: for ever."""
    verify: bool = False
    """Compare the contents of all files with those at the run's last start, in place of sizes and times."""
    images: str = ""
    """Folder that relative image paths start from; empty: as recorded in the data folder."""


@dataclass(frozen=True)
class OptimConfig(training.OptimConfig):
    """AdamW and its rates as in Section 4.1 (batch 80, 150 epochs); a rate falls by (1 - t)^0.9 once an epoch."""

    batch_size: int = 80
    micro_batch: int = 20
    lr: float = 2.5e-5
    """Rate of everything that `lr_vision` and `lr_text` do not cover."""
    lr_vision: Annotated[float, Within(0)] = 1e-5
    """Rate of the backbone; `lr_groups` says of which of its parts."""
    lr_text: Annotated[float, Within(0)] = 5e-6
    """Rate of the language model."""
    lr_groups: Literal["paper", "official"] = "paper"
    """paper: `lr_vision` is for self-attention and feed-forward of the backbone (with their norms, patches and
    positions), the cross-attentions with norms and adapters take `lr`; official: it is for the whole backbone."""
    weight_decay: float = 1e-4
    power: float = 0.9
    decay_per: Literal["step", "epoch"] = "epoch"
    epochs: int = 150


@dataclass(frozen=True)
class Recipe:
    """All of one training run."""

    name: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: training.RunConfig = field(default_factory=lambda: training.RunConfig(checkpoint_every=500))
