"""Models and test sets in, the paper's metrics out: I-AUC and P-F1 under every published protocol.

Each image counts once on any number of processes, and batches are the same on any, so the digits do not depend on it.
What the network and the refiner say is kept on disk: another metric, threshold or prompt costs no second forward pass.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object

from cabl_cgsr.calibration import calibrate, calibration_error, probability
from cabl_cgsr.config import DataConfig, ModelConfig, PromptConfig, PromptVariant
from cabl_cgsr.data import ScoredSet, load_levels, open_scored
from cabl_cgsr.inference import CALLS, Coarse, ViewMaps, describe_protocol, localize
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
from cabl_cgsr.set_inference import FAILURES, Degradation, predict_rows, said, score_rows
from papers_shared.cache import TensorCache
from papers_shared.compiling import speed_up
from papers_shared.dataclass_json import dataclass_from_json, dataclass_to_json
from papers_shared.devices import use_precision
from papers_shared.entries import one_line
from papers_shared.errors import UserError
from papers_shared.files import cache_folder, write_json
from papers_shared.metrics import ForensicsMetrics, roc_auc
from papers_shared.provenance import tell_untrained
from papers_shared.results import check_evaluation, evaluation_file
from papers_shared.sam import PromptedSegmenter, make_refiner
from papers_shared.training.distributed import make_accelerator, precision_of
from papers_shared.types import Precision

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
        "val_seed",
        "timeout",
        "verify",
        "allow_outside",
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
        `intervals_95`, `failed` (images that could not be scored, and why) and `protocol`, the sentence that
        predictions have too.

    Raises:
        UserError: No image could be scored.
    """
    config = options.get("config") or localizer.config
    collected = collect_rows(localizer, rows, **options)
    found = set_scores(collected, protocol, draws, calibration=config.calibration)
    accelerator = options.get("accelerator") or make_accelerator()
    sentence = describe_protocol(config, precision_of(accelerator))
    return {**found.to_json(), "precision": precision_of(accelerator), "protocol": sentence}


