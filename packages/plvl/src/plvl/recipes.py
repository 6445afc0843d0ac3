"""The recipes: one for each row of a table in the paper, ablations included.

A docstring names the table, the row, the published numbers and the command; every value can be changed on the
command line (`--optim.lr 1e-5`). REC is Acc@0.5, RES the mean mask IoU, both in percent and by the protocol
`paper`. BUILT is a folder of `plvl data build`, VIT and BERT are start weights from `plvl convert` (BERT may be
google-bert/bert-base-uncased where there is a network).

Two forms: the plain name trains as the text says, with the sound loss and the corrected augmentation; `_official` as
the authors' code does, with its defects (see `LossConfig.form`, `DataConfig.transform`, `OptimConfig.lr_groups`).
The published numbers come from that code, and the ablations have this form only. This module imports no heavy
library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from papers_shared.training.config import RunConfig
from plvl.config import (
    TABLE_4_LANGUAGE_BLOCKS,
    TABLE_6_HEAD_GROUPS,
    TABLE_7_MODELS,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    Recipe,
)

START = "--model.vision-pretrained VIT --model.text-pretrained BERT"


class Row(NamedTuple):
    """A row of a table, and what its recipe changes of the defaults."""

    name: str
    title: str
    """What is trained."""
    source: str
    """Table, row and published numbers."""
    changes: Mapping[str, Any] = MappingProxyType({})
    """Sections of the recipe that are not the defaults."""
    notes: str = ""
    data: str = "BUILT"
    start: str = START
    launch: str = ""
    """Options of `accelerate launch`."""


ROWS = (
    Row(
        "refcoco_unc",
        "RefCOCO",
        "Tables 1 and 2, traditional: REC 89.02 / 90.21 / 86.72, RES 78.91 / 79.79 / 77.61 (val, testA, testB).",
    ),
    Row(
        "refcocoplus_unc",
        "RefCOCO+",
        "Tables 1 and 2, traditional: REC 79.19 / 84.97 / 71.55, RES 69.79 / 74.02 / 63.03 (val, testA, testB).",
    ),
    Row(
        "refcocog_umd",
        "RefCOCOg, umd split",
        "Tables 1 and 2, traditional: REC 81.58 / 81.16, RES 70.21 / 70.26 (val(U), test(U)).",
    ),
    Row(
        "refcocog_google",
        "RefCOCOg, google split, whose train and val images overlap",
        "The paper has no number for it.",
    ),
    Row(
        "mixed_pretrain",
        "First stage of the pre-trained setting: boxes of RefCOCO, +, g, Visual Genome and Flickr30k",
        "No number.",
        {
            "model": ModelConfig(res=False),
            "loss": LossConfig(det_weight=0.5),
            "optim": OptimConfig(batch_size=160, epochs=20),
        },
        "Section 4.2; batch, epochs and the weight of the loss are those of the authors' scripts.",
        data="BUILT_MIXTURE",
        launch="--num_processes 8 ",
    ),
    Row(
        "mixed_coco",
        "Second stage: boxes and masks of the three sets together",
        "Tables 1 and 2, pre-trained setting.",
        {"loss": LossConfig(det_weight=0.05), "optim": OptimConfig(batch_size=160)},
        "REC: RefCOCO 92.65 / 94.72 / 89.95, RefCOCO+ 87.36 / 91.04 / 81.60 (val, testA, testB), RefCOCOg "
        "89.20 / 89.80\n(val(U), test(U)). RES: 81.89 / 82.95 / 80.04, 76.68 / 79.67 / 72.65, 77.25 / 77.67. One model "
        "for all three, as in\nthe authors' scripts; the text reads as one model per set.",
        data="BUILT_COCO_MIXTURE",
        start="--model.pretrained runs/mixed_pretrain/best",
        launch="--num_processes 8 ",
    ),
)
"""Each is trained in both forms."""

CLEAN_MIXTURE = ROWS[4]._replace(
    name="mixed_pretrain_clean",
    title="`mixed_pretrain` on a mixture without val and test images of the three benchmarks",
    source="Not in the paper, no number.",
    notes="`plvl data build` makes that mixture and `plvl data check` audits it.",
    data="BUILT_CLEAN_MIXTURE",
)


_BLOCKS, _GROUPS, _EEVG = TABLE_4_LANGUAGE_BLOCKS, TABLE_6_HEAD_GROUPS, TABLE_7_MODELS
_WHOLE = "REC 81.58, RES 70.21"
"""Of the full PLVL."""
# fmt: off
ABLATIONS = tuple(
    Row(name, title, f"RefCOCOg val(U): {numbers}.", {"model": model})
    for name, title, numbers, model in (
        ("table4_m3", "Table 4, row 1: language in 13,14,15 only", "REC 80.15, RES 69.51",
         ModelConfig(language_blocks=_BLOCKS["13,14,15"])),
        ("table4_m4", "Table 4, row 2: language in 3,13,14,15", "REC 80.02, RES 69.81",
         ModelConfig(language_blocks=_BLOCKS["3,13,14,15"])),
        ("table4_m5", "Table 4, row 3: language in 3,6,13,14,15", "REC 80.78, RES 69.24",
         ModelConfig(language_blocks=_BLOCKS["3,6,13,14,15"])),
        ("table4_m6", "Table 4, row 4: language in 3,6,9,13,14,15", "REC 81.50, RES 70.16",
         ModelConfig(language_blocks=_BLOCKS["3,6,9,13,14,15"])),
        ("table4_m7", "Table 4, row 5: language in 3,6,9,12,13,14,15, the full PLVL", _WHOLE,
         ModelConfig(language_blocks=_BLOCKS["3,6,9,12,13,14,15"])),
        ("table5_both", "Table 5, row 1: boxes and masks", _WHOLE, ModelConfig()),
        ("table5_rec", "Table 5, row 2: boxes only; the mask branch is not built", "REC 80.15",
         ModelConfig(res=False)),
        ("table5_res", "Table 5, row 3: masks only; the box branches are not built", "RES 69.08",
         ModelConfig(rec=False)),
        ("table6_mask", "Table 6, row 1: head groups {mask}{center,offset,size}", "REC 81.37, RES 69.84",
         ModelConfig(head_groups=_GROUPS["{mask}{center,offset,size}"])),
        ("table6_mask_center", "Table 6, row 2: head groups {mask,center}{offset,size}, the full PLVL", _WHOLE,
         ModelConfig(head_groups=_GROUPS["{mask,center}{offset,size}"])),
        ("table7_eevg", "Table 7, row 1: EEVG", "REC 79.27, RES 68.16 (EEVG's own paper: 79.60, 69.15)",
         _EEVG["EEVG"]),
        ("table7_eevg_cmth", "Table 7, row 2: EEVG with the collaborative multi-task head", "REC 79.98, RES 68.66",
         _EEVG["EEVG w. CMTH"]),
        ("table7_eevg_plvl", "Table 7, row 3: EEVG with the language-guided backbone", "REC 80.35, RES 69.48",
         _EEVG["EEVG w. PLVL"]),
        ("table7_eevg_plvl_cmth", "Table 7, row 4: EEVG with both", "REC 81.41, RES 69.78",
         _EEVG["EEVG w. PLVL & CMTH"]),
    )
)
# fmt: on
"""Tables 4 to 7, on RefCOCOg (umd): trained in the official form only, as the published rows were."""


def official(recipe: Recipe) -> Recipe:
    """The same training in the forms of the authors' code, with fp16 as there."""
    return replace(
        recipe,
        data=replace(recipe.data, transform="official"),
        loss=replace(recipe.loss, form="official"),
        optim=replace(recipe.optim, lr_groups="official", precision="fp16"),
    )


