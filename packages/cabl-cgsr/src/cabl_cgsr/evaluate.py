"""Models and test sets in, the paper's figures out: I-AUC and P-F1 under every published protocol.

Each picture counts once on any number of processes, and batches are the same on any, so the digits do not
depend on it. What the network and the refiner say is kept on disk: another metric, threshold or prompt costs no
second forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object

from cabl_cgsr.config import DataConfig, PromptConfig
from cabl_cgsr.data import load_levels, open_set, quick_check
from cabl_cgsr.inference import localize
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.options import EvaluateOptions, Variant
from cabl_cgsr.overrides import with_changes
from cabl_cgsr.pictures import Change, predict_rows, score_rows
from cabl_cgsr.predictions import PredictionCache, cache_folder
from cabl_cgsr.refinement import SetRefiner
from cabl_cgsr.scores import (
    COARSE,
    SetRows,
    SetScores,
    average,
    definitions,
    over_models,
    protocol_table,
    set_scores,
    spread_table,
    table,
)
from papers_shared.dataclass_json import dataclass_from_json, dataclass_to_json
from papers_shared.errors import UserError
from papers_shared.metrics import ForensicsMetrics, roc_auc
from papers_shared.runs import make_accelerator, write_json
from papers_shared.sam import EmbeddingCache, PromptedSegmenter, make_refiner


def evaluate_labels(
    localizer: Localizer, rows: Any, *, workers: int = 0, accelerator: Accelerator | None = None
) -> dict[str, Any]:
    """I-AUC and accuracy on rows without masks, as training's validation uses them; fractions."""
    accelerator = accelerator or make_accelerator()
    found = score_rows(localizer, rows, accelerator=accelerator, workers=workers)
    merged = {name: pair for part in gather_object([found]) for name, pair in part.items()}
    pairs = np.array([merged[name] for name in sorted(merged)])
    return {
        "i_auc": roc_auc(pairs[:, 1], pairs[:, 0]),
        "accuracy": float(((pairs[:, 1] > 0.5) == (pairs[:, 0] == 1)).mean()),
        "pictures": len(pairs),
        "protocol": protocol_name(localizer),
    }


def evaluate_set(
    localizer: Localizer,
    rows: Any,
    *,
    refiner: PromptedSegmenter | None = None,
    variants: Sequence[Variant] = (),
    cache: PredictionCache | None = None,
    accelerator: Accelerator | None = None,
    batch_size: int = 1,
    workers: int = 0,
    change: Change | None = None,
    progress: bool = False,
) -> SetRows:
    """The localizer over the rows of `cabl_cgsr.data.open_set` with masks; the same on every process.

    Manipulated pictures are refined whatever the score says; authentic ones never, as no pixel figure knows
    them.

    Args:
        variants: Prompt variants to refine with, beside the coarse mask; needs a refiner.
        change: What is done to each picture first.
    """
    accelerator, cache = accelerator or make_accelerator(), cache or PredictionCache(None)
    config = localizer.config
    asked: dict[str, PromptConfig] = {
        variant: replace(config.prompts, variant=variant)
        for variant in variants
        if variant != "null" and refiner is not None
    }
    masked = "mask" in rows.column_names and any(mask is not None for mask in rows["mask"])
    refine = SetRefiner(refiner, asked, cache, change) if refiner is not None and masked else None
    result = SetRows(rows[0]["dataset"], masked, {name: ForensicsMetrics() for name in (COARSE, *asked)})
    predicted = predict_rows(
        localizer,
        rows,
        cache=cache,
        accelerator=accelerator,
        batch_size=batch_size,
        workers=workers,
        change=change,
        progress=progress,
    )
    while some := [(row, localize(maps, config)) for row, maps in islice(predicted, batch_size)]:
        refined = [{}] * len(some) if refine is None else refine(some)
        for (row, coarse), masks in zip(some, refined, strict=True):
            truth = load_levels(row, coarse.mask.shape) if masked else None
            result.map_maxima[row["name"]] = float(coarse.raw_map.max())
            soft = coarse.cam if config.prompts.threshold == 0.5 else coarse.mask
            answers = {COARSE: soft, **dict.fromkeys(asked, coarse.mask), **masks}
            for name, metrics in result.metrics.items():
                metrics.update(
                    row["name"],
                    label=int(row["label"]),
                    score=coarse.score,
                    pixel_map=answers[name],
                    mask=truth,
                )
    for part in gather_object([result]):
        result.map_maxima.update(part.map_maxima)
        for name, metrics in result.metrics.items():
            metrics.merge(part.metrics[name])
    return result


def protocol_name(localizer: Localizer) -> str:
    """How a picture becomes a score and a map, as printed beside the figures."""
    cam, prompts = localizer.config.cam, localizer.config.prompts
    sizes = ", ".join(f"{side}x{side}" for side in cam.sizes)
    return (
        f"pictures resized to {sizes}{', each mirrored too' if cam.mirror else ''}; maps at original resolution, "
        f"{cam.aggregation} over all, {cam.scaling}; coarse mask: map > {prompts.threshold}; "
        f"{prompts.connectivity}-connectivity; manipulated pictures are refined whatever their score"
    )


