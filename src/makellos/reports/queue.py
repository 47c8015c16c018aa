"""The page that compares the runs of a queue: ranked charts, a sortable table, what failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from makellos.reports.formats import MISSING, auroc, count, finite, percent
from makellos.reports.pages import render_page
from makellos.reports.ranked import (
    STATES,
    ComparedRun,
    number,
    ranked,
    ranked_charts,
    spread,
)

__all__ = ["QueueReport", "render_queue"]


@dataclass(frozen=True)
class QueueReport:
    """Hold all that the page of a queue shows."""

    title: str
    file: str
    created: str
    runs: Sequence[ComparedRun]


def render_queue(report: QueueReport) -> str:
    """Return the page with style, script and charts inside."""
    done = [run for run in report.runs if run.state == "done"]
    by_data = {run.data: [each for each in done if each.data == run.data] for run in done}
    ticks, groups = ranked_charts(by_data)
    columns = [column for column in _COLUMNS if any(column[1](run) for run in report.runs)]
    return render_page(
        "queue.html.j2",
        report=report,
        counts={state: sum(run.state == state for run in report.runs) for state in STATES},
        groups=groups,
        ticks=ticks,
        several=len({run.data for run in report.runs if run.data}) > 1,
        columns=[name for name, *_ in columns],
        table=[
            (run, [(read(run) or MISSING, below(run)) for _, read, below in columns])
            for run in ranked(report.runs)
        ],
        failed=[run for run in report.runs if run.state == "failed"],
        noted=[(run, run.figures.get("notes") or []) for run in done if run.figures.get("notes")],
    )


def _spread_text(run: ComparedRun) -> str:
    found = spread(run)
    return "" if found is None else f"{auroc(found[0])} to {auroc(found[1])}"


def _share(run: ComparedRun, name: str) -> str:
    value = number(run, name)
    return "" if value is None else percent(value)


def _seconds(run: ComparedRun) -> str:
    value = finite(run.fit_seconds)
    return "" if value is None else count(value) if value >= 10 else f"{value:.1f}"


def _inspect(run: ComparedRun) -> str:
    value = number(run, "inspect_ms_per_part")
    return "" if value is None else f"{value:.3g}"


def _nothing(run: ComparedRun) -> str:
    del run
    return ""


# Name, text of a run's cell, and what stands small below it.
_COLUMNS = (
    ("AUROC", lambda run: auroc(run.figures.get("image_auroc")), _spread_text),
    ("Missed", lambda run: _share(run, "miss_rate"), _nothing),
    ("False alarms", lambda run: _share(run, "false_alarm_rate"), _nothing),
    ("Accuracy", lambda run: _share(run, "accuracy"), _nothing),
    ("Balanced", lambda run: _share(run, "balanced_accuracy"), _nothing),
    ("Macro F1", lambda run: auroc(run.figures.get("macro_f1")), _nothing),
    ("Fit, s", _seconds, _nothing),
    ("Inspect, ms", _inspect, _nothing),
)
