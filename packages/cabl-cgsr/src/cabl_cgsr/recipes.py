"""Recipes: one entry for each row of a table of the paper, and the embedded toy.

`cabl-cgsr train RECIPE --data.root CASIA2` trains one; every value can be changed on the command line
(`--optim.lr 1e-4`). Importing this is light: `cabl-cgsr train --help` stays fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cabl_cgsr.config import CablConfig, CamConfig, DataConfig, ModelConfig, OptimConfig, Recipe
from papers_shared.training.config import RunConfig

COMMAND = "accelerate launch -m cabl_cgsr train {name} --data.root CASIA2 --model.pretrained IMAGENET_FOLDER"


def casia2() -> Recipe:
    """The model of the paper, trained on CASIAv2's image labels. Table I, row "Ours".

    Published, I-AUC / P-F1 with CGSR: CASIAv1 0.816/0.300, Columbia 0.963/0.382, COVERAGE 0.658/0.190, IMD2020
    0.783/0.368, average 0.805/0.310. The same weights are the last rows of Tables II to VI; CGSR needs no training,
    and `cabl-cgsr evaluate --prompts null point box box_point` gives all of Table VI.
    Section III-A: Conformer-S from ImageNet, 30 epochs, batch 8, AdamW, rate 5e-5, weight decay 5e-4, random scaling.
    Where the text is silent TransCAM's recipe stands: long side 320 to 640, crop 512, colour jitter, flip, constant
    rate.

        accelerate launch -m cabl_cgsr train casia2 --data.root CASIA2 --model.pretrained IMAGENET_FOLDER
    """
    return Recipe(name="casia2")


def toy() -> Recipe:
    """A small network on the embedded splices and copy-moves: a minute and a half on two CPU cores. No table.

    Its map is the convolution branch's alone, without attention: a network that starts from nothing and trains for a
    minute has no attention worth following.

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
            warmup_steps=20,
            clip_grad=1.0,
        ),
        run=RunConfig(eval_every=100, checkpoint_every=50, log_every=10),
    )


def _ablation(name: str, about: str, **cabl: Any) -> Callable[[], Recipe]:
    """A recipe that differs from `casia2` in the edge gates alone."""

    def recipe() -> Recipe:
        return Recipe(name=name, model=ModelConfig(cabl=CablConfig(**cabl)))

    recipe.__name__ = recipe.__qualname__ = name
    recipe.__doc__ = f"{about}\n\n    {COMMAND.format(name=name)}\n"
    return recipe


ablation_baseline = _ablation(
    "ablation_baseline",
    """Table II, rows without CABL: the dual-branch network alone.

    Published, average of COVERAGE and IMD2020: I-AUC 0.708, P-F1 0.248 without and 0.264 with CGSR.""",
    operator="none",
)
ablation_structure_i = _ablation(
    "ablation_structure_i",
    """Table III, structure i, read as the product without residual. Published: I-AUC 0.696, P-F1 0.194.

    The drawing that shows the structures is lost; `--model.cabl.structure i_edges` is the other reading. Average of
    COVERAGE and IMD2020, without CGSR.""",
    structure="i",
)
ablation_structure_ii = _ablation(
    "ablation_structure_ii",
    """Table III, structure ii, read as the sum without product. Published: I-AUC 0.695, P-F1 0.244.

    The drawing that shows the structures is lost. Average of COVERAGE and IMD2020, without CGSR.""",
    structure="ii",
)
ablation_blocks_4 = _ablation(
    "ablation_blocks_4",
    "Table IV, CABL in blocks 1-4. Published: I-AUC 0.675, P-F1 0.200 (COVERAGE and IMD2020, without CGSR).",
    blocks=4,
)
ablation_blocks_8 = _ablation(
    "ablation_blocks_8",
    "Table IV, CABL in blocks 1-8. Published: I-AUC 0.718, P-F1 0.241 (COVERAGE and IMD2020, without CGSR).",
    blocks=8,
)
ablation_prewitt = _ablation(
    "ablation_prewitt",
    "Table V, Prewitt's operator. Published, average of four sets without CGSR: I-AUC 0.803, P-F1 0.251.",
    operator="prewitt",
)

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
