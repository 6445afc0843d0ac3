"""Accumulators with `update`, `merge` and `compute`."""

from papers_shared.metrics.bootstrap import interval, resamples
from papers_shared.metrics.forensics import ForensicsMetrics, ForensicsScores, roc_auc
from papers_shared.metrics.grounding import GroundingMetrics, GroundingScores
from papers_shared.metrics.segmentation import ConfusionMatrix, SegmentationScores

__all__ = [
    "ConfusionMatrix",
    "ForensicsMetrics",
    "ForensicsScores",
    "GroundingMetrics",
    "GroundingScores",
    "SegmentationScores",
    "interval",
    "resamples",
    "roc_auc",
]
