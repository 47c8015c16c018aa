"""The HTML report of an evaluation: one file to read, mail and print, without any request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from makellos.reports import gallery, statements, tables
from makellos.reports.charts import Histogram, ScoredPart, score_histogram
from makellos.reports.classes import class_section
from makellos.reports.curves import Curve, curve, promise_curve
from makellos.reports.formats import finite, whole
from makellos.reports.gallery import GalleryItem
from makellos.reports.metrics import metrics
from makellos.reports.pages import NARROW, WIDE, render_page

__all__ = ["EvaluationReport", "render_evaluation"]

MAX_FIRST_KINDS = 8


@dataclass(frozen=True)
class EvaluationReport:
    """Hold all that the report of one evaluation shows.

    `figures` is what `evaluate --json` writes, with `false_alarms`, `false_alarms_asked`,
    `n_look_again_good`, `n_look_again_defective`, `look_again_threshold` and `by_size` (entries
    with `name`, `low`, `high`, `n`, `n_missed` and, where known, `n_look_again`). Any metric may be
    None. With `confusion_matrix` and the other figures of `ClassFigures` there is a section of the
    classes. `roc` is (false positive rates, true positive rates), `precision_recall` is (recalls,
    precisions). Unreadable parts stand in `items` and are left out of `figures`.
    `panels` are names of recordings and their encoded pictures. `promised` are how many good parts
    or groups set the threshold, for which budget, and what they are called.
    """

    title: str
    data: str
    created: str
    figures: Mapping[str, Any]
    items: Sequence[GalleryItem]
    roc: tuple[Sequence[float], Sequence[float]] | None
    precision_recall: tuple[Sequence[float], Sequence[float]] | None
    provenance: Mapping[str, str]
    notes: Sequence[str]
    panels: Sequence[tuple[str, bytes]] = ()
    promised: tuple[int, float, str] | None = None


def render_evaluation(report: EvaluationReport) -> str:
    """Return the report as one HTML page with style, script, charts and pictures inside."""
    figures = report.figures
    threshold = finite(figures.get("threshold"))
    kinds, sizes = tables.kinds(figures), tables.sizes(figures)
    return render_page(
        "evaluation.html.j2",
        report=report,
        figures=figures,
        threshold=threshold,
        budget_note=statements.budget_note(figures),
        statements=(
            statements.misses_statement(statements.by_recording(figures)),
            statements.false_alarms_statement(statements.by_recording(figures)),
        ),
        nouns=statements.noun_of(figures),
        auroc_name="AUROC of windows" if figures.get("recordings") else "Image AUROC",
        kinds=kinds,
        first_kinds=kinds[:MAX_FIRST_KINDS],
        worst_kind=tables.worst_group(kinds),
        sizes=sizes,
        worst_size=tables.worst_group(sizes),
        verdict_rows=tables.verdict_rows(figures, report.items),
        histograms=_histograms(report, threshold),
        roc=curve(*report.roc, point=_rates(report.figures)) if report.roc else None,
        precision_recall=_precision_recall(report),
        sections=gallery.sections(report.items, threshold),
        listing=gallery.listing(report.items, threshold),
        unreadable=[i for i in report.items if i.verdict == "unreadable"],
        metrics=metrics(figures),
        classes=class_section(figures),
        recordings=tables.recordings(figures),
        panels=report.panels,
        facts=tables.facts(figures),
        promise=None if report.promised is None else promise_curve(*report.promised[:2]),
        promise_range=None
        if report.promised is None
        else statements.range_sentence(*report.promised),
    )


def _histograms(report: EvaluationReport, threshold: float | None) -> list[Histogram]:
    """Return the score histogram for wide and for narrow screens, or nothing."""
    parts = [
        ScoredPart(score, item.label != "good", gallery.outcome(item))
        for item in report.items
        if item.verdict != "unreadable" and (score := finite(item.score)) is not None
    ]
    drawn = [
        score_histogram(
            parts,
            threshold=threshold,
            look_again_threshold=finite(report.figures.get("look_again_threshold")),
            width=width,
        )
        for width in (WIDE, NARROW)
    ]
    return [histogram for histogram in drawn if histogram is not None]


def _rates(figures: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return (false-alarm rate, share of defective parts rejected)."""
    missed = finite(figures.get("miss_rate"))
    return finite(figures.get("false_alarm_rate")), None if missed is None else 1 - missed


def _precision_recall(report: EvaluationReport) -> Curve | None:
    if report.precision_recall is None:
        return None
    n_good = whole(report.figures.get("n_good")) or 0
    n_bad = whole(report.figures.get("n_defective")) or 0
    alarms, recall = _rates(report.figures)
    rejected = 0.0 if alarms is None or recall is None else alarms * n_good + recall * n_bad
    precision = (recall or 0.0) * n_bad / rejected if rejected else None
    prevalence = n_bad / (n_good + n_bad) if n_good + n_bad else 0.0
    return curve(
        *report.precision_recall, point=(recall, precision), reference=(prevalence, prevalence)
    )
