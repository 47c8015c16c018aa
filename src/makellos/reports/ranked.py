"""Ranked charts: finished runs by what they miss, with its interval, and the time of each fit.

Misses at the promised budget come first, AUROC between equal ones. Where runs promise different
budgets their misses say nothing of which is better, and AUROC alone ranks them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from makellos.drawing.scales import Scale, Tick, round_span
from makellos.reports.formats import auroc, duration, finite, interval_of, percent, percent_range

__all__ = [
    "AUROC",
    "MISSES",
    "STATES",
    "ComparedRun",
    "Group",
    "Measure",
    "measure_of",
    "number",
    "place_by",
    "ranked",
    "ranked_charts",
    "spread_text",
]

STATES = ("done", "failed", "running", "waiting")


@dataclass(frozen=True)
class Measure:
    """Hold a figure that runs are ranked by: its key, its name, and what is said of the best."""

    key: str
    name: str
    best: str
    text: Callable[[float], str]
    most: float  # of an axis, at least, for misses; else the least


MISSES = Measure("miss_rate", "Missed", "Fewest missed", percent, 0.1)
AUROC = Measure("image_auroc", "Image AUROC", "Highest image AUROC", auroc, 0.9)


@dataclass(frozen=True)
class ComparedRun:
    """Hold one run: what was asked, what became of it.

    `state` is ``done``, ``failed``, ``running`` or ``waiting``; `figures` are those of ``evaluate
    --json``, empty where nothing was evaluated; `report` and `log` are paths relative to the page.
    """

    name: str
    data: str
    detector: str
    settings: str
    state: str
    reason: str | None
    report: str | None
    log: str | None
    fit_seconds: float | None
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class ChartRow:
    """Hold one run of a chart: figure and interval along the axis, fit time as a share."""

    run: ComparedRun
    value: str
    at: float | None
    low: float | None
    high: float | None
    time: str
    time_share: float


@dataclass(frozen=True)
class Group:
    """Hold the finished runs on one set of data, the best first, and what to say.

    `ticks` are those of an axis of the measure, from 0 to 1 along it.
    """

    data: str
    measure: Measure
    ticks: tuple[Tick, ...]
    rows: tuple[ChartRow, ...]
    best: ComparedRun | None
    lead: str


def measure_of(found: Iterable[Mapping[str, Any]]) -> Measure:
    """Return what runs with these figures are ranked by: misses, where all promise the same."""
    missing = [figures for figures in found if finite(figures.get("miss_rate")) is not None]
    budgets = {figures.get("false_alarms") for figures in missing}
    return MISSES if len(budgets) == 1 else AUROC


def place_by(measure: Measure, figures: Mapping[str, Any]) -> tuple[float, float]:
    """Return what runs are sorted by, the best first: the measure, then AUROC."""
    missed = finite(figures.get("miss_rate")) if measure is MISSES else 0.0
    ranking = finite(figures.get("image_auroc"))
    return (math.inf if missed is None else missed, math.inf if ranking is None else -ranking)


def ranked_charts(groups: Mapping[str, Sequence[ComparedRun]]) -> list[Group]:
    """Return a chart for each group; those of one measure share their axis.

    `groups` are finished runs by the data that they were tested on.
    """
    measures = {data: measure_of(run.figures for run in runs) for data, runs in groups.items()}
    scales = {
        measure: _scale(
            measure, [run for d in groups if measures[d] is measure for run in groups[d]]
        )
        for measure in (MISSES, AUROC)
    }
    times = [finite(run.fit_seconds) or 0.0 for runs in groups.values() for run in runs]
    longest = max(times, default=0.0)
    return [
        _group(data, runs, measures[data], scales[measures[data]], longest)
        for data, runs in groups.items()
    ]


def _scale(measure: Measure, runs: Sequence[ComparedRun]) -> Scale:
    values = [value for run in runs if (value := number(run, measure.key)) is not None]
    values += [end for run in runs for end in interval_of(run.figures, measure.key) or ()]
    if measure is AUROC:
        return Scale(round_span(min([measure.most, *values]), 1.0, 6))
    return Scale(round_span(0.0, 100 * max([measure.most, *values]), 6))


def ranked(runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """Return runs with the best first, those that are not done in their order behind."""
    measure = measure_of(run.figures for run in runs)

    def place(run: ComparedRun) -> tuple[int, tuple[float, float]]:
        behind = STATES.index(run.state) if run.state in STATES else len(STATES)
        return (behind, place_by(measure, run.figures))

    return sorted(runs, key=place)


def number(run: ComparedRun, name: str) -> float | None:
    """Return one of the figures of a run, None where it is not known."""
    return finite(run.figures.get(name))


def spread_text(run: ComparedRun, name: str = "image_auroc") -> str:
    """Return the 95 % interval of one of the figures in words, "" where it is not known."""
    found = interval_of(run.figures, name)
    if found is None:
        return ""
    if name == MISSES.key:
        return percent_range(found)
    return f"{auroc(found[0])} to {auroc(found[1])}"


def _group(
    data: str, runs: Sequence[ComparedRun], measure: Measure, scale: Scale, longest: float
) -> Group:
    ordered = ranked(runs)
    rows = tuple(_row(run, measure, scale, longest) for run in ordered)
    measured = [run for run in ordered if number(run, measure.key) is not None]
    best = measured[0] if measured else None
    return Group(data, measure, scale.ticks(6), rows, best, _lead(measured, measure))


def _row(run: ComparedRun, measure: Measure, scale: Scale, longest: float) -> ChartRow:
    unit = 100 if measure is MISSES else 1
    value, span = number(run, measure.key), interval_of(run.figures, measure.key)
    seconds = finite(run.fit_seconds)
    return ChartRow(
        run=run,
        value="not evaluated" if value is None else measure.text(value),
        at=None if value is None else scale.at(unit * value),
        low=None if span is None else scale.at(unit * span[0]),
        high=None if span is None else scale.at(unit * span[1]),
        time="" if seconds is None else duration(seconds),
        time_share=(seconds or 0.0) / longest if longest else 0.0,
    )


def _lead(measured: Sequence[ComparedRun], measure: Measure) -> str:
    """Say whether the parts tested can tell the best run from the others."""
    if len(measured) < 2:
        return ""
    best = interval_of(measured[0].figures, measure.key)
    if best is None:
        return ""
    spans = [(run, interval_of(run.figures, measure.key)) for run in measured[1:]]
    close = [run for run, span in spans if span and span[1] >= best[0] and span[0] <= best[1]]
    if not close:
        return f"{measured[0].name} is ahead by more than chance would explain."
    others = close[0].name if len(close) == 1 else f"{len(close)} other runs"
    values = [number(run, measure.key) for run in measured]
    if values[0] == values[1] and measure is MISSES:
        ahead = (
            f"{measured[0].name} misses no fewer than {measured[1].name}, and ranks parts better"
        )
    else:
        ahead = f"{measured[0].name} is ahead"
    return (
        f"{ahead}; the intervals do not say whether it is better than "
        f"{others}, but 'makellos compare' does."
    )