def toy() -> Recipe:
    """A small PLVL on the embedded scenes of shapes: one to two minutes on a laptop core. No table.

    plvl demo, or: plvl train toy --data.root TOY_FOLDER/built
    """
    return Recipe(
        name="toy",
        model=ModelConfig(
            image_size=64,
            max_tokens=16,
            patch_size=8,
            embed_dim=64,
            depth=2,
            num_heads=2,
            mlp_ratio=2.0,
            local_blocks=(),
            language_blocks=(0, 1),
            window_size=4,
            pos_grid=8,
            rel_pos_grid=8,
            cross_heads=2,
            adapter_dim=32,
            cross_dropout=0.0,
            drop_path_rate=0.0,
            hide_text_padding=True,
            vocab_size=256,
            text_dim=64,
            text_depth=1,
            text_heads=2,
            text_mlp_dim=128,
            text_positions=24,
            text_dropout=0.0,
            decoder_dim=64,
            decoder_depth=1,
            decoder_heads=2,
            decoder_mlp_dim=128,
            decoder_dropout=0.0,
            head_dim=32,
        ),
        data=DataConfig(flip=0.0, crop=0.0, workers=1),
        loss=LossConfig(det_weight=1.0, seg_weight=2.0),
        optim=OptimConfig(
            batch_size=16,
            micro_batch=16,
            lr=2e-3,
            lr_vision=2e-3,
            lr_text=2e-3,
            betas=(0.9, 0.95),
            weight_decay=0.01,
            decay_per="step",
            epochs=0,
            steps=1_300,
            warmup_steps=100,
            clip_grad=1.0,
        ),
        run=RunConfig(eval_every=325, checkpoint_every=325, log_every=10),
    )


def _plain(row: Row) -> Callable[[], Recipe]:
    """The training as the text of the paper says."""
    return _function(
        row, f"{row.title}. {row.source}", Recipe(name=row.name, **row.changes), "--optim.precision bf16"
    )


def _official(row: Row) -> Callable[[], Recipe]:
    """The same row as the authors' code trains it."""
    name, start = f"{row.name}_official", row.start.replace("mixed_pretrain", "mixed_pretrain_official")
    about = f"{row.title}, as the official code trains it. {row.source}"
    return _function(row._replace(name=name, start=start), about, official(Recipe(name=name, **row.changes)))


def _function(row: Row, about: str, recipe: Recipe, more: str = "") -> Callable[[], Recipe]:
    def make() -> Recipe:
        return recipe

    command = f"accelerate launch {row.launch}-m plvl train {row.name} --data.root {row.data}"
    parts = [about, row.notes, f"{command}\n    {row.start} {more}".rstrip()]
    make.__name__, make.__doc__ = row.name, "\n\n".join(filter(None, parts)) + "\n"
    return make


RECIPES: dict[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe
    for recipe in (
        *(form(row) for row in ROWS for form in (_plain, _official)),
        _plain(CLEAN_MIXTURE),
        *(
            _function(row, f"{row.title}. {row.source}", official(Recipe(row.name, **row.changes)))
            for row in ABLATIONS
        ),
        toy,
    )
}
