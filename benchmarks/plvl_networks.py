"""PLVL and what it is measured beside: the plain transcription, and one call per sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cases import SENTENCES, Case
from benchmarks.loaders import write_picture
from benchmarks.measure import noise
from benchmarks.plain_plvl import plain
from benchmarks.start import Steps
from benchmarks.steps import differences, forward_pass, hold_to, optimizer_step, whole_patches
from papers_shared.cpu import direct_linears, pack_linears
from plvl.config import ModelConfig
from plvl.losses import grounding_loss
from plvl.modeling.attention import Attention
from plvl.modeling.head import HeadOutput
from plvl.modeling.plvl import PLVL
from plvl.recipes import refcoco_unc
from plvl.schedule import parameter_groups
from plvl.tokenizer import VOCABULARY, make_vocabulary

EQUALITY_BOUND = 1e-4
"""Of float32 sums in another order, relative to the largest value of an output."""
PATCH = 16
NETWORKS = {
    "plvl": "PLVL, this package",
    "plain": "PLVL, plain transcription with eager attention",
    "calls": "PLVL, this package, one call for each sentence",
    "plain calls": "PLVL, plain transcription, one call for each sentence",
    "clipseg": "CLIPSeg, patches of 16 (transformers), sentence to mask, no box",
}
REQUIRED = ("plvl", "plain")
"""Without these two there is nothing to report."""
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
SMALL_CLIPSEG = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}
"""What `Case.small` builds."""
PROTOCOL = (
    "Inference: eval mode, no gradients, normalised noise, one sentence of 40 word pieces per picture, language "
    "included. `sentences`: about one picture; `calls` sees picture and sentence anew each time. CLIPSeg is built from "
    "transformers' default configuration with the released patches of 16, its positions interpolated.",
    "Training: forward, the recipe's loss on boxes and masks, backward, AdamW step (with dropout and "
    "stochastic depth; the same fused AdamW for both on the CPU). plvl's linear layers go to oneDNN there, as `train` "
    "has them.",
    "Loader: one process, one thread; 640x480 JPEG pictures with a box and a polygon, as COCO's, in the operating "
    "system's file cache. plvl's rate includes crop, flip, colour jitter, mask and normalisation; PIL's, the picture "
    "stretched to the square, does not.",
    "Cold start: the package's imports, `from_pretrained` of a folder, `predict` of a 448x448 picture.",
)


class Grounder(nn.Module):
    """The network on pictures alone, as the suite counts and times pictures: the sentences are its own, of as many
    word pieces as it reads.
    """

    def __init__(self, model: PLVL, *, shared: bool = True) -> None:
        super().__init__()
        self.model, self.shared = model, shared
        self.register_buffer("input_ids", word_pieces(model.config.vocab_size, model.config.max_tokens))

    def forward(self, images: Tensor, count: int = 1) -> Any:
        """The first sentence in each picture; or the first `count` in the only one, together or one by one."""
        if count == 1:
            ids = self.input_ids[:1].expand(len(images), -1)
            return self.model(images, ids, torch.ones_like(ids))
        ids = self.input_ids[:count]
        seen = torch.ones_like(ids)
        if not self.shared:
            return [self.model(images, ids[i : i + 1], seen[:1]) for i in range(count)]
        text = self.model.encode_text(ids, seen)
        return self.model.ground_all(self.model.encode_image(images), text, seen)


class ClipSeg(nn.Module):
    """transformers' CLIPSeg on random weights: a mask for the same sentence in each picture."""

    def __init__(self, *, small: bool) -> None:
        super().__init__()
        from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

        sizes = SMALL_CLIPSEG if small else {}
        layers = {"extract_layers": [0, 1, 2]} if small else {}
        config = CLIPSegConfig(vision_config={"patch_size": PATCH, **sizes}, text_config=sizes, **layers)
        self.model = CLIPSegForImageSegmentation(config)
        text = config.text_config
        self.register_buffer("input_ids", word_pieces(text.vocab_size, text.max_position_embeddings))

    def forward(self, images: Tensor, count: int = 1) -> Tensor:
        ids = self.input_ids[:1].expand(len(images), -1)
        answer = self.model(
            pixel_values=images,
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            interpolate_pos_encoding=True,
        )
        logits: Tensor = answer.logits
        return logits


def word_pieces(vocabulary: int, length: int) -> Tensor:
    """(20, length) int64, always the same."""
    return torch.randint(
        1000, vocabulary, (max(SENTENCES), length), generator=torch.Generator().manual_seed(5)
    )


def build(case: Case) -> nn.Module:
    """The network of a case on seeded weights; all of PLVL carry the same."""
    torch.manual_seed(0)
    if case.network == "clipseg":
        return ClipSeg(small=case.small)
    model = PLVL.from_config(SMALL if case.small else ModelConfig())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    written = plain(model) if case.network.startswith("plain") else model
    return Grounder(written, shared=not case.network.endswith("calls"))


