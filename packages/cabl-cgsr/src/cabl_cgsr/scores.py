"""Rows of evaluated images -> the metrics of a protocol, their intervals, and their spread over models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cabl_cgsr.calibration import calibration_error, probability
from cabl_cgsr.config import Calibration
from papers_shared.errors import UserError
from papers_shared.metrics import ForensicsMetrics, interval, resamples, roc_auc
from papers_shared.metrics.forensics import PROTOCOLS
from papers_shared.metrics.means import mean

COARSE = "coarse"
"""The output without refinement; the others are named by their prompts."""

IMAGE_DEFINITIONS = {
    "i_auc": "area under the ROC curve over all images of the set, ties count half; score: mean of both branches' "
    "probabilities over all scales and mirrors",
    "i_auc_map_maximum": "i_auc with the largest value of the unscaled map as the score, as MVSS-Net takes it",
    "accuracy": "share of right verdicts, score > 0.5",
    "image_f1": "F1 of the verdict score > 0.5",
    "image_f1_wscl": "harmonic mean of sensitivity and specificity, which WSCL and MVSS-Net call image F1",
    "combined_f1_wscl": "harmonic mean of image_f1_wscl and p_f1, WSCL's C-F1",
}


@dataclass
class SetRows:
    """What the metrics of one set are made of."""

    name: str
    has_masks: bool
    outputs: dict[str, ForensicsMetrics] = field(default_factory=dict)
    """`coarse`, and one for each prompt variant."""
    map_maxima: dict[str, float] = field(default_factory=dict)
    """Largest value of the unscaled map, by image."""
    failed: dict[str, str] = field(default_factory=dict)
    """Images that could not be scored, and why."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Manipulated images without a mask that fits, and why."""


@dataclass
class SetScores:
    """Metrics of one set, or of the mean over sets; fractions, None where a metric does not exist."""

    name: str
    images: int
    manipulated: int
    metrics: dict[str, float | None]
    """`i_auc`, `p_f1.coarse`, ...: a name of `definitions()`, and for pixel metrics the output."""
    intervals: dict[str, tuple[float, float] | None]
    """95 % bootstrap intervals of `i_auc` and `p_f1`."""
    draws: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    """The metrics of each bootstrap draw."""
    failed: dict[str, str] = field(default_factory=dict)
    """Images that could not be scored, and why: the metrics are those of the others."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Manipulated images without a mask that fits, and why."""
    calibration_error: dict[str, float] = field(default_factory=dict)
    """Expected calibration error in ten bins: of the `score`, and of the model's calibrated `probability`."""

    def to_json(self) -> dict[str, Any]:
        return {
            "set": self.name,
            "images": self.images,
            "manipulated": self.manipulated,
            "metrics": self.metrics,
            "intervals_95": self.intervals,
            "calibration_error": self.calibration_error,
            "left_out": self.left_out,
            "failed": self.failed,
        }


def definitions(protocol: str) -> dict[str, str]:
    """The metrics of a protocol (`paper` or `all`) with what each means."""
    if protocol == "paper":
        return {"i_auc": IMAGE_DEFINITIONS["i_auc"], "p_f1": PROTOCOLS["p_f1"]}
    return {**IMAGE_DEFINITIONS, **PROTOCOLS}


def set_scores(
    rows: SetRows,
    protocol: str = "paper",
    draws: int = 1000,
    seed: int = 0,
    *,
    calibration: Calibration | None = None,
) -> SetScores:
    """The metrics of one set.

    Args:
        draws: Bootstrap draws of the set's images; 0: no intervals.
        calibration: The model's.

    Raises:
        UserError: No image could be scored.
    """
    if not rows.outputs[COARSE].rows:
        name, problem = next(iter(rows.failed.items()), ("", "it holds none"))
        raise UserError(f"{rows.name}: no image could be scored; {name}: {problem}")
    asked, metrics = definitions(protocol), {}
    ordered = rows.outputs[COARSE].ordered()
    labels, scores = np.array([row.label for row in ordered]), np.array([row.score for row in ordered])
    by_output = {output: counted.compute() for output, counted in rows.outputs.items()}
    image = by_output[COARSE]
    for name in asked:
        if name == "i_auc_map_maximum":
            maxima = np.array([rows.map_maxima[key] for key in sorted(rows.map_maxima)])
            metrics[name] = roc_auc(maxima, labels)
        elif name == "combined_f1_wscl" or name in PROTOCOLS:
            for output, computed in by_output.items():
                value = getattr(computed, name) if name == "combined_f1_wscl" else computed.pixel[name]
                metrics[f"{name}.{output}"] = value if rows.has_masks else None
        else:
            metrics[name] = getattr(image, name)
    drawn = _bootstrap(rows, labels, scores, draws, seed) if draws else {}
    intervals = {name: interval(values) for name, values in drawn.items()}
    calibrated = [probability(score, calibration or Calibration()) for score in scores]
    return SetScores(
        rows.name,
        len(ordered),
        int(labels.sum()),
        metrics,
        intervals,
        drawn,
        rows.failed,
        rows.left_out,
        {
            "score": calibration_error(labels, scores),
            "probability": calibration_error(labels, np.array(calibrated)),
        },
    )


