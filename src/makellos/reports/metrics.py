"""The metrics table of an evaluation report: values, 95 % intervals and what each one says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from makellos.reports.formats import decimal, finite, interval_of, percent, percent_range

__all__ = ["Metric", "metrics"]

Span = tuple[float, float]


@dataclass(frozen=True)
class Metric:
    """Hold one row of the metrics table; `span` is (low, high) in [0, 1] for the small bar."""

    name: str
    value: str
    interval: str | None
    meaning: str
    missing: str | None
    at: float | None
    span: Span | None


@dataclass(frozen=True)
class _Entry:
    """Describe a metric; an optional one has no row where it was not measured."""

    key: str
    name: str
    needs: str
    meaning: str
    is_share: bool = False
    optional: bool = False


_BOTH = "needs good and defective parts"
_MASKS = "needs masks of the damage"
_BEST_F1 = (
    "Best balance of finding defects and sparing good parts at any threshold. It picks that "
    "threshold knowing the defects, so it is a ceiling, not a forecast."
)
_PIXEL_AUROC = (
    "Chance that a damaged pixel is hotter on the map than a sound one. Large damage and wide "
    "background dominate it."
)
_AUPRO = (
    "How much of each damaged spot the map covers, small and large spots alike, while at most "
    "30\u202f% of the sound pixels are marked. 1 is perfect."
)
_PIXEL_AP = (
    "Share of damage among the hottest pixels, averaged over all cut-offs. Lower than pixel AUROC, "
    "since damage is a small share of all pixels."
)
_AUPRO_5 = (
    "The same while at most 5\u202f% of the sound pixels are marked: stricter, as in MVTec AD 2."
)
_SEG_F1 = (
    "How well the pixels outlined at the calibrated threshold agree with the masks, over all "
    "pictures together, as in MVTec AD 2. Masks drawn generously lower it."
)
_PIXEL_F1_MAX = (
    "The same at the best threshold of all. It picks that knowing the masks, so it is a ceiling, "
    "not a forecast."
)
_OPTIMISTIC = (
    "Accuracy that the best threshold on this test set would have had. It picks that threshold "
    "knowing the defects, so it is a ceiling, not a forecast; tutorials quote it."
)
_share = partial(_Entry, is_share=True)
_optional = partial(_Entry, optional=True)
_optional_share = partial(_Entry, is_share=True, optional=True)
_ENTRIES = (
    _share(
        "miss_rate",
        "Miss rate",
        "needs defective parts",
        "Share of the defective parts that were not rejected. Lower is better.",
    ),
    _share(
        "false_alarm_rate",
        "False-alarm rate",
        "needs good parts",
        "Share of the good parts that were rejected. Should not exceed the budget.",
    ),
    _share(
        "accuracy",
        "Accuracy",
        _BOTH,
        "Share of all parts judged correctly at this threshold. Depends on the mix of parts.",
    ),
    _optional_share("optimistic_accuracy", "Best accuracy (optimistic)", _BOTH, _OPTIMISTIC),
    _Entry(
        "image_auroc",
        "Image AUROC",
        _BOTH,
        "Chance that a defective part scores higher than a good one. 1 is perfect, 0.5 a guess.",
    ),
    _Entry(
        "image_ap",
        "Average precision",
        _BOTH,
        "Share of real defects among the highest scores, averaged over all cut-offs. 1 is perfect.",
    ),
    _Entry("f1_max", "Best F1", _BOTH, _BEST_F1),
    _Entry("pixel_auroc", "Pixel AUROC", _MASKS, _PIXEL_AUROC),
    _optional("pixel_ap", "Pixel average precision", _MASKS, _PIXEL_AP),
    _Entry("aupro", "AUPRO", _MASKS, _AUPRO),
    _optional("aupro_5", "AUPRO to 5\u202f%", _MASKS, _AUPRO_5),
    _optional("seg_f1", "SegF1", _MASKS, _SEG_F1),
    _optional("pixel_f1_max", "Best F1 of pixels", _MASKS, _PIXEL_F1_MAX),
    _optional_share(
        "balanced_accuracy",
        "Balanced accuracy",
        _BOTH,
        "Share judged correctly at this threshold, averaged over good and defective parts, so that "
        "the rarer kind counts as much.",
    ),
    _optional_share(
        "precision",
        "Precision",
        _BOTH,
        "Share of the rejected parts that are defective. Depends on the mix of parts tested.",
    ),
    _optional_share(
        "recall",
        "Recall",
        "needs defective parts",
        "Share of the defective parts that were rejected: one minus the miss rate.",
    ),
    _optional(
        "f1", "F1", _BOTH, "Balance of precision and recall at this threshold. 1 is perfect."
    ),
    _optional_share(
        "accuracy_of_classes",
        "Accuracy of classes",
        "needs parts of known classes",
        "Share of the parts whose likeliest class is the true one.",
    ),
    _optional_share(
        "balanced_accuracy_of_classes",
        "Balanced accuracy of classes",
        "needs parts of two classes",
        "The same, averaged over the classes, so that rare classes count as much.",
    ),
    _optional(
        "macro_f1",
        "Macro F1",
        _BOTH,
        "Balance of finding a class and not naming it wrongly, averaged over the classes.",
    ),
    _optional_share(
        "ece",
        "Calibration error (ECE)",
        "needs parts of known classes",
        "How far confidence and the share named correctly differ, on average. Chance alone keeps "
        "it above 0, the more so with few parts.",
    ),
)


def metrics(figures: Mapping[str, Any]) -> list[Metric]:
    """Return the metrics with their 95 % intervals, their meaning and what a missing one needs."""
    entries = map(_of_windows, _ENTRIES) if figures.get("recordings") else iter(_ENTRIES)
    return [
        _metric(entry, finite(figures.get(entry.key)), interval_of(figures, entry.key))
        for entry in entries
        if not (entry.optional and finite(figures.get(entry.key)) is None)
    ]


def _of_windows(entry: _Entry) -> _Entry:
    """Return the entry for windows of recordings, which have no masks."""
    return replace(
        entry,
        name=entry.name.replace("Image AUROC", "AUROC of windows"),
        meaning=re.sub(r"\bpart", "window", entry.meaning),
        needs=re.sub(r"\bpart", "window", entry.needs),
        optional=entry.optional or entry.needs == _MASKS,
    )


def _metric(entry: _Entry, value: float | None, interval: Span | None) -> Metric:
    span = None if interval is None else (max(0.0, interval[0]), min(1.0, interval[1]))
    return Metric(
        name=entry.name,
        value=percent(value) if entry.is_share else decimal(value),
        interval=_range(span, is_share=entry.is_share),
        meaning=entry.meaning,
        missing=f"not measured: {entry.needs}" if value is None else None,
        at=value,
        span=span,
    )


def _range(span: Span | None, *, is_share: bool) -> str | None:
    if span is None:
        return None
    return percent_range(span) if is_share else f"{decimal(span[0])} to {decimal(span[1])}"
