"""The charts of a machine's health: the scores of its recordings over time, in SVG units."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makellos.drawing.scales import Scale
from makellos.evaluation.trends import Trend
from makellos.reports.formats import compact, finite
from makellos.reports.frames import Frame, path_through
from makellos.reports.pages import NARROW, WIDE

__all__ = ["OUTCOMES", "Chart", "TrendPage", "time_unit", "trend_charts", "unit_of"]

Floats = NDArray[np.float64]
OUTCOMES = {"ok": "right", "look_again": "again", "reject": "wrong", "unreadable": "unreadable"}
TOP, LEFT, RIGHT, BELOW = 44.0, 56.0, 14.0, 50.0
LOGARITHMIC = 100.0  # times the lowest score that the highest is, from which the axis is so
N_MARKS = 700  # more recordings are drawn as dots without a text each
_UNITS = ((1.0, "s", 120.0), (60.0, "min", 7200.0), (3600.0, "h", 172_800.0))
_DAYS = (86_400.0, "days")


@dataclass(frozen=True)
class TrendPage:
    """Hold all that the page of one machine shows, its recordings in order of time.

    `scores` are None for unreadable recordings, `verdicts` are `ok`, `look_again`, `reject` or
    `unreadable`, `times` in s or None where they are unknown; `findings` a sentence each, or None.
    `threshold` and `look_again_threshold` are in the unit of the scores, None where there is none.
    `trend` is that of these scores, verdicts and times.
    """

    title: str
    names: Sequence[str]
    scores: Sequence[float | None]
    verdicts: Sequence[str]
    times: Sequence[float] | None
    threshold: float | None
    look_again_threshold: float | None
    trend: Trend
    findings: Sequence[str | None]
    provenance: Mapping[str, str]


@dataclass(frozen=True)
class Mark:
    """Hold a recording in the chart; `outcome` is `right`, `again`, `wrong` or `unreadable`."""

    x: float
    y: float
    outcome: str
    text: str


@dataclass(frozen=True)
class Chart:
    """Hold the scores over time in SVG units; `dots` are paths by outcome in place of `marks`."""

    frame: Frame
    across_name: str
    marks: tuple[Mark, ...]
    dots: tuple[tuple[str, str], ...]
    radius: float
    line: str
    threshold: float | None
    look_again: float | None
    alarm: float | None


def unit_of(seconds: float) -> tuple[float, str]:
    """Return the unit in which a person would say a time, its seconds and its name."""
    return next(((size, name) for size, name, below in _UNITS if seconds < below), _DAYS)


def time_unit(page: TrendPage) -> tuple[float, str] | None:
    """Return the unit of the time axis, None where times are unknown."""
    if page.times is None or not page.times:
        return None
    return unit_of(page.times[-1] - page.times[0])


def _scale(page: TrendPage, bottom: float) -> Scale:
    known = [v for score in page.scores if (v := finite(score)) is not None]
    drawn = [v for mark in (page.threshold, page.look_again_threshold) if (v := finite(mark))]
    values = sorted([*known, *drawn]) or [0.0, 1.0]
    low, high = values[0], values[-1]
    positive = [value for value in values if value > 0]
    if low >= 0 and len(positive) > len(values) / 2:
        # A few scores near 0 would press all others together at the upper edge.
        floor = max(positive[0], positive[len(positive) // 50] / 10)
        if high / floor > LOGARITHMIC:
            return Scale((floor / 1.3, high * 1.3), (bottom, TOP), log=True)
    pad = 0.06 * (high - low) or 0.5 * abs(low) or 0.5
    return Scale((max(low - pad, 0.0) if low >= 0 else low - pad, high + pad), (bottom, TOP))


def trend_charts(page: TrendPage) -> list[Chart]:
    """Return the chart for wide and for narrow screens, none where nothing could be read."""
    if not page.trend.n_recordings:
        return []
    return [_chart(page, WIDE, 400.0), _chart(page, NARROW, 320.0)]


def _chart(page: TrendPage, width: float, height: float) -> Chart:
    bottom, right = height - BELOW, width - RIGHT
    scale, unit = _scale(page, bottom), time_unit(page)
    at = [float(i + 1) for i in range(len(page.names))]
    if unit is not None and page.times is not None:
        at = [(time - page.times[0]) / unit[0] for time in page.times]
    across = Scale((at[0], at[-1]), (LEFT + 10, right - 10))
    most = max(4, width / 120)
    ticks = across.whole_ticks(most) if unit is None else across.ticks(most)
    places = across.places(at)
    marks = tuple(_marks(page, places.tolist(), scale))
    limit, band = finite(page.threshold), finite(page.look_again_threshold)
    alarm = page.trend.first_alarm
    dense = len(marks) > N_MARKS
    return Chart(
        frame=Frame(width, height, LEFT, right, TOP, bottom, ticks, scale.ticks(7), scale.log),
        across_name=f"Time since the first recording, {unit[1]}" if unit else "Recording",
        marks=() if dense else marks,
        dots=tuple(_dots(marks)) if dense else (),
        radius=4.5 if len(marks) <= 60 and width == WIDE else 3.0,
        line=_line(places, page.trend.indicator, scale),
        threshold=None if limit is None else scale.at(limit),
        look_again=None if band is None or limit is None else scale.at(band),
        alarm=None if alarm is None else float(places[alarm]),
    )


def _marks(page: TrendPage, places: Sequence[float], scale: Scale) -> Iterable[Mark]:
    scores = [
        None if verdict == "unreadable" else finite(score)
        for score, verdict in zip(page.scores, page.verdicts, strict=True)
    ]
    heights = scale.places([math.nan if score is None else score for score in scores]).tolist()
    columns = zip(page.names, page.verdicts, scores, places, heights, strict=True)
    for number, (name, verdict, score, x, height) in enumerate(columns, 1):
        said = verdict.replace("_", " ") + (f", {compact(score)}" if score is not None else "")
        y = TOP - 12 if score is None else height
        yield Mark(x, y, OUTCOMES.get(verdict, ""), f"{number}: {name}, {said}")


def _dots(marks: Sequence[Mark]) -> Iterable[tuple[str, str]]:
    """Yield outcomes and paths of their marks; those that cover each other are drawn once."""
    for outcome in OUTCOMES.values():
        places = {(round(m.x), round(2 * m.y) / 2) for m in marks if m.outcome == outcome}
        if places:
            yield outcome, "".join(f"M{x} {y:g}h0" for x, y in sorted(places))


def _line(places: Floats, indicator: Floats, scale: Scale) -> str:
    """Return a path through the finite values, at most one for each half unit of width."""
    known = np.isfinite(indicator)
    points = zip(places[known].tolist(), scale.places(indicator[known]).tolist(), strict=True)
    return path_through({round(2 * x) / 2: y for x, y in points}.items())
