"""Reports for people: self-contained HTML pages made from results."""

from __future__ import annotations

from makellos.reports.evaluation import (
    EvaluationReport,
    GalleryItem,
    render_evaluation,
    write_evaluation,
)

__all__ = ["EvaluationReport", "GalleryItem", "render_evaluation", "write_evaluation"]
