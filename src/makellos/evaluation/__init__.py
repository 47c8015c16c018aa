"""Metrics: arrays in, figures out.

`ranking` judges scores of whole parts, `pixels` anomaly maps against masks, `rates` verdicts, and
`intervals` says how sure the figures are.
"""

from __future__ import annotations

from makellos.evaluation.intervals import ImageIntervals, Interval, image_intervals
from makellos.evaluation.pixel_intervals import PixelIntervals
from makellos.evaluation.pixels import PixelFigures, PixelMetrics, pixel_figures
from makellos.evaluation.ranking import (
    BestAccuracy,
    F1Max,
    PrecisionRecallCurve,
    RocCurve,
    auroc,
    average_precision,
    best_accuracy,
    f1_max,
    precision_recall_curve,
    roc_curve,
)
from makellos.evaluation.rates import (
    DefectFigures,
    Rates,
    SizeFigures,
    by_defect,
    damaged_area,
    defective_from_labels,
    misses_by_size,
    rates_at_threshold,
    verdict_rates,
)

__all__ = [
    "BestAccuracy",
    "DefectFigures",
    "F1Max",
    "ImageIntervals",
    "Interval",
    "PixelFigures",
    "PixelIntervals",
    "PixelMetrics",
    "PrecisionRecallCurve",
    "Rates",
    "RocCurve",
    "SizeFigures",
    "auroc",
    "average_precision",
    "best_accuracy",
    "by_defect",
    "damaged_area",
    "defective_from_labels",
    "f1_max",
    "image_intervals",
    "misses_by_size",
    "pixel_figures",
    "precision_recall_curve",
    "rates_at_threshold",
    "roc_curve",
    "verdict_rates",
]