def inference(network: nn.Module, case: Case, device: torch.device) -> Callable[[], object]:
    """One forward pass in eval mode; linear layers packed on the CPU in all but `plain`, as `predict` has them."""
    if case.network in ("plvl", "calls"):
        pack_linears(network)
    return forward_pass(network, case, device, noise(case.batch, case.side).to(device), case.count)


def training_step(
    network: nn.Module,
    case: Case,
    device: torch.device,
    wrap: Callable[[nn.Module], nn.Module] = lambda own: own,
) -> Callable[[], object]:
    """Forward, loss, backward and an AdamW step, as the recipe `refcoco_unc` trains.

    `wrap` is what the forward pass goes through.
    """
    network.train()
    called = wrap(network)
    plan = refcoco_unc()
    model = network.model
    assert isinstance(model, PLVL)
    if case.network == "plvl" and device.type == "cpu":
        direct_linears(network)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, plan.optim), betas=plan.optim.betas, fused=device.type == "cpu"
    )
    batch = noise(case.batch, case.side).to(device)
    generator = torch.Generator().manual_seed(3)
    boxes = (torch.rand(case.batch, 4, generator=generator) * 0.4 + 0.3).to(device)
    masks = (torch.rand(case.batch, 1, case.side, case.side, generator=generator) > 0.8).float().to(device)

    def loss_of(output: HeadOutput) -> Tensor:
        return grounding_loss(output, boxes, masks, plan.loss).total

    return optimizer_step(called, batch, loss_of, optimizer, case)


def paper_gmac(network: Grounder) -> float:
    """The paper's count of operations, in 1e9, of one picture of the configured side.

    Multiply-adds of linear and convolution modules, and four for each element into a layer or batch norm; not the
    projections inside cross-attention and the decoder's attentions, nor the language model's norms, nor attention
    products. Table 3 says 75.04.
    """
    counts, handles = [0.0], []

    def linear(module: nn.Linear, inputs: tuple[Tensor], output: Tensor) -> None:
        counts[0] += output.numel() * module.in_features

    def convolution(module: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        counts[0] += output.numel() * module.weight[0].numel()

    def norm(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        counts[0] += 4 * inputs[0].numel()

    model = network.model
    unseen = {
        id(part) for module in model.modules() if isinstance(module, Attention) for part in module.modules()
    }
    unseen |= {id(module) for module in model.language.modules() if isinstance(module, nn.LayerNorm)}
    for module in model.modules():
        if id(module) in unseen:
            continue
        kinds = ((nn.Linear, linear), (nn.Conv2d, convolution), ((nn.LayerNorm, nn.BatchNorm2d), norm))
        for kind, hook in kinds:
            if isinstance(module, kind):
                handles.append(module.register_forward_hook(hook))
    try:
        with torch.no_grad():
            network.eval()(noise(1, model.config.image_size).to(network.input_ids.device))
    finally:
        for handle in handles:
            handle.remove()
    return counts[0] / 1e9


def measure_loader(case: Case, rounds: int) -> dict[str, Any]:
    """Rates of the training loader beside PIL's; see `benchmarks.plvl_loader.measure`."""
    from benchmarks.plvl_loader import measure

    return measure(pictures=4 if case.small else 64, rounds=rounds, side=case.side)


def cold_start(case: Case, folder: Path) -> dict[str, Steps]:
    """The package as a user runs it, on a model folder with random weights, and a picture with a sentence."""
    picture, sentence = folder / "picture.png", "the man in the blue shirt"
    write_picture(picture, case.side)
    model: Any = build(case).model
    model.extra_files = {VOCABULARY: make_vocabulary([sentence], model.config.vocab_size)}
    model.save_pretrained(folder / "model")
    opened = f"model = plvl.PLVL.from_pretrained({str(folder / 'model')!r})"
    return {"plvl": ("import plvl", opened, f"model.predict({str(picture)!r}, {sentence!r})")}


def check_equality(networks: dict[str, nn.Module], part: str, sides: tuple[int, ...]) -> dict[str, float]:
    """Largest relative difference of each output of `plvl` from `plain`'s, in eval mode on the CPU.

    Difference: max |a - b| / max |b| per tensor. Sides are rounded up to whole patches.

    Raises:
        AssertionError: one of them exceeds 1e-4. Speed of another function is not worth measuring.
    """
    found: dict[str, float] = {}
    for side in whole_patches(sides, PATCH):
        batch = noise(1, side)
        with torch.no_grad():
            ours, theirs = (_outputs(networks[name].eval()(batch)) for name in REQUIRED)
        found |= differences(f"{part} {side}x{side}", ours, theirs)
    return hold_to(EQUALITY_BOUND, "plvl", found)


def _outputs(output: HeadOutput) -> dict[str, Tensor]:
    return {name: getattr(output, name) for name in ("score_logits", "offset", "size", "mask_logits")}
