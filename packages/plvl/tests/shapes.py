"""A tiny data set and a tiny network for the tests: coloured rectangles, three to an image, one sentence each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from plvl.config import Recipe
from plvl.recipes import toy

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220)}


def write_shapes(root: Path, *, seed: int = 0, **images: int) -> Path:
    """`root`/SPLIT.jsonl with three expressions per image, for each `SPLIT=number` of images."""
    generator = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    for split, number in images.items():
        lines = []
        for index in range(number):
            pixels = np.full((40, 60, 3), 245, np.uint8)
            name = f"images/{split}-{index}.png"
            for slot, (colour, value) in enumerate(COLOURS.items()):
                width, height = generator.integers(8, 18, 2).tolist()
                x0 = 20 * slot + int(generator.integers(0, 21 - width))
                y0 = int(generator.integers(0, 40 - height))
                pixels[y0 : y0 + height, x0 : x0 + width] = value
                x1, y1 = x0 + width, y0 + height
                record = {
                    "image": name,
                    "expression": f"the {colour} block",
                    "box": [x0, y0, x1, y1],
                    "mask": [x0, y0, x1, y0, x1, y1, x0, y1],
                }
                lines.append(json.dumps(record) + "\n")
            Image.fromarray(pixels).save(root / name)
        (root / f"{split}.jsonl").write_text("".join(lines))
    return root


def small(root: Path, output: Path, **optim: object) -> Recipe:
    """Twelve steps of a network of 32 pixels."""
    recipe = toy()
    model = replace(
        recipe.model,
        image_size=32,
        max_tokens=8,
        embed_dim=16,
        depth=2,
        num_heads=2,
        local_blocks=(0,),
        language_blocks=(1,),
        window_size=2,
        pos_grid=4,
        rel_pos_grid=4,
        cross_heads=2,
        adapter_dim=8,
        vocab_size=160,
        text_dim=16,
        text_depth=1,
        text_heads=2,
        text_mlp_dim=16,
        text_positions=8,
        decoder_dim=16,
        decoder_depth=1,
        decoder_heads=2,
        decoder_mlp_dim=16,
        head_dim=8,
        drop_path_rate=0.2,
        decoder_dropout=0.1,
    )
    rates = {"lr": 1e-3, "lr_vision": 1e-3, "lr_text": 1e-3, "clip_grad": 1.0}
    switches = {"batch_size": 4, "micro_batch": 4, "steps": 12, "warmup_steps": 2, **rates, **optim}
    return replace(
        recipe,
        model=model,
        data=replace(recipe.data, root=str(root), workers=0),
        optim=replace(recipe.optim, **switches),
        run=replace(recipe.run, output=str(output), eval_every=6, checkpoint_every=4),
    )
