"""Command-line options of every verb but `train`: light dataclasses, so that `--help` stays fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from papers_shared.images import MAX_PIXELS
from papers_shared.ranges import Within
from papers_shared.types import AskedPrecision, Device, Precision
from plvl.config import BoxFormat, BoxUnit, DataConfig


@dataclass(frozen=True)
class PredictOptions:
    """Find what sentences mean in images: boxes, masks, overlays and one JSON line per sentence."""

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """A model folder (`best` in a run folder) or a Hub name."""
    image: Annotated[Positional[str], arg(metavar="IMAGE")]
    """An image, a folder of images, a glob in quotes ('in/**/*.png'), a list of them (.txt), or a data set: a folder
    that `datasets` has saved, or hub:OWNER/NAME:SPLIT."""
    sentences: Annotated[Positional[tuple[str, ...]], arg(metavar="SENTENCE [SENTENCE ...]")] = ()
    """What to find, each in quotes: "the man in the blue shirt". With several images, in each of them."""
    sentences_file: str = ""
    """JSON lines, or a table (.csv, .tsv), with `image` (a file of the folder) and `expression`, a
    sentence or a list of them."""
    output: str = "predictions"
    """Folder for masks/, overlays/, predictions.jsonl, .csv and .html; answers that it holds already are left as they
    are."""
    refiner: str = "none"
    """Turn each box into a second, sharper mask: grabcut; sam:FOLDER, a Hub name or a checkpoint of SAM's; or none."""
    score_map: bool = False
    """Draw the map of centre scores beside each overlay."""
    coco: bool = False
    """Write boxes and masks to predictions.coco.json too."""
    format: Literal["jsonl", "parquet"] = "jsonl"
    """parquet: write the records to predictions.parquet too."""
    overlay_side: int = 2048
    """Longest side of the overlays in pixels; 0: as large as the image, as the masks always are."""
    max_pixels: int = 178_956_970
    """Refuse images with more pixels than this."""
    device: Device = "auto"
    """cpu, cuda, cuda:N or mps; auto: the first of cuda, mps and cpu that there is."""
    precision: AskedPrecision = "auto"
    """What the network computes in: fp32, tf32 (on GPUs), or bf16 or fp16 (autocast); auto: bf16 on a GPU that has it,
    fp32 elsewhere."""
    compile: bool = False
    """Compile the network's blocks with `torch.compile`: slower for the first images, faster for many."""
    cuda_graphs: bool = False
    """On a GPU: capture the network's calls once for each size of the image, and replay them."""
    untrained: bool = False
    """Answer with a model whose parts were never trained; every record and drawing then says so."""
    batch_size: Annotated[int, Within(0, 4096)] = 0
    """Images that go through the network together; 0: as many as a GPU takes, and on a CPU one."""
    workers: Annotated[int, Within(-1, 1024)] = -1
    """Processes that read images; -1: the cores that there are, 12 at most; 0: none beside this one."""
    overwrite: bool = False
    """Delete the predictions that the folder holds of earlier calls, and make all anew."""
    skip_errors: bool = False
    """Leave what failed in an earlier call as it is; otherwise it is tried again."""


@dataclass(frozen=True)
class AppOptions:
    """Open a page in the browser where a model finds what sentences mean; the same server answers programs."""

    model: Positional[str] = ""
    """A model folder (`best` in a run folder) or a Hub name; none: the newest of plvl-demo/, a toy."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0: everyone who reaches this machine may use the page, there is no password."""
    port: Annotated[int, Within(0, 65_535)] = 0
    """0: the first free one from 7860."""
    examples: tuple[str, ...] = ()
    """Images to offer, folders or globs of them; none: scenes of the demo, with sentences."""
    refiner: str = "none"
    """Turn each box into a second, sharper mask: grabcut; sam:FOLDER, a Hub name or a checkpoint of SAM's; or none."""
    max_pixels: Annotated[int, Within(1)] = MAX_PIXELS
    """Refuse images with more pixels than this."""
    device: Device = "auto"
    """cpu, cuda, cuda:N or mps; auto: the first of cuda, mps and cpu that there is."""
    precision: AskedPrecision = "auto"
    """What the network computes in: fp32, tf32 (on GPUs), or bf16 or fp16 (autocast); auto: bf16 on a GPU that has it,
    fp32 elsewhere."""
    untrained: bool = False
    """Answer with a model whose parts were never trained; the page then says so."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Score a model on a split: Acc@0.5 of boxes; mIoU, oIoU and Precision@0.5 to 0.9 of masks."""

    model: Positional[str]
    """Model folder (`best`, `best_box` or `best_mask` in a run folder) or Hub name."""
    data: DataConfig = field(default_factory=DataConfig)
    split: str = "val"
    protocol: Literal["paper", "original", "all"] = "all"
    """paper: the authors' stretched square; original: the image's own pixels; all: both."""
    batch_size: int = 16
    """Most sentences about one image per forward pass."""
    precision: Precision = "fp32"
    """What the network computes in: fp32, tf32 (on GPUs), or bf16 or fp16 (autocast)."""
    compile: bool = False
    """Compile the network's blocks with `torch.compile`: slower for the first images, faster for many."""
    cuda_graphs: bool = False
    """On a GPU: capture the network's calls once for each size of the image, and replay them."""
    output: str = ""
    """JSON file; empty: MODEL-evaluation-DATA-SPLIT.json beside the model folder."""


