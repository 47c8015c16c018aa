"""The trend of a machine over its recordings: the first lasting alarm, and its page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from makellos.errors import InputError
from makellos.evaluation.trends import times_of_names, trend
from makellos.inspection import Inspection, Inspector
from makellos.reports.pages import write_page
from makellos.reports.trend import headline, render_trend
from makellos.reports.trend_charts import TrendPage

__all__ = ["TrendSummary", "natural_order", "write_trend_of"]


@dataclass(frozen=True)
class TrendSummary:
    """Say from which recording on an alarm lasts (None: none does), and how long before the end.

    `lead` is in s, or in recordings where their names hold no times (`timed` says which).
    """

    headline: str
    first_alarm: str | None
    lead: float | None
    timed: bool
    n_passing: int


def write_trend_of(
    inspections: Sequence[Inspection], inspector: Inspector, page: Path
) -> TrendSummary:
    """Order recordings by the times in their names, else by name, and write their trend's page.

    Raises `InputError` for no recording, `StorageError` when the page cannot be written.
    """
    if not inspections:
        raise InputError(
            "There are no recordings, so there is no trend. Give a folder of recordings."
        )
    names = [Path(each.input).name for each in inspections]
    times = times_of_names(names)
    keys: list[object] = [natural_order(name) for name in names] if times is None else [*times]
    order = sorted(range(len(names)), key=lambda i: keys[i])  # type: ignore[arg-type,return-value]
    ordered = [inspections[i] for i in order]
    scores, verdicts = [each.score for each in ordered], [each.verdict for each in ordered]
    when = None if times is None else [times[i] for i in order]
    found = trend(scores, verdicts, when)
    shown = TrendPage(
        title=Path(inspections[0].input).resolve().parent.name,
        names=[names[i] for i in order],
        scores=scores,
        verdicts=verdicts,
        times=when,
        threshold=inspector.threshold,
        look_again_threshold=None,
        trend=found,
        findings=[_finding(each) for each in ordered],
        provenance={
            "Model": inspector.model.path.name,
            "Detector": inspector.manifest.detector.name,
            "Learned from": inspector.manifest.training.data,
        },
    )
    write_page(page, render_trend(shown))
    return TrendSummary(
        headline=headline(shown),
        first_alarm=None if found.first_alarm is None else names[order[found.first_alarm]],
        lead=found.lead,
        timed=when is not None,
        n_passing=found.n_before,
    )


def natural_order(name: str) -> list[tuple[int, int | str]]:
    """Return a key that puts 2.csv before 10.csv."""
    pieces = re.split(r"(\d+)", name)
    return [(0, int(piece)) if piece.isdecimal() else (1, piece) for piece in pieces]


def _finding(inspection: Inspection) -> str | None:
    found = inspection.recording
    if found is None or found.fault is None:
        return inspection.error
    return found.fault.sentence if found.fault.fault else None