def open_sets(data: DataConfig, more: Sequence[str] = ()) -> dict[str, Any]:
    """The rows of each test set, with masks, by its name; two of one name by their folder too.

    Args:
        data: The first set; without `root` only `more` are opened.
        more: Further sets, each `FOLDER` or `LAYOUT=FOLDER`.

    Raises:
        UserError: No set, an unknown layout, or a set that cannot be read.
    """
    described = [data] if data.root else []
    for text in more:
        layout, _, folder = text.rpartition("=")
        fields = {**dataclass_to_json(data), "root": folder, "layout": layout or "auto", "list": ""}
        described.append(dataclass_from_json(DataConfig, fields, f"--sets {text}"))
    if not described:
        raise UserError("no test set: name a folder with --data.root, and further ones with --sets")
    if len(set(described)) < len(described):
        raise UserError("the same test set is named twice: name each once")
    opened: dict[str, Any] = {}
    for one in described:
        quick_check(one, "val").raise_if_broken(f"cabl-cgsr data check {one.root}")
        rows = open_set(one, masks=True)
        name = rows[0]["dataset"]
        opened[name if name not in opened else f"{name} {one.root}"] = rows
    return opened


def open_refiner(
    source: str, device: Any, cache: str = "", precision: str = "no"
) -> PromptedSegmenter | None:
    """The prompted segmenter that a command line names, its embeddings kept on disk; None for `none`."""
    if source == "none":
        return None
    embeddings = EmbeddingCache(cache_folder(cache) / "embeddings")
    precision = "no" if precision == "no" else "bf16"
    return make_refiner(source, device=str(device), precision=precision, cache=embeddings)


def evaluate_model(
    localizer: Localizer,
    sets: dict[str, Any],
    options: EvaluateOptions,
    refiner: PromptedSegmenter | None,
    accelerator: Accelerator,
) -> list[SetScores]:
    """The figures of each set and, of more than one, of their average."""
    variants = options.prompts or (localizer.config.prompts.variant,)
    scores = []
    for name, rows in sets.items():
        result = evaluate_set(
            localizer,
            rows,
            refiner=refiner,
            variants=variants,
            cache=PredictionCache(options.cache),
            accelerator=accelerator,
            batch_size=options.batch_size,
            workers=options.data.workers,
            progress=True,
        )
        scores.append(set_scores(replace(result, name=name), options.protocol, options.draws))
    return scores if len(scores) == 1 else [*scores, average(scores)]


def run(options: EvaluateOptions) -> int:
    """The verb `cabl-cgsr evaluate`: print the tables and write the JSON."""
    if not options.models:
        raise UserError("no model given: name one or more model folders")
    accelerator = make_accelerator(options.precision)
    with accelerator.main_process_first():
        sets = open_sets(options.data, options.sets)
    refiner = open_refiner(options.refiner, accelerator.device, options.cache, options.precision)
    explained, models = definitions(options.protocol), []
    for model in options.models:
        localizer = Localizer.from_pretrained(model).to(accelerator.device)
        localizer.config = with_changes(localizer.config, options.change)
        scores = evaluate_model(localizer, sets, options, refiner, accelerator)
        models.append((model, protocol_name(localizer), scores))
        if accelerator.is_main_process:
            print(f"{model}\n{_tables(scores, options.protocol, explained)}\n")
    if not accelerator.is_main_process:
        return 0
    result: dict[str, Any] = {
        "refiner": "none" if refiner is None else refiner.name,
        "definitions": explained,
        "models": [
            {"model": model, "protocol": protocol, "sets": [one.to_json() for one in scores]}
            for model, protocol, scores in models
        ],
    }
    if len(models) > 1:
        spread = over_models([scores for _, _, scores in models])
        result["mean_and_deviation"] = [{"set": name, "figures": figures} for name, figures in spread]
        print(f"mean ± sample standard deviation over {len(models)} models\n{spread_table(spread)}\n")
    output = _output_file(options)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(output, result)
    print(f"protocol: {models[0][1]}\nrefiner: {result['refiner']}")
    if options.protocol == "paper":
        print("\n".join(f"{name}: {meaning}" for name, meaning in explained.items()))
    print(f"written: {output}")
    return 0


def _tables(scores: Sequence[SetScores], protocol: str, explained: dict[str, str]) -> str:
    columns = [name for name in scores[0].figures if name.partition(".")[0] in ("i_auc", "p_f1")]
    text = table(scores, columns)
    return text if protocol == "paper" else f"{text}\n\n{protocol_table(scores, explained)}"


def _output_file(options: EvaluateOptions) -> Path:
    model = Path(options.models[0])
    if options.output:
        return Path(options.output)
    return model.parent / "evaluation.json" if model.is_dir() else Path("evaluation.json")
