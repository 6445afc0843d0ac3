"""Options of `plvl data build|check|toy`: light dataclasses, so that `--help` stays fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tyro.conf import Positional

from plvl.config import DataConfig

Dataset = Literal[
    "refcoco_unc", "refcoco_google", "refcocoplus_unc", "refcocog_google", "refcocog_umd", "referit_unc",
    "referit_berkeley", "visual_genome", "flickr30k", "mixed_coco", "mixed_coco_clean", "mixed_pretrain",
    "mixed_pretrain_clean", "labels", "hub", "jsonl", "toy",
]  # fmt: skip


@dataclass(frozen=True)
class DataBuildOptions:
    """Read a release, or several, and write one folder that training and evaluation open.

    refcoco_*, refcocoplus_*, refcocog_*, referit_*, toy: needs --refer. visual_genome, flickr30k, labels, hub, jsonl:
    the option of that name. mixed_coco: --refer; mixed_pretrain: --refer, --visual-genome and --flickr30k; _clean
    leaves out of `train` every picture that a val or test part of RefCOCO, RefCOCO+ or RefCOCOg (umd) has.
    """

    dataset: Positional[Dataset]
    """What to build."""
    output: Positional[str]
    """Folder to write; one that `plvl data build` wrote before is replaced."""
    refer: str = ""
    """Folder of the REFER release: refcoco, refcoco+, refcocog, refclef with refs(...).p and instances.json."""
    visual_genome: str = ""
    """Folder with region_descriptions.json and image_data.json."""
    flickr30k: str = ""
    """Folder of Flickr30k Entities: Sentences, Annotations, train.txt, val.txt, test.txt."""
    labels: str = ""
    """Folder with the .pth label lists of one data set (EEVG, PLVL, TransVG), such as mask_data/gref_umd."""
    hub: str = ""
    """Name of a Hub data set of the jxu124/refcoco kind, or a folder of `save_to_disk`."""
    jsonl: str = ""
    """One's own data: SPLIT.jsonl, or a folder of them (format: `plvl.data.sources.json_lines`)."""
    images: str = ""
    """Folder that the pictures lie in or below; empty: they are looked for beside the annotations."""
    missing: Literal["error", "drop", "keep"] = "error"
    """A picture that is not there: stop, leave its expressions out, or keep them all the same."""


@dataclass(frozen=True)
class DataCheckOptions:
    """Read every picture and mask once, say what is wrong, and which val and test pictures training has seen."""

    root: Positional[str] = ""
    """The data folder; the same as --data.root."""
    data: DataConfig = field(default_factory=DataConfig)
    training: tuple[str, ...] = ()
    """Other data folders that the model was or will be trained on, for the leakage audit."""
    visual_genome: str = ""
    """Folder with Visual Genome's image_data.json, for the leakage audit."""
    detector: str = ""
    """COCO instances file that the backbone's detector was trained on (instances_train2017.json); empty: told by
    the names of the pictures."""
    vocabulary: str = ""
    """A vocab.txt, or a folder or Hub name that has one, to find truncated sentences; empty: by counting words."""
    max_tokens: int = 40
    """Word pieces that the model reads, [CLS] and [SEP] included."""
    json: str = ""
    """Write the findings to this file too."""


@dataclass(frozen=True)
class DataToyOptions:
    """Write the embedded scenes of shapes: as a REFER release, and built."""

    root: Positional[str]
    """Folder to write: refer/ (the release) and built/ (for --data.root)."""
    seed: int = 0
    train: int = 400
    """Pictures of the train part."""
    val: int = 60
    test: int = 60
    side: int = 96
    """Side of the pictures in pixels."""