def average(sets: Sequence[SetScores]) -> SetScores:
    """The mean over sets of each metric, as in the paper's last column; None where a set lacks it."""
    metrics = {name: _mean([scores.metrics[name] for scores in sets]) for name in sets[0].metrics}
    draws = {
        name: np.mean([scores.draws[name] for scores in sets], axis=0)
        for name in sets[0].draws
        if all(name in scores.draws for scores in sets)
    }
    intervals = {name: interval(values) for name, values in draws.items()}
    images, manipulated = sum(s.images for s in sets), sum(s.manipulated for s in sets)
    return SetScores("average", images, manipulated, metrics, intervals, draws)


def over_models(
    models: Sequence[Sequence[SetScores]],
) -> list[tuple[str, dict[str, tuple[float, float] | None]]]:
    """For each set, over several models: mean and sample standard deviation of each metric.

    Raises:
        UserError: the models were not scored on the same sets.
    """
    names = [[scores.name for scores in sets] for sets in models]
    if any(other != names[0] for other in names):
        raise UserError("the models were scored on different sets and cannot be averaged")
    result = []
    for same in zip(*models, strict=True):
        spread: dict[str, tuple[float, float] | None] = {}
        for name in same[0].metrics:
            values = [scores.metrics[name] for scores in same]
            known = [value for value in values if value is not None]
            full = len(known) == len(values) > 1
            spread[name] = (float(np.mean(known)), float(np.std(known, ddof=1))) if full else None
        result.append((same[0].name, spread))
    return result


def _bootstrap(
    rows: SetRows, labels: np.ndarray, scores: np.ndarray, draws: int, seed: int
) -> dict[str, np.ndarray]:
    indices = resamples(len(labels), draws, seed)
    areas = [roc_auc(scores[drawn], labels[drawn]) for drawn in indices]
    result = {"i_auc": np.array([np.nan if area is None else area for area in areas])}
    for output, counts in rows.outputs.items() if rows.has_masks else ():
        counted = [row.label == 1 and row.tp + row.fn > 0 for row in counts.ordered()]
        f1 = np.array([row.f1 for row in counts.ordered()])
        chosen = np.array(counted)[indices]
        number = chosen.sum(axis=1)
        with np.errstate(invalid="ignore"):
            result[f"p_f1.{output}"] = (f1[indices] * chosen).sum(axis=1) / number
    return result


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if len(known) == len(values) else None


def table(sets: Sequence[SetScores], columns: Sequence[str]) -> str:
    """Sets as rows, metrics as columns, each with its interval."""
    header = ["set", "images", *columns]
    lines = [[scores.name, str(scores.images), *(_cell(scores, name) for name in columns)] for scores in sets]
    return _aligned([header, *lines])


def protocol_table(sets: Sequence[SetScores], explained: dict[str, str]) -> str:
    """Metrics as rows, sets as columns, the definition at the end of each row."""
    lines = [["metric", *(scores.name for scores in sets), "definition"]]
    for name in sets[0].metrics:
        values = [scores.metrics[name] for scores in sets]
        lines.append([name, *map(number, values), explained[name.partition(".")[0]]])
    return _aligned(lines)


def spread_table(spread: Sequence[tuple[str, dict[str, tuple[float, float] | None]]]) -> str:
    """Sets as rows, mean ± standard deviation of each metric over the models."""
    names = list(spread[0][1])
    lines = [["set", *names]]
    for name, metrics in spread:
        cells = []
        for metric in names:
            pair = metrics[metric]
            cells.append("-" if pair is None else f"{pair[0]:.3f} ± {pair[1]:.3f}")
        lines.append([name, *cells])
    return _aligned(lines)


def number(value: float | None) -> str:
    """A fraction with three digits, as the paper prints them."""
    return "-" if value is None else f"{value:.3f}"


def _cell(scores: SetScores, name: str) -> str:
    text, bounds = number(scores.metrics[name]), scores.intervals.get(name)
    return text if bounds is None else f"{text} [{bounds[0]:.3f}, {bounds[1]:.3f}]"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
