"""Ranked charts: finished runs by their AUROC with its interval, and the time of each fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from makellos.drawing.scales import Scale, Tick, round_span
from makellos.reports.formats import auroc, duration, finite, interval_of

__all__ = ["STATES", "ComparedRun", "Group", "number", "ranked", "ranked_charts", "spread_text"]

STATES = ("done", "failed", "running", "waiting")


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
    """Hold one run of a chart: AUROC and its interval along the axis, fit time as a share."""

    run: ComparedRun
    value: str
    at: float | None
    low: float | None
    high: float | None
    time: str
    time_share: float


@dataclass(frozen=True)
class Group:
    """Hold the finished runs on one set of data, the highest AUROC first, and what to say."""

    data: str
    rows: tuple[ChartRow, ...]
    best: ComparedRun | None
    lead: str


def ranked_charts(
    groups: Mapping[str, Sequence[ComparedRun]],
) -> tuple[tuple[Tick, ...], list[Group]]:
    """Return the ticks of an axis of AUROC, from 0 to 1 along it, and the charts that share it.

    `groups` are finished runs by the data that they were tested on.
    """
    runs = [run for each in groups.values() for run in each]
    values = [value for run in runs if (value := number(run, "image_auroc")) is not None]
    values += [found[0] for run in runs if (found := _spread(run))]
    scale = Scale(round_span(min([0.9, *values]), 1.0, 6))
    longest = max((finite(run.fit_seconds) or 0.0 for run in runs), default=0.0)
    return scale.ticks(6), [_group(data, each, scale, longest) for data, each in groups.items()]


def ranked(runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """Return runs with the highest AUROC first, those without one in their order behind."""

    def place(run: ComparedRun) -> tuple[int, float]:
        value = number(run, "image_auroc")
        behind = STATES.index(run.state) if run.state in STATES else len(STATES)
        return (behind, math.inf if value is None else -value)

    return sorted(runs, key=place)


def number(run: ComparedRun, name: str) -> float | None:
    """Return one of the figures of a run, None where it is not known."""
    return finite(run.figures.get(name))


def spread_text(run: ComparedRun, name: str = "image_auroc") -> str:
    """Return the 95 % interval of one of the figures in words, "" where it is not known."""
    found = interval_of(run.figures, name)
    return "" if found is None else f"{auroc(found[0])} to {auroc(found[1])}"


def _spread(run: ComparedRun) -> tuple[float, float] | None:
    return interval_of(run.figures, "image_auroc")


def _group(data: str, runs: Sequence[ComparedRun], scale: Scale, longest: float) -> Group:
    ordered = ranked(runs)
    rows = tuple(_row(run, scale, longest) for run in ordered)
    measured = [run for run in ordered if number(run, "image_auroc") is not None]
    return Group(data, rows, measured[0] if measured else None, _lead(measured))


def _row(run: ComparedRun, scale: Scale, longest: float) -> ChartRow:
    value, span = number(run, "image_auroc"), _spread(run)
    seconds = finite(run.fit_seconds)
    return ChartRow(
        run=run,
        value="not evaluated" if value is None else auroc(value),
        at=None if value is None else scale.at(value),
        low=None if span is None else scale.at(span[0]),
        high=None if span is None else scale.at(span[1]),
        time="" if seconds is None else duration(seconds),
        time_share=(seconds or 0.0) / longest if longest else 0.0,
    )


def _lead(measured: Sequence[ComparedRun]) -> str:
    """Say whether the parts tested can tell the best run from the others."""
    if len(measured) < 2:
        return ""
    best = _spread(measured[0])
    if best is None:
        return ""
    close = [run for run in measured[1:] if (s := _spread(run)) and s[1] >= best[0]]
    if not close:
        return f"{measured[0].name} is ahead by more than chance would explain."
    others = close[0].name if len(close) == 1 else f"{len(close)} other runs"
    return (
        f"{measured[0].name} is ahead; the intervals do not say whether it is better than "
        f"{others}, but 'makellos compare' does."
    )
