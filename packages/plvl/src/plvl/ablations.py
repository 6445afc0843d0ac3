"""The ablations, Tables 4 to 7: recipes on RefCOCOg (umd), read like those of `plvl.recipes`.

Trained in the form of the authors' code, as the published rows were. BUILT is a folder of `plvl data build`, VIT and
BERT are start weights from `plvl convert`.
"""

from __future__ import annotations

from dataclasses import replace

from plvl.config import (
    TABLE_4_LANGUAGE_BLOCKS,
    TABLE_6_HEAD_GROUPS,
    TABLE_7_MODELS,
    ModelConfig,
    Recipe,
)


def table4_m3() -> Recipe:
    """Table 4, row 1: language in 13,14,15 only. RefCOCOg val(U): REC 80.15, RES 69.51.

    accelerate launch -m plvl train table4_m3 --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT
    """
    return _table_4("table4_m3", "13,14,15")


def table4_m4() -> Recipe:
    """Table 4, row 2: language in 3,13,14,15. RefCOCOg val(U): REC 80.02, RES 69.81.

    accelerate launch -m plvl train table4_m4 --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT
    """
    return _table_4("table4_m4", "3,13,14,15")


def table4_m5() -> Recipe:
    """Table 4, row 3: language in 3,6,13,14,15. RefCOCOg val(U): REC 80.78, RES 69.24.

    accelerate launch -m plvl train table4_m5 --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT
    """
    return _table_4("table4_m5", "3,6,13,14,15")


def table4_m6() -> Recipe:
    """Table 4, row 4: language in 3,6,9,13,14,15. RefCOCOg val(U): REC 81.50, RES 70.16.

    accelerate launch -m plvl train table4_m6 --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT
    """
    return _table_4("table4_m6", "3,6,9,13,14,15")


def table4_m7() -> Recipe:
    """Table 4, row 5: language in 3,6,9,12,13,14,15, the full PLVL. RefCOCOg val(U): REC 81.58, RES 70.21.

    accelerate launch -m plvl train table4_m7 --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT
    """
    return _table_4("table4_m7", "3,6,9,12,13,14,15")


def table5_both() -> Recipe:
    """Table 5, row 1: boxes and masks. RefCOCOg val(U): REC 81.58, RES 70.21.

    accelerate launch -m plvl train table5_both --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT
    """
    return _ablation("table5_both", ModelConfig())


def table5_rec() -> Recipe:
    """Table 5, row 2: boxes only; the mask branch is not built. RefCOCOg val(U): REC 80.15.

    accelerate launch -m plvl train table5_rec --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT
    """
    return _ablation("table5_rec", ModelConfig(res=False))


def table5_res() -> Recipe:
    """Table 5, row 3: masks only; the box branches are not built. RefCOCOg val(U): RES 69.08.

    accelerate launch -m plvl train table5_res --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT
    """
    return _ablation("table5_res", ModelConfig(rec=False))


def table6_mask() -> Recipe:
    """Table 6, row 1: head groups {mask}{center,offset,size}. RefCOCOg val(U): REC 81.37, RES 69.84.

    accelerate launch -m plvl train table6_mask --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT
    """
    groups = TABLE_6_HEAD_GROUPS["{mask}{center,offset,size}"]
    return _ablation("table6_mask", ModelConfig(head_groups=groups))


def table6_mask_center() -> Recipe:
    """Table 6, row 2: head groups {mask,center}{offset,size}, the full PLVL. RefCOCOg val(U): REC 81.58, RES 70.21.

    accelerate launch -m plvl train table6_mask_center --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT
    """
    groups = TABLE_6_HEAD_GROUPS["{mask,center}{offset,size}"]
    return _ablation("table6_mask_center", ModelConfig(head_groups=groups))


def table7_eevg() -> Recipe:
    """Table 7, row 1: EEVG. RefCOCOg val(U): REC 79.27, RES 68.16 (EEVG's own paper: 79.60, 69.15).

    accelerate launch -m plvl train table7_eevg --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT
    """
    return _ablation("table7_eevg", TABLE_7_MODELS["EEVG"])


def table7_eevg_cmth() -> Recipe:
    """Table 7, row 2: EEVG with the collaborative multi-task head. RefCOCOg val(U): REC 79.98, RES 68.66.

    accelerate launch -m plvl train table7_eevg_cmth --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT
    """
    return _ablation("table7_eevg_cmth", TABLE_7_MODELS["EEVG w. CMTH"])


def table7_eevg_plvl() -> Recipe:
    """Table 7, row 3: EEVG with the language-guided backbone. RefCOCOg val(U): REC 80.35, RES 69.48.

    accelerate launch -m plvl train table7_eevg_plvl --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT
    """
    return _ablation("table7_eevg_plvl", TABLE_7_MODELS["EEVG w. PLVL"])


def table7_eevg_plvl_cmth() -> Recipe:
    """Table 7, row 4: EEVG with both. RefCOCOg val(U): REC 81.41, RES 69.78.

    accelerate launch -m plvl train table7_eevg_plvl_cmth --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT
    """
    return _ablation("table7_eevg_plvl_cmth", TABLE_7_MODELS["EEVG w. PLVL & CMTH"])


def _ablation(name: str, model: ModelConfig) -> Recipe:
    """A network trained on RefCOCOg (umd) as the published one was."""
    return official(Recipe(name=name, model=model), name)


def _table_4(name: str, indexes: str) -> Recipe:
    return _ablation(name, ModelConfig(language_blocks=TABLE_4_LANGUAGE_BLOCKS[indexes]))


def official(recipe: Recipe, name: str) -> Recipe:
    """The same training in the forms of the authors' code, with fp16 as there."""
    return replace(
        recipe,
        name=name,
        data=replace(recipe.data, transform="official"),
        loss=replace(recipe.loss, form="official"),
        optim=replace(recipe.optim, lr_groups="official", precision="fp16"),
    )


ABLATIONS = (
    table4_m3,
    table4_m4,
    table4_m5,
    table4_m6,
    table4_m7,
    table5_both,
    table5_rec,
    table5_res,
    table6_mask,
    table6_mask_center,
    table7_eevg,
    table7_eevg_cmth,
    table7_eevg_plvl,
    table7_eevg_plvl_cmth,
)