@dataclass(frozen=True)
class ConvertOptions:
    """Convert official checkpoints to model folders."""

    source: Positional[str]
    """PLVL's or EEVG's checkpoint, detectron2's ViTDet-B .pkl, a BERT folder or its old .tar.gz archive: here, on the
    Hub (owner/name or owner/name/FILE) or at an https address."""
    output: Positional[str]
    """Folder to write."""
    sha256: str = ""
    """Refuse a source with another SHA-256 than this one."""
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
    """Images and sentences per call."""
    precision: Precision = "fp32"
    """What eager computes in where the file is compared with it; the file itself computes in float32."""
    untrained: bool = False
    """Export a model whose parts were never trained, too."""
    overwrite: bool = False
    """Replace a file of that name."""


@dataclass(frozen=True)
class FiguresOptions:
    """Draw the paper's figures 5 to 7: image, truth, prediction and centre score map, one row per sentence."""

    model: Positional[str]
    """A model folder (`best` in a run folder) or a Hub name."""
    data: DataConfig = field(default_factory=DataConfig)
    """The data to draw from."""
    split: str = "val"
    count: int = 4
    """Rows of the figure."""
    seed: int = 0
    """Which sentences are drawn."""
    output: str = "figures"
    """Folder for qualitative.png."""
    width: int = 320
    """Width of one image of the figure in pixels."""
    device: Device = "auto"
    """cpu, cuda, cuda:N or mps; auto: the first of cuda, mps and cpu that there is."""
    untrained: bool = False
    """Draw with models whose parts were never trained, too; every drawing then says so."""
    overwrite: bool = False
    """Replace drawings of these names."""


@dataclass(frozen=True)
class DemoOptions:
    """Make toy scenes, train a small PLVL and a language-blind one on them, and write one HTML page about it."""

    output: str = "plvl-demo"
    """Folder for the scenes, the runs and index.html."""
    steps: int = 0
    """Optimizer steps of each model; 0: as the recipe `toy` says."""
    seed: int = 0
    """Seed of the scenes and of the training."""


Dataset = Literal[
    "refcoco_unc", "refcoco_google", "refcocoplus_unc", "refcocog_google", "refcocog_umd", "referit_unc",
    "referit_berkeley", "visual_genome", "flickr30k", "mixed_coco", "mixed_coco_clean", "mixed_pretrain",
    "mixed_pretrain_clean", "labels", "hub", "jsonl", "coco", "toy",
]  # fmt: skip


@dataclass(frozen=True)
class DataBuildOptions:
    """Read a release, or several, and write one folder that training and evaluation open.

    refcoco_*, refcocoplus_*, refcocog_*, referit_*, toy: needs --refer. visual_genome, flickr30k, labels, hub, jsonl,
    coco: the option of that name. mixed_coco: --refer; mixed_pretrain: --refer, --visual-genome and --flickr30k; _clean
    leaves out of `train` every image that a val or test part of RefCOCO, RefCOCO+ or RefCOCOg (umd) has.
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
    """Your own data: SPLIT.jsonl, .csv or .tsv, or a folder of them (format: `plvl.data.sources.json_lines`)."""
    coco: str = ""
    """A COCO file whose annotations have sentences, or a folder of them."""
    images: str = ""
    """Folder with the images, in the usual layouts; empty: they are searched for beside the annotations."""
    missing: Literal["error", "drop", "keep"] = "error"
    """A missing image: stop, leave its sentences out, or keep them."""
    box_format: BoxFormat = "auto"
    """Of hub, jsonl and coco: corners x0, y0, x1, y1 (xyxy), or x, y, width, height (xywh); auto: as the name of the
    box says."""
    box_unit: BoxUnit = "pixels"
    """Of hub, jsonl and coco: pixels, fractions of the image's sides (unit), or thousandths of them (thousand)."""
    invert_masks: bool = False
    """In mask images black is the object."""
    allow_outside: bool = False
    """Follow names in annotation files that lead out of the folders given."""


@dataclass(frozen=True)
class DataConvertOptions:
    """Write what was read as one plain layout: a built folder, with SPLIT.jsonl for other programs."""

    root: Positional[str]
    """The data folder, in any layout; the same as --data.root."""
    output: Positional[str]
    """Folder to write; one that `plvl data convert` or `plvl data build` wrote before is replaced."""
    data: DataConfig = field(default_factory=DataConfig)
    missing: Literal["error", "drop", "keep"] = "error"
    """A missing image: stop, leave its sentences out, or keep them."""


@dataclass(frozen=True)
class DataCheckOptions:
    """Read every image and mask once, report what is wrong, and which val and test images training has seen."""

    root: Positional[str] = ""
    """The data folder; the same as --data.root."""
    data: DataConfig = field(default_factory=DataConfig)
    training: tuple[str, ...] = ()
    """Other data folders that the model was or will be trained on, for the leakage audit."""
    visual_genome: str = ""
    """Folder with Visual Genome's image_data.json, for the leakage audit."""
    detector: str = ""
    """COCO instances file that the backbone's detector was trained on (instances_train2017.json); empty: decided by
    the names of the images."""
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
    """Images of the train part."""
    val: int = 60
    test: int = 60
    side: int = 96
    """Side of the images in pixels."""
