"""Prompts about one image by SAM ViT-B: `papers_shared.sam` beside segment_anything and transformers alone."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.jobs import OURS, Job
from papers_shared.sam import TransformersSam, convert_meta_checkpoint
from papers_shared.sam.meta import build as build_meta
from papers_shared.sam.shape import SamShape

PEERS = {"segment_anything": "SamPredictor (segment_anything)", "transformers": "SamModel (transformers)"}
SAME = tuple(PEERS)
VARIANTS = (OURS, *PEERS)
JOBS = (
    Job("sam", "prompts", "inference", 1024, count=4, variants=VARIANTS),
    Job("sam", "embedding", "inference", 1024, count=0, variants=VARIANTS),
    Job("sam", "prompts", "inference", 1024, count=1, variants=(OURS,)),
    Job("sam", "prompts", "inference", 1024, count=16, variants=(OURS,)),
)
BOUND = 1e-3
BOX, POINTS = (0.2, 0.3, 0.6, 0.7), ((0.4, 0.5), (0.9, 0.1))
"""As shares of the image's side; the second point is negative."""
PROMPTS = {"point": (False, 1), "box": (True, 0), "box and points": (True, 2), "both points": (False, 2)}
"""Name -> whether there is a box, and how many of the points there are."""
NOTES = (
    f"Prompts are {', '.join(PROMPTS)} in turn about one image, from pixels to masks at its size; each variant embeds "
    "the image once. `embedding` is the image encoder with its preprocessing alone. All have the same weights.",
)
VIT_B = SamShape(
    image_size=1024,
    patch_size=16,
    embed_dim=768,
    depth=12,
    num_heads=12,
    mlp_dim=3072,
    window_size=14,
    global_blocks=(2, 5, 8, 11),
    out_chans=256,
    mask_chans=16,
    decoder_depth=2,
    decoder_heads=8,
    decoder_mlp_dim=2048,
    downsample_rate=2,
    num_multimasks=3,
    iou_depth=3,
    iou_dim=256,
)
SMALL = replace(
    VIT_B,
    embed_dim=32,
    depth=2,
    num_heads=2,
    mlp_dim=64,
    global_blocks=(1,),
    out_chans=32,
    decoder_mlp_dim=32,
    iou_dim=32,
)


class Ours(nn.Module):
    """An image (S, S, 3) uint8 -> the low-resolution mask logits of each prompt."""

    def __init__(self, segmenter: TransformersSam, count: int) -> None:
        super().__init__()
        self.segmenter, self.network, self.count = segmenter, segmenter.network, count

    def forward(self, image: np.ndarray) -> list[np.ndarray]:
        self.segmenter.set_images([])  # else it remembers the image of the last call
        self.segmenter.set_image(image)
        asked: Any = [self.segmenter.predict(*prompt) for prompt in prompts(self.count, len(image))]
        return [answer.low_res_logits for answer in asked]


class Meta(nn.Module):
    """The same by segment_anything's predictor."""

    def __init__(self, network: nn.Module, count: int) -> None:
        super().__init__()
        from segment_anything import SamPredictor

        self.network, self.count = network, count
        self.predictor = SamPredictor(network)

    def forward(self, image: np.ndarray) -> list[np.ndarray]:
        self.predictor.set_image(image)
        return [
            self.predictor.predict(points, labels, box, multimask_output=False)[2]
            for box, points, labels in prompts(self.count, len(image))
        ]


class Transformers(nn.Module):
    """The same by transformers' model and processor, as its documentation has it."""

    def __init__(self, folder: Path, side: int, count: int) -> None:
        super().__init__()
        from transformers import SamImageProcessor, SamModel

        self.network, self.count = SamModel.from_pretrained(folder).requires_grad_(False), count
        size = {"height": side, "width": side}
        self.processor = SamImageProcessor(size={"longest_edge": side}, pad_size=size)

    def forward(self, image: np.ndarray) -> list[np.ndarray]:
        network: Any = self.network
        taken = self.processor(image, return_tensors="pt")
        embedding = network.get_image_embeddings(taken["pixel_values"])
        found = []
        for box, points, labels in prompts(self.count, len(image)):
            prompt = {"input_boxes": box[None, None]} if box is not None else {}
            if points is not None:
                prompt |= {"input_points": points[None, None], "input_labels": labels[None, None]}
            tensors = {name: torch.as_tensor(value) for name, value in prompt.items()}
            tensors = {name: x.float() if x.is_floating_point() else x for name, x in tensors.items()}
            answer = network(image_embeddings=embedding, multimask_output=False, **tensors)
            sizes = taken["original_sizes"], taken["reshaped_input_sizes"]
            self.processor.post_process_masks(answer.pred_masks, *sizes)
            found.append(answer.pred_masks[0, 0].numpy())
        return found


def build(job: Job, variant: str) -> nn.Module:
    """SAM ViT-B on seeded weights for images of the job's side."""
    size = SMALL if job.small else VIT_B
    shape = replace(size, image_size=job.side, window_size=min(size.window_size, job.side // 32))
    torch.manual_seed(0)
    network = build_meta(shape).eval().requires_grad_(False)  # torch's counter trips over its embeddings else
    if variant == "segment_anything":
        return Meta(network, job.count)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(network.state_dict(), Path(folder, "sam.pth"))
        converted = convert_meta_checkpoint(Path(folder, "sam.pth"), Path(folder, "sam"))
        if variant == "transformers":
            return Transformers(converted, job.side, job.count)
        return Ours(TransformersSam(converted), job.count)


def inputs(job: Job, variant: str) -> tuple[np.ndarray]:
    return (np.random.default_rng(2).integers(0, 256, (job.side, job.side, 3), dtype=np.uint8),)


def outputs(output: list[np.ndarray]) -> Mapping[str, Tensor]:
    return {"mask logits": torch.as_tensor(np.stack(output))} if output else {}


def prompts(count: int, side: int) -> list[tuple[Any, Any, Any]]:
    """Box, points and labels of so many prompts, in pixels of a square image; None where a prompt has none."""
    found = []
    for with_box, number in islice(cycle(PROMPTS.values()), count):
        points = np.array(POINTS[:number]) * side if number else None
        labels = np.array((1, 0)[:number]) if number else None
        found.append((np.array(BOX) * side if with_box else None, points, labels))
    return found
