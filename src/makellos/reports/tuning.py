"""The HTML page of a search: its trials, what the best one has, and which parameters matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from makellos.reports.pages import NARROW, WIDE, render_page
from makellos.reports.trial_charts import Courses, History, courses, history

__all__ = ["TuningReport", "TuningTrial", "render_tuning"]


@dataclass(frozen=True)
class TuningTrial:
    """Hold one trial: its place from 0, its state `complete`, `pruned` or `failed`, what it had.

    `value` is None unless it is complete; `steps` are (resource, value) on the way; `used` is what
    it took, `reason` why it failed, `auroc` that of the last step where the value is misses.
    """

    slot: int
    state: str
    value: float | None
    parameters: Mapping[str, Any]
    steps: Sequence[tuple[int, float]]
    used: float
    seconds: float
    reason: str | None = None
    auroc: float | None = None

    @property
    def last(self) -> float | None:
        """Return the value, or the last one on the way."""
        if self.value is not None:
            return self.value
        return self.steps[-1][1] if self.steps else None


@dataclass(frozen=True)
class TuningReport:
    """Hold all that the page of one search shows.

    `value` names what becomes small, `judged` the parts that it is measured on, `resource` what
    `used` and `unpruned` count. `rungs` name steps where they are not counts of the resource.
    `best` is the place of the best trial; the first one has the `defaults`. `importance` maps
    parameters to shares, empty where they are not known.
    """

    detector: str
    data: str
    created: str
    value: str
    resource: str
    judged: str
    n_wanted: int
    n_killed: int
    used: float
    unpruned: float
    seed: int
    defaults: Mapping[str, Any]
    fixed: Mapping[str, Any]
    space: Mapping[str, str]
    best: int
    trials: Sequence[TuningTrial]
    importance: Mapping[str, float]
    rungs: Mapping[int, str] = field(default_factory=dict)


def render_tuning(report: TuningReport) -> str:
    """Return the page of a search as one HTML file with style, script and charts inside."""
    by_slot = {trial.slot: trial for trial in report.trials}
    best, first = by_slot[report.best], by_slot.get(0)
    default = first.value if first is not None else None
    states = [trial.state for trial in report.trials]
    return render_page(
        "tuning.html.j2",
        report=report,
        best=best,
        first=first,
        default=default,
        gain=_gain(best.value, default),
        saved=1 - report.used / report.unpruned if report.unpruned else 0.0,
        counts={state: states.count(state) for state in ("complete", "pruned", "failed")},
        seconds=sum(trial.seconds for trial in report.trials),
        histories=_histories(report, default),
        courses=_courses(report),
        importance=sorted(report.importance.items(), key=lambda item: -item[1]),
        keys=list(report.space),
        by_misses=any(trial.auroc is not None for trial in report.trials),
        changed={k for k, v in best.parameters.items() if v != report.defaults.get(k)},
    )


def _gain(best: float | None, default: float | None) -> float | None:
    """Return the share by which the best value is lower than that of the defaults."""
    if best is None or default is None or default <= 0:
        return None
    return 1 - best / default


def _histories(report: TuningReport, default: float | None) -> list[History]:
    return [
        history(
            [(t.slot, t.state, t.last) for t in report.trials],
            best=report.best,
            default=default,
            width=width,
        )
        for width in (WIDE, NARROW)
    ]


def _courses(report: TuningReport) -> list[Courses]:
    drawn = [
        courses(
            [(t.slot, t.state, t.steps) for t in report.trials],
            best=report.best,
            rungs=report.rungs,
            width=width,
        )
        for width in (WIDE, NARROW)
    ]
    return [chart for chart in drawn if chart is not None]
