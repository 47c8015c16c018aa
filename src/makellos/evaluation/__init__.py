"""Metrics: arrays in, figures out.

`ranking` judges scores of whole parts, `pixels` anomaly maps against masks, `rates` verdicts,
`classes` the classes that a classifier names, `intervals` says how sure the figures are, and
`paired` whether two detectors differ by more than chance. `outcomes` puts them together into the
`result` of an evaluation, `acceptance` into that of an acceptance test.
"""

from __future__ import annotations

from makellos.evaluation.acceptance import (
    AcceptanceFigures,
    Judged,
    Promise,
    acceptance_figures,
    promise_figures,
)
from makellos.evaluation.attribute_study import AttributeStudy, attribute_study, cohen_kappa
from makellos.evaluation.class_intervals import ClassIntervals, class_intervals
from makellos.evaluation.classes import ClassFigures, OneClass, ReliabilityBin, class_figures
from makellos.evaluation.detection_curve import DetectionCurve, detection_curve
from makellos.evaluation.exact import Share, exact_bounds, share_of
from makellos.evaluation.intervals import ImageIntervals, Interval, Resampling, image_intervals
from makellos.evaluation.localisation import (
    LocalisationFigures,
    Located,
    damage_length,
    localisation,
    localisation_by_defect,
    locate,
)
from makellos.evaluation.outcomes import Outcome, overall_figures
from makellos.evaluation.paired import Difference, PairedDifferences, paired_differences
from makellos.evaluation.pixel_intervals import PixelIntervals
from makellos.evaluation.pixels import PixelFigures, PixelMetrics, pixel_figures
from makellos.evaluation.promise import PromiseCheck, check_promise
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
from makellos.evaluation.result import (
    Evaluation,
    LocalisationByDefect,
    SizeGroup,
    UnreadablePart,
)

__all__ = [
    "AcceptanceFigures",
    "AttributeStudy",
    "BestAccuracy",
    "ClassFigures",
    "ClassIntervals",
    "DefectFigures",
    "DetectionCurve",
    "Difference",
    "Evaluation",
    "F1Max",
    "ImageIntervals",
    "Interval",
    "Judged",
    "LocalisationByDefect",
    "LocalisationFigures",
    "Located",
    "OneClass",
    "Outcome",
    "PairedDifferences",
    "PixelFigures",
    "PixelIntervals",
    "PixelMetrics",
    "PrecisionRecallCurve",
    "Promise",
    "PromiseCheck",
    "Rates",
    "ReliabilityBin",
    "Resampling",
    "RocCurve",
    "Share",
    "SizeFigures",
    "SizeGroup",
    "UnreadablePart",
    "acceptance_figures",
    "attribute_study",
    "auroc",
    "average_precision",
    "best_accuracy",
    "by_defect",
    "check_promise",
    "class_figures",
    "class_intervals",
    "cohen_kappa",
    "damage_length",
    "damaged_area",
    "defective_from_labels",
    "detection_curve",
    "exact_bounds",
    "f1_max",
    "image_intervals",
    "localisation",
    "localisation_by_defect",
    "locate",
    "misses_by_size",
    "overall_figures",
    "paired_differences",
    "pixel_figures",
    "precision_recall_curve",
    "promise_figures",
    "rates_at_threshold",
    "roc_curve",
    "share_of",
    "verdict_rates",
]