def image_metrics(
    localizer: Localizer, rows: Any, *, workers: int = 0, accelerator: Accelerator | None = None
) -> dict[str, Any]:
    """I-AUC, accuracy and calibration on rows without masks, fractions: what the validation of a training needs.

    Raises:
        UserError: An image cannot be read, or a score is not finite.
    """
    accelerator = accelerator or make_accelerator()
    found = score_rows(localizer, rows, accelerator=accelerator, workers=workers)
    merged = {name: pair for part in gather_object([found]) for name, pair in part.items()}
    broken = [name for name in sorted(merged) if not np.isfinite(merged[name][1])]
    if broken:
        raise UserError(
            f"{broken[0]}: the image score is not finite, as those of {len(broken)} of {len(merged)} held-out images: "
            "the model's weights are broken, a lower --optim.lr may help"
        )
    pairs = np.array([merged[name] for name in sorted(merged)])
    labels, scores = pairs[:, 0], pairs[:, 1]
    chosen = calibrate(labels, scores)
    calibrated = [probability(score, chosen) for score in scores]
    return {
        "i_auc": roc_auc(scores, labels),
        "accuracy": float(((scores > 0.5) == (labels == 1)).mean()),
        "images": len(pairs),
        "calibration": dataclass_to_json(chosen),
        "calibration_error": calibration_error(labels, scores),
        "calibration_error_calibrated": calibration_error(labels, np.array(calibrated)),
        "protocol": describe_protocol(localizer.config, precision_of(accelerator)),
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
    while batch := list(islice(predicted, batch_size)):
        some = []
        for row, maps in batch:
            try:
                some.append((row, _coarse(maps, config)))
            except FAILURES as error:
                result.failed[row["name"]] = said(error)
        for (row, coarse), masks in _refined(refine, some, result):
            try:
                _count(result, row, coarse, masks, asked, config)
            except FAILURES as error:
                result.failed[row["name"]] = said(error)
                for metrics in result.outputs.values():
                    metrics.rows.pop(row["name"], None)
    for part in gather_object([result]):
        result.map_maxima.update(part.map_maxima)
        result.failed.update(part.failed)
        for name, metrics in result.outputs.items():
            metrics.merge(part.outputs[name])
    return result


def _coarse(maps: ViewMaps | str, config: ModelConfig) -> Coarse:
    """Score, map and coarse mask.

    Raises:
        UserError: The image could not be read, or the network's answer is not finite.
    """
    if isinstance(maps, str):
        raise UserError(maps)
    coarse = localize(maps, config)
    if not np.isfinite(coarse.score):
        raise UserError("the image score is not finite: the model's weights are broken")
    return coarse


def _refined(
    refine: SetRefiner | None, some: list[tuple[Any, Coarse]], result: SetRows
) -> Iterator[tuple[tuple[Any, Coarse], dict[str, np.ndarray]]]:
    """Images with their refined masks; where a batch fails, each of its images by itself."""
    if refine is None or not some:
        yield from ((one, {}) for one in some)
        return
    try:
        masks = refine(some)
    except FAILURES:
        for one in some:
            try:
                (alone,) = refine([one])
            except FAILURES as error:
                result.failed[one[0]["name"]] = said(error)
            else:
                yield one, alone
    else:
        yield from zip(some, masks, strict=True)


def _count(
    result: SetRows,
    row: Any,
    coarse: Coarse,
    masks: dict[str, np.ndarray],
    asked: Mapping[str, PromptConfig],
    config: ModelConfig,
) -> None:
    """Take an image into the metrics of every output."""
    truth = load_levels(row, (coarse.mask.shape[0], coarse.mask.shape[1])) if result.has_masks else None
    soft = coarse.cam if config.prompts.threshold == 0.5 else coarse.mask
    answers = {COARSE: soft, **dict.fromkeys(asked, coarse.mask), **masks}
    for name, metrics in result.outputs.items():
        metrics.update(
            row["name"], label=int(row["label"]), score=coarse.score, pixel_map=answers[name], mask=truth
        )
    result.map_maxima[row["name"]] = float(coarse.raw_map.max())


def open_sets(data: DataConfig, more: Sequence[str] = ()) -> dict[str, ScoredSet]:
    """Each test set by its name; two of one name by their folder too.

    Args:
        data: The first set; without `root` and `list` only `more` are opened.
        more: Further sets, each `FOLDER` or `LAYOUT=FOLDER`.

    Raises:
        UserError: No set, an unknown layout, or a set that cannot be read.
    """
    described = [data] if data.root or data.list else []
    for text in more:
        layout, _, folder = text.rpartition("=")
        fields = {**dataclass_to_json(data), "root": folder, "layout": layout or "auto", "list": ""}
        described.append(dataclass_from_json(DataConfig, fields, f"--sets {text}"))
    if not described:
        raise UserError("no test set: name a folder with --data.root, and further ones with --sets")
    if len(set(described)) < len(described):
        raise UserError("the same test set is named twice: name each once")
    opened: dict[str, ScoredSet] = {}
    for one in described:
        found = open_scored(one)
        if not len(found.rows):
            name, problem = next(iter({**found.broken, **found.left_out}.items()))
            raise UserError(f"{one.root}: no image can be scored; {name}: {problem}")
        name = found.listing.dataset
        opened[name if name not in opened else f"{name} {one.root}"] = found
    return opened


def open_refiner(
    source: str, device: Any, cache: str = "", precision: Precision = "fp32"
) -> PromptedSegmenter | None:
    """The prompted segmenter that a command line names, its embeddings kept on disk; None for `none`."""
    if source == "none":
        return None
    embeddings = TensorCache(cache_folder("cabl-cgsr", cache) / "embeddings")
    return make_refiner(source, device=str(device), precision=precision, cache=embeddings)


def run(options: EvaluateOptions) -> int:
    """`cabl-cgsr evaluate`: print the tables and write the JSON; 1 if an image could not be scored, else 0."""
    if not options.models:
        raise UserError("no model given: name one or more model folders")
    accelerator = make_accelerator(options.precision)
    use_precision(options.precision, accelerator.device)
    with accelerator.main_process_first():
        sets = open_sets(options.data, options.sets)
    about, output = describe_evaluation(options, sets), Path()
    if accelerator.is_main_process:
        output = evaluation_file(options.models[0], options.output, *describe_options(options, list(sets)))
        check_evaluation(output, about)
        report_left_out(sets)
    refiner = open_refiner(options.refiner, accelerator.device, options.cache, precision_of(accelerator))
    explained, models = definitions(options.protocol), []
    untrained: list[list[str]] = []
    for model in options.models:
        localizer = Localizer.from_pretrained(model, device=accelerator.device)
        precision = precision_of(accelerator)
        speed_up(localizer, precision, compiled=options.compile, graphs=options.cuda_graphs, calls=CALLS)
        config = options.config_for(localizer.config)
        scores = []
        for name, opened in sets.items():
            found = collect_rows(
                localizer,
                opened.rows,
                refiner=refiner,
                variants=options.prompts or (config.prompts.variant,),
                config=config,
                cache=PredictionCache(options.cache),
                accelerator=accelerator,
                batch_size=options.batch_size,
                workers=options.data.workers,
                progress=True,
            )
            failed = {**opened.broken, **found.failed}
            found = replace(found, name=name, failed=failed, left_out=dict(opened.left_out))
            scores.append(set_scores(found, options.protocol, options.draws, calibration=config.calibration))
        scores = scores if len(scores) == 1 else [*scores, average(scores)]
        models.append((model, describe_protocol(config, precision_of(accelerator)), scores))
        if accelerator.is_main_process:
            untrained.append(tell_untrained(localizer, model))
            print(f"{model}\n{_tables(scores, options.protocol, explained)}\n")
    if not accelerator.is_main_process:
        return 0
    result: dict[str, Any] = {
        **about,
        "refiner": "none" if refiner is None else refiner.name,
        "refined": REFINED,
        "precision": precision_of(accelerator),
        "definitions": explained,
        "models": [
            {
                "model": model,
                "untrained": parts,
                "protocol": protocol,
                "sets": [one.to_json() for one in scores],
            }
            for (model, protocol, scores), parts in zip(models, untrained, strict=True)
        ],
    }
    if len(models) > 1:
        spread = over_models([scores for _, _, scores in models])
        result["mean_and_deviation"] = [{"set": name, "metrics": metrics} for name, metrics in spread]
        print(f"mean ± sample standard deviation over {len(models)} models\n{spread_table(spread)}\n")
    write_json(output, result)
    print(f"protocol: {models[0][1]}\nrefiner: {result['refiner']}, for {REFINED}")
    if options.protocol == "paper":
        print("\n".join(f"{name}: {meaning}" for name, meaning in explained.items()))
    print(f"written: {output}")
    return report_failed(
        [failed for _, _, scores in models for one in scores for failed in one.failed.items()]
    )


def report_left_out(sets: Mapping[str, ScoredSet]) -> None:
    """Say on stderr what of the sets is not scored, as it has no mask."""
    for name, opened in sets.items():
        if opened.left_out:
            told = [one_line(f"{image} ({problem})") for image, problem in opened.left_out.items()]
            more = f", and {len(told) - 5:,} more" if len(told) > 5 else ""
            print(
                f"{name}: left out {len(told):,} manipulated images: {', '.join(told[:5])}{more}",
                file=sys.stderr,
            )


def report_failed(failed: Sequence[tuple[str, str]]) -> int:
    """Say on stderr which images could not be scored, and why; the exit code."""
    failed = list(dict.fromkeys(failed))
    for name, problem in failed[:20]:
        print(f"failed: {one_line(name)}: {one_line(problem)}", file=sys.stderr)
    if failed:
        print(
            f"{len(failed):,} images could not be scored: the metrics are those of the others",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _tables(scores: Sequence[SetScores], protocol: str, explained: dict[str, str]) -> str:
    columns = [name for name in scores[0].metrics if name.partition(".")[0] in ("i_auc", "p_f1")]
    text = table(scores, columns)
    return text if protocol == "paper" else f"{text}\n\n{protocol_table(scores, explained)}"


def describe_evaluation(
    options: EvaluateOptions | RobustnessOptions, sets: Mapping[str, ScoredSet]
) -> dict[str, Any]:
    """What tells an evaluation from every other, as its file holds it."""
    return {
        "model": [str(Path(model).resolve()) if Path(model).exists() else model for model in options.models],
        "data": {name: str(opened.listing.base.resolve()) for name, opened in sets.items()},
        "options": sorted(told_options(options)),
    }


def describe_options(options: EvaluateOptions | RobustnessOptions, sets: Sequence[str]) -> list[str]:
    """What tells an evaluation from others of its first model: further models, sets, and what is not the default."""
    others = ["-".join(["with", *Path(model).parts[-2:]]) for model in options.models[1:]]
    about = [*others, *sets, *told_options(options)]
    if len("-".join(about)) <= LONGEST_NAME:
        return about
    digest = hashlib.blake2b(repr(about).encode(), digest_size=6).hexdigest()
    return ["-".join(about)[:LONGEST_NAME], digest]


def told_options(options: EvaluateOptions | RobustnessOptions) -> list[str]:
    """Options that are not the default and change the result, each as `NAME-VALUE`."""
    told = []
    for section, default in ((options, type(options)(models=())), (options.data, DataConfig())):
        for name, value in vars(section).items():
            if name not in UNTOLD and value != getattr(default, name):
                values = value if isinstance(value, tuple) else (value,)
                told.append("-".join([name, *(Path(str(one)).name for one in values)]))
    return told
