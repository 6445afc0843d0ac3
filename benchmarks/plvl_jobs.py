"""PLVL's jobs, beside its plain transcription and CLIPSeg."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.jobs import OURS, PLAIN, Job, named, noise
from plvl.config import ModelConfig
from plvl.modeling.plvl import PLVL

PEERS = {"clipseg": "CLIPSeg, patches of 16 (transformers), a mask only"}
JOBS = (
    Job("plvl", "network", "inference", 448, variants=(OURS, PLAIN, "clipseg")),
    Job("plvl", "sentences", "inference", 448, count=10),
    Job("plvl", "network", "training", 448, batch=2),
    Job("plvl", "network", "inference", 224),
    Job("plvl", "network", "inference", 672),
    Job("plvl", "sentences", "inference", 448, count=1),
)
BOUND = 1e-4
NOTES = (
    "One sentence of 20 word pieces, padded to 40, for each image, the language model included. `sentences` is "
    "`model.predict(image, sentences)` about one image, from pixels to boxes and masks; the plain form is asked one "
    "sentence at a time, as the authors' program answers.",
    "The loss is the sum of L1 of the boxes and binary cross-entropy of masks and centres. CLIPSeg has transformers' "
    "default sizes with the released patches of 16, and its positions are interpolated.",
    "The plain form has torch's linear layers, the authors' attention (products, an added bias, a softmax, each a "
    "tensor of its own), transformers' eager attention in the language model, and contiguous convolutions.",
)
SMALL = ModelConfig(
    embed_dim=32,
    depth=3,
    num_heads=2,
    local_blocks=(0, 2),
    language_blocks=(1, 2),
    window_size=3,
    pos_grid=3,
    rel_pos_grid=8,
    cross_heads=2,
    adapter_dim=8,
    vocab_size=1200,
    text_dim=32,
    text_depth=1,
    text_heads=2,
    text_mlp_dim=32,
    decoder_dim=32,
    decoder_depth=1,
    decoder_heads=2,
    decoder_mlp_dim=32,
    head_dim=16,
)
SMALL_CLIPSEG = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
WORD_PIECES = 20
SENTENCES = (
    "the man in the blue shirt on the left",
    "the red car behind the tree",
    "a dog that looks at the camera",
    "the second chair from the right",
    "the woman with the umbrella",
    "the largest of the three cups on the table",
    "a child near the window",
    "the bus that is cut off by the edge",
    "the white plate under the cake",
    "the horse in front of the fence",
)


class Asked(nn.Module):
    """The model as a user asks it: an image (H, W, 3) uint8 -> an answer to each of the first `count` sentences."""

    def __init__(self, model: PLVL, count: int, *, together: bool) -> None:
        super().__init__()
        words = dict.fromkeys(" ".join(SENTENCES).split())
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
        model.extra_files = {**model.extra_files, "vocab.txt": "\n".join(pieces).encode()}
        self.model, self.sentences, self.together = model, list(SENTENCES[:count]), together

    def forward(self, image: np.ndarray) -> list[Any]:
        if self.together:
            return list(self.model.predict(image, self.sentences))
        return [self.model.predict(image, sentence) for sentence in self.sentences]


class ClipSeg(nn.Module):
    """transformers' CLIPSeg on random weights, with the arguments of PLVL."""

    def __init__(self, *, small: bool) -> None:
        super().__init__()
        from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

        sizes: dict[str, Any] = SMALL_CLIPSEG if small else {}
        layers: dict[str, Any] = {"extract_layers": [0, 1, 2]} if small else {}
        config = CLIPSegConfig(vision_config={"patch_size": 16, **sizes}, text_config=sizes, **layers)
        self.model = CLIPSegForImageSegmentation(config)

    def forward(self, images: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Any:
        return self.model(
            pixel_values=images,
            input_ids=input_ids,
            attention_mask=attention_mask,
            interpolate_pos_encoding=True,
        )


def build(job: Job, variant: str) -> nn.Module:
    """A network on seeded weights; those of ours and of the plain form are the same."""
    if variant == "clipseg":
        return ClipSeg(small=job.small)
    model = PLVL.from_config(SMALL if job.small else ModelConfig())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.8, 1.2)
            module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    if variant == PLAIN:
        from benchmarks.plain_plvl import plain

        model = plain(model)
    return Asked(model, job.count, together=variant == OURS) if job.part == "sentences" else model


def prepare(network: nn.Module, job: Job) -> None:
    """What a checkout with `papers_shared.cpu` does to its linear layers before it predicts or trains on a CPU."""
    with contextlib.suppress(ImportError):
        cpu = importlib.import_module("papers_shared.cpu")
        (cpu.direct_linears if job.mode == "training" else cpu.pack_linears)(network)


def inputs(job: Job, variant: str) -> tuple[Any, ...]:
    if job.part == "sentences":
        pixels = np.random.default_rng(2).integers(0, 256, (job.side, job.side, 3), dtype=np.uint8)
        return (pixels,)
    input_ids = torch.randint(
        6, 1000, (job.batch, ModelConfig().max_tokens), generator=torch.Generator().manual_seed(5)
    )
    attention_mask = torch.zeros_like(input_ids)
    attention_mask[:, :WORD_PIECES] = 1
    return noise(job), input_ids * attention_mask, attention_mask


def outputs(output: Any) -> Mapping[str, Tensor]:
    if isinstance(output, list):
        return {"centres": torch.stack([torch.as_tensor(answer.score_map) for answer in output])}
    return named(output, ("score_logits", "offset", "size", "mask_logits"))


def loss(output: Any, job: Job) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    boxes = torch.rand(output.boxes.shape, generator=generator).to(output.boxes.device)
    total = F.l1_loss(output.boxes.float(), boxes)
    for logits in (output.score_logits, output.mask_logits):
        targets = torch.rand(logits.shape, generator=generator).gt(0.8).to(logits.device)
        total = total + F.binary_cross_entropy_with_logits(logits.float(), targets.float())
    return total
