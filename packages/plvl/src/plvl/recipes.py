"""The recipes: one function per row of a table in the paper.

A docstring names the table, the row, the published figures and the command; every value can be changed on the
command line (`--optim.lr 1e-5`). REC is Acc@0.5, RES the mean mask IoU, both in percent and by the protocol
`paper`. BUILT is a folder of `plvl data build`, VIT and BERT are start weights from `plvl convert` (BERT may be
google-bert/bert-base-uncased where there is a network).

Two forms: the plain name trains as the text says, with the sound loss and the mended augmentation; `_official` as
the authors' code does, with its defects (see `LossConfig.form`, `DataConfig.transform`, `OptimConfig.lr_groups`).
The published figures come from that code. This module imports no heavy library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from plvl.ablations import ABLATIONS, official
from plvl.config import DataConfig, LossConfig, ModelConfig, OptimConfig, Recipe, RunConfig


def refcoco_unc() -> Recipe:
    """RefCOCO. Tables 1 and 2, traditional: REC 89.02 / 90.21 / 86.72, RES 78.91 / 79.79 / 77.61 (val, testA, testB).

    accelerate launch -m plvl train refcoco_unc --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT --optim.precision bf16
    """
    return Recipe(name="refcoco_unc")


def refcoco_unc_official() -> Recipe:
    """RefCOCO as the authors' code trains it. Tables 1 and 2: REC 89.02 / 90.21 / 86.72, RES 78.91 / 79.79 / 77.61.

    accelerate launch -m plvl train refcoco_unc_official --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT
    """
    return official(refcoco_unc(), "refcoco_unc_official")


def refcocoplus_unc() -> Recipe:
    """RefCOCO+. Tables 1 and 2, traditional: REC 79.19 / 84.97 / 71.55, RES 69.79 / 74.02 / 63.03 (val, testA, testB).

    accelerate launch -m plvl train refcocoplus_unc --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT --optim.precision bf16
    """
    return Recipe(name="refcocoplus_unc")


def refcocoplus_unc_official() -> Recipe:
    """RefCOCO+ as the authors' code trains it. Tables 1 and 2: REC 79.19 / 84.97 / 71.55, RES 69.79 / 74.02 / 63.03.

    accelerate launch -m plvl train refcocoplus_unc_official --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT
    """
    return official(refcocoplus_unc(), "refcocoplus_unc_official")


def refcocog_umd() -> Recipe:
    """RefCOCOg, umd split. Tables 1 and 2, traditional: REC 81.58 / 81.16, RES 70.21 / 70.26 (val(U), test(U)).

    accelerate launch -m plvl train refcocog_umd --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT --optim.precision bf16
    """
    return Recipe(name="refcocog_umd")


def refcocog_umd_official() -> Recipe:
    """RefCOCOg, umd split, as the authors' code trains it. Tables 1 and 2: REC 81.58 / 81.16, RES 70.21 / 70.26.

    accelerate launch -m plvl train refcocog_umd_official --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT
    """
    return official(refcocog_umd(), "refcocog_umd_official")


def refcocog_google() -> Recipe:
    """RefCOCOg, google split, whose train and val pictures overlap. The paper has no figure for it.

    accelerate launch -m plvl train refcocog_google --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT --optim.precision bf16
    """
    return Recipe(name="refcocog_google")


def refcocog_google_official() -> Recipe:
    """RefCOCOg, google split, as the authors' code trains it. The paper has no figure for it.

    accelerate launch -m plvl train refcocog_google_official --data.root BUILT --model.vision_pretrained VIT
        --model.text_pretrained BERT
    """
    return official(refcocog_google(), "refcocog_google_official")


def mixed_pretrain() -> Recipe:
    """First stage of the pre-trained setting: boxes of RefCOCO, +, g, Visual Genome and Flickr30k. No figure.

    Section 4.2; batch, epochs and the weight of the loss are the authors' scripts'.

    accelerate launch --num_processes 8 -m plvl train mixed_pretrain --data.root BUILT_MIXTURE
        --model.vision_pretrained VIT --model.text_pretrained BERT --optim.precision bf16
    """
    return Recipe(
        name="mixed_pretrain",
        model=ModelConfig(res=False),
        loss=LossConfig(det_weight=0.5),
        optim=OptimConfig(batch_size=160, epochs=20),
    )


def mixed_pretrain_clean() -> Recipe:
    """`mixed_pretrain` on a mixture without val and test pictures of the three benchmarks. Not in the paper, no figure.

    `plvl data build` makes that mixture and `plvl data check` audits it.

    accelerate launch --num_processes 8 -m plvl train mixed_pretrain_clean --data.root BUILT_CLEAN_MIXTURE
        --model.vision_pretrained VIT --model.text_pretrained BERT --optim.precision bf16
    """
    return replace(mixed_pretrain(), name="mixed_pretrain_clean")


def mixed_pretrain_official() -> Recipe:
    """`mixed_pretrain` as the authors' code trains it. No figure.

    accelerate launch --num_processes 8 -m plvl train mixed_pretrain_official --data.root BUILT_MIXTURE
        --model.vision_pretrained VIT --model.text_pretrained BERT
    """
    return official(mixed_pretrain(), "mixed_pretrain_official")


def mixed_coco() -> Recipe:
    """Second stage: boxes and masks of the three sets together. Tables 1 and 2, pre-trained setting.

    REC: RefCOCO 92.65 / 94.72 / 89.95, RefCOCO+ 87.36 / 91.04 / 81.60 (val, testA, testB), RefCOCOg 89.20 / 89.80
    (val(U), test(U)). RES: 81.89 / 82.95 / 80.04, 76.68 / 79.67 / 72.65, 77.25 / 77.67. One model for all three, as in
    the authors' scripts; the text reads as one model per set.

    accelerate launch --num_processes 8 -m plvl train mixed_coco --data.root BUILT_COCO_MIXTURE
        --model.pretrained runs/mixed_pretrain/best --optim.precision bf16
    """
    return Recipe(
        name="mixed_coco",
        loss=LossConfig(det_weight=0.05),
        optim=OptimConfig(batch_size=160),
    )


def mixed_coco_official() -> Recipe:
    """`mixed_coco` as the authors' code trains it. Tables 1 and 2, pre-trained setting: the figures of `mixed_coco`.

    accelerate launch --num_processes 8 -m plvl train mixed_coco_official --data.root BUILT_COCO_MIXTURE
        --model.pretrained runs/mixed_pretrain_official/best
    """
    return official(mixed_coco(), "mixed_coco_official")


def toy() -> Recipe:
    """A small PLVL on the embedded scenes of shapes: two to four minutes on two CPU cores. No table.

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
        loss=LossConfig(det_weight=1.0),
        optim=OptimConfig(
            batch_size=16,
            micro_batch=16,
            lr=2e-3,
            lr_vision=2e-3,
            lr_text=2e-3,
            weight_decay=0.01,
            schedule="step",
            steps=2_700,
            warmup_steps=30,
            clip_grad=5.0,
        ),
        run=RunConfig(eval_every=600, checkpoint_every=300, log_every=10),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe
    for recipe in (
        refcoco_unc,
        refcoco_unc_official,
        refcocoplus_unc,
        refcocoplus_unc_official,
        refcocog_umd,
        refcocog_umd_official,
        refcocog_google,
        refcocog_google_official,
        mixed_pretrain,
        mixed_pretrain_clean,
        mixed_pretrain_official,
        mixed_coco,
        mixed_coco_official,
        *ABLATIONS,
        toy,
    )
}
