"""Models and test sets in, the paper's metrics out: I-AUC and P-F1 under every published protocol.

Each image counts once on any number of processes, and batches are the same on any, so the digits do not depend on it.
What the network and the refiner say is kept on disk: another metric, threshold or prompt costs no second forward pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object

from cabl_cgsr.config import DataConfig, ModelConfig, PromptConfig, PromptVariant
from cabl_cgsr.data import load_levels, open_set, quick_check
from cabl_cgsr.inference import describe_protocol, localize
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.prediction_cache import PredictionCache
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
from cabl_cgsr.set_inference import Degradation, predict_rows, score_rows
from papers_shared.cache import TensorCache
from papers_shared.dataclass_json import dataclass_from_json, dataclass_to_json
from papers_shared.errors import UserError
from papers_shared.files import cache_folder, write_json
from papers_shared.metrics import ForensicsMetrics, roc_auc
from papers_shared.results import evaluation_file
from papers_shared.sam import PromptedSegmenter, make_refiner
from papers_shared.training.distributed import make_accelerator

if TYPE_CHECKING:
    from cabl_cgsr.options import EvaluateOptions, RobustnessOptions

REFINED = "manipulated images, whatever their score"
"""What is refined in an evaluation: no pixel metric knows authentic images."""
UNTOLD = frozenset(
    {
        "models",
        "data",
        "sets",
        "batch_size",
        "cache",
        "output",
        "root",
        "layout",
        "workers",
        "val_share",
        "split_seed",
    }
    | {"long_side", "crop_size", "flip", "jitter"}
)
"""Options that do not change an evaluation, or that the names of models and sets stand for."""
LONGEST_NAME = 120
"""Characters of a file's name after the model's, from which on a digest shortens it."""


def evaluate(
    localizer: Localizer, rows: Any, *, protocol: str = "paper", draws: int = 1000, **options: Any
) -> dict[str, Any]:
    """The metrics of a set; the same on every process.

    Args:
        rows: Of `cabl_cgsr.data.open_set` with masks.
        protocol: paper, or all: every published definition.
        draws: Bootstrap draws for the 95 % intervals; 0: none.
        options: Those of `collect_rows`.

    Returns:
        `set`, `images`, `manipulated`, `metrics` (fractions by name, such as `i_auc` and `p_f1.coarse`),
        `intervals_95` and `protocol`, the sentence that predictions have too.
    """
    found = set_scores(collect_rows(localizer, rows, **options), protocol, draws)
    accelerator = options.get("accelerator") or make_accelerator()
    sentence = describe_protocol(options.get("config") or localizer.config, accelerator.mixed_precision)
    return {**found.to_json(), "protocol": sentence}


def image_metrics(
    localizer: Localizer, rows: Any, *, workers: int = 0, accelerator: Accelerator | None = None
) -> dict[str, Any]:
    """I-AUC and accuracy on rows without masks, fractions: what the validation of a training needs."""
    accelerator = accelerator or make_accelerator()
    found = score_rows(localizer, rows, accelerator=accelerator, workers=workers)
    merged = {name: pair for part in gather_object([found]) for name, pair in part.items()}
    pairs = np.array([merged[name] for name in sorted(merged)])
    return {
        "i_auc": roc_auc(pairs[:, 1], pairs[:, 0]),
        "accuracy": float(((pairs[:, 1] > 0.5) == (pairs[:, 0] == 1)).mean()),
        "images": len(pairs),
        "protocol": describe_protocol(localizer.config, accelerator.mixed_precision),
    }


def collect_rows(
    localizer: Localizer,
    rows: Any,
    *,
    refiner: PromptedSegmenter | None = None,
    variants: Sequence[PromptVariant] = (),
    config: ModelConfig | None = None,
    cache: PredictionCache | None = None,
    accelerator: Accelerator | None = None,
    batch_size: int = 1,
    workers: int = 0,
    degradation: Degradation | None = None,
    progress: bool = False,
) -> SetRows:
    """What the metrics of a set are made of, for each of its images; the same on every process.

    Manipulated images are refined whatever the score says; authentic ones never, as no pixel metric knows them.

    Args:
        rows: Of `cabl_cgsr.data.open_set` with masks.
        variants: Prompt variants to refine with, beside the coarse mask; needs a refiner.
        config: The model's configuration with other options of `cam` and `prompts`; None: the model's own.
        degradation: What is done to each image first.
    """
    accelerator, cache = accelerator or make_accelerator(), cache or PredictionCache(None)
    config = config or localizer.config
    asked: dict[str, PromptConfig] = {
        variant: replace(config.prompts, variant=variant)
        for variant in variants
        if variant != "null" and refiner is not None
    }
    masked = "mask" in rows.column_names and any(mask is not None for mask in rows["mask"])
    refine = SetRefiner(refiner, asked, cache, degradation) if refiner is not None and masked else None
    result = SetRows(rows[0]["dataset"], masked, {name: ForensicsMetrics() for name in (COARSE, *asked)})
    predicted = predict_rows(
        localizer,
        rows,
        config,
        cache=cache,
        accelerator=accelerator,
        batch_size=batch_size,
        workers=workers,
        degradation=degradation,
        progress=progress,
    )
    while some := [(row, localize(maps, config)) for row, maps in islice(predicted, batch_size)]:
        refined = [{}] * len(some) if refine is None else refine(some)
        for (row, coarse), masks in zip(some, refined, strict=True):
            truth = load_levels(row, coarse.mask.shape) if masked else None
            result.map_maxima[row["name"]] = float(coarse.raw_map.max())
            soft = coarse.cam if config.prompts.threshold == 0.5 else coarse.mask
            answers = {COARSE: soft, **dict.fromkeys(asked, coarse.mask), **masks}
            for name, metrics in result.outputs.items():
                metrics.update(
                    row["name"],
                    label=int(row["label"]),
                    score=coarse.score,
                    pixel_map=answers[name],
                    mask=truth,
                )
    for part in gather_object([result]):
        result.map_maxima.update(part.map_maxima)
        for name, metrics in result.outputs.items():
            metrics.merge(part.outputs[name])
    return result


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
    embeddings = TensorCache(cache_folder("cabl-cgsr", cache) / "embeddings")
    precision = "no" if precision == "no" else "bf16"
    return make_refiner(source, device=str(device), precision=precision, cache=embeddings)


def run(options: EvaluateOptions) -> int:
    """`cabl-cgsr evaluate`: print the tables and write the JSON."""
    if not options.models:
        raise UserError("no model given: name one or more model folders")
    accelerator = make_accelerator(options.precision)
    with accelerator.main_process_first():
        sets = open_sets(options.data, options.sets)
    refiner = open_refiner(options.refiner, accelerator.device, options.cache, options.precision)
    explained, models = definitions(options.protocol), []
    for model in options.models:
        localizer = Localizer.from_pretrained(model, device=accelerator.device)
        config = options.config_for(localizer.config)
        scores = []
        for name, rows in sets.items():
            found = collect_rows(
                localizer,
                rows,
                refiner=refiner,
                variants=options.prompts or (config.prompts.variant,),
                config=config,
                cache=PredictionCache(options.cache),
                accelerator=accelerator,
                batch_size=options.batch_size,
                workers=options.data.workers,
                progress=True,
            )
            scores.append(set_scores(replace(found, name=name), options.protocol, options.draws))
        scores = scores if len(scores) == 1 else [*scores, average(scores)]
        models.append((model, describe_protocol(config, options.precision), scores))
        if accelerator.is_main_process:
            print(f"{model}\n{_tables(scores, options.protocol, explained)}\n")
    if not accelerator.is_main_process:
        return 0
    result: dict[str, Any] = {
        "refiner": "none" if refiner is None else refiner.name,
        "refined": REFINED,
        "definitions": explained,
        "models": [
            {"model": model, "protocol": protocol, "sets": [one.to_json() for one in scores]}
            for model, protocol, scores in models
        ],
    }
    if len(models) > 1:
        spread = over_models([scores for _, _, scores in models])
        result["mean_and_deviation"] = [{"set": name, "metrics": metrics} for name, metrics in spread]
        print(f"mean ± sample standard deviation over {len(models)} models\n{spread_table(spread)}\n")
    output = evaluation_file(options.models[0], options.output, *describe_options(options, list(sets)))
    write_json(output, result)
    print(f"protocol: {models[0][1]}\nrefiner: {result['refiner']}, for {REFINED}")
    if options.protocol == "paper":
        print("\n".join(f"{name}: {meaning}" for name, meaning in explained.items()))
    print(f"written: {output}")
    return 0


def _tables(scores: Sequence[SetScores], protocol: str, explained: dict[str, str]) -> str:
    columns = [name for name in scores[0].metrics if name.partition(".")[0] in ("i_auc", "p_f1")]
    text = table(scores, columns)
    return text if protocol == "paper" else f"{text}\n\n{protocol_table(scores, explained)}"


def describe_options(options: EvaluateOptions | RobustnessOptions, sets: Sequence[str]) -> list[str]:
    """What tells an evaluation from others of its first model: further models, sets, and what is not the default."""
    others = ["-".join(["with", *Path(model).parts[-2:]]) for model in options.models[1:]]
    told = []
    for section, default in ((options, type(options)(models=())), (options.data, DataConfig())):
        for name, value in vars(section).items():
            if name not in UNTOLD and value != getattr(default, name):
                values = value if isinstance(value, tuple) else (value,)
                told.append("-".join([name, *(Path(str(one)).name for one in values)]))
    about = [*others, *sets, *told]
    if len("-".join(about)) <= LONGEST_NAME:
        return about
    digest = hashlib.blake2b(repr(about).encode(), digest_size=6).hexdigest()
    return ["-".join(about)[:LONGEST_NAME], digest]
