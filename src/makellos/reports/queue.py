"""The page that compares the runs of a queue: ranked charts, a sortable table, what failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from makellos.reports.formats import MISSING, auroc, count, finite, percent
from makellos.reports.pages import render_page
from makellos.reports.ranked import (
    STATES,
    ComparedRun,
    number,
    ranked,
    ranked_charts,
    spread_text,
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
    groups = ranked_charts(by_data)
    columns = [(name, read) for name, read in _COLUMNS if any(map(read, report.runs))]
    return render_page(
        "queue.html.j2",
        report=report,
        counts={state: sum(run.state == state for run in report.runs) for state in STATES},
        groups=groups,
        several=len({run.data for run in report.runs if run.data}) > 1,
        columns=[name for name, _ in columns],
        table=[
            (
                run,
                [(read(run) or MISSING, _below(run, name)) for name, read in columns],
            )
            for run in ranked(report.runs)
        ],
        failed=[run for run in report.runs if run.state == "failed"],
        noted=[(run, run.figures.get("notes") or []) for run in done if run.figures.get("notes")],
    )


def _below(run: ComparedRun, name: str) -> str:
    return {"Missed": spread_text(run, "miss_rate"), "AUROC": spread_text(run)}.get(name, "")


def _share(run: ComparedRun, name: str) -> str:
    value = number(run, name)
    return "" if value is None else percent(value)


def _seconds(run: ComparedRun) -> str:
    value = finite(run.fit_seconds)
    return "" if value is None else count(value) if value >= 10 else f"{value:.1f}"


def _inspect(run: ComparedRun) -> str:
    value = number(run, "inspect_ms_per_part")
    return "" if value is None else f"{value:.3g}"


# Name and text of a run's cell.
_COLUMNS: tuple[tuple[str, Callable[[ComparedRun], str]], ...] = (
    ("Missed", lambda run: _share(run, "miss_rate")),
    ("AUROC", lambda run: auroc(run.figures.get("image_auroc"))),
    ("False alarms", lambda run: _share(run, "false_alarm_rate")),
    ("Accuracy", lambda run: _share(run, "accuracy")),
    ("Balanced", lambda run: _share(run, "balanced_accuracy")),
    ("Macro F1", lambda run: auroc(run.figures.get("macro_f1"))),
    ("Fit, s", _seconds),
    ("Inspect, ms", _inspect),
)
