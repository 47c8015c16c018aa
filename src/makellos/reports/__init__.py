"""Reports for people: self-contained HTML pages made from results."""

from __future__ import annotations

from makellos.reports.comparison import (
    ComparedDetector,
    ComparisonReport,
    Disputed,
    Judged,
    difference_sentence,
    render_comparison,
)
from makellos.reports.evaluation import EvaluationReport, render_evaluation
from makellos.reports.gallery import GalleryItem
from makellos.reports.pages import write_page
from makellos.reports.provenance import provenance
from makellos.reports.queue import QueueReport, render_queue
from makellos.reports.ranked import ComparedRun
from makellos.reports.thumbnails import Thumbnails, draw_thumbnails
from makellos.reports.trend import headline, render_trend
from makellos.reports.trend_charts import TrendPage
from makellos.reports.tuning import TuningReport, TuningTrial, render_tuning

__all__ = [
    "ComparedDetector",
    "ComparedRun",
    "ComparisonReport",
    "Disputed",
    "EvaluationReport",
    "GalleryItem",
    "Judged",
    "QueueReport",
    "Thumbnails",
    "TrendPage",
    "TuningReport",
    "TuningTrial",
    "difference_sentence",
    "draw_thumbnails",
    "headline",
    "provenance",
    "render_comparison",
    "render_evaluation",
    "render_queue",
    "render_trend",
    "render_tuning",
    "write_page",
]
