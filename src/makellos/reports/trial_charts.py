"""Geometry of the charts of a search: values by trial, and on the way of each, in SVG units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from makellos.drawing.scales import Scale, Tick
from makellos.reports.formats import compact, finite
from makellos.reports.frames import Frame, path_through

__all__ = ["Courses", "History", "courses", "history"]

HEIGHT, TOP, BOTTOM = 300.0, 30.0, 254.0
LEFT, RIGHT = 56.0, 14.0
FAR = 4.0  # times the spread of the better half, beyond which values lie on the upper edge
LOGARITHMIC = 30.0  # times the lowest value that the highest is, from which the axis is so
_FEW = 3  # complete trials, from which they alone decide how far the axis goes


@dataclass(frozen=True)
class Point:
    """Hold one trial in the history; `kind` is its state, `beyond` tells that it lies higher."""

    x: float
    y: float
    kind: str
    text: str
    beyond: bool


@dataclass(frozen=True)
class History:
    """Hold the values of all trials, and the best one so far as a line."""

    frame: Frame
    points: tuple[Point, ...]
    best_line: str
    best: tuple[float, float]
    default: float | None


@dataclass(frozen=True)
class Course:
    """Hold the values of one trial on its way."""

    line: str
    end: tuple[float, float]
    kind: str
    text: str


@dataclass(frozen=True)
class Courses:
    """Hold the ways of all trials, the best one last so that it lies on top."""

    frame: Frame
    lines: tuple[Course, ...]


def history(
    trials: Sequence[tuple[int, str, float | None]],
    *,
    best: int,
    default: float | None,
    width: float,
) -> History:
    """Return the values of trials (place, state, value) by their place, `width` units wide."""
    shown = [value for _, state, value in trials if state != "failed"]
    scale = _scale(shown, [value for _, state, value in trials if state == "complete"])
    n = max(slot for slot, _, _ in trials) + 1
    across = Scale((1, n), (LEFT + 14, width - RIGHT - 14))
    points, line, lowest, at_best = [], "", math.inf, (LEFT, BOTTOM)
    for slot, state, value in sorted(trials):
        known = finite(value) if state != "failed" else None
        x, y = across.at(slot + 1), TOP - 12 if known is None else scale.at(known)
        kind = "best" if slot == best else state
        said = state if known is None else f"{state}, {compact(known)}"
        beyond = known is not None and known > scale.span[1]
        points.append(Point(x, y, kind, f"trial {slot + 1}: {said}", beyond))
        if slot == best:
            at_best = (x, y)
        if line:
            line += f"H{x:.1f}"
        if state == "complete" and known is not None and known < lowest:
            lowest = known
            line += f"V{y:.1f}" if line else f"M{x:.1f} {y:.1f}"
    frame = _frame(width, across.whole_ticks(max(2, width / 90)), scale)
    dashed = None if default is None else scale.at(default)
    return History(frame, tuple(points), line, at_best, dashed)


def courses(
    trials: Sequence[tuple[int, str, Sequence[tuple[int, float]]]],
    *,
    best: int,
    rungs: Mapping[int, str],
    width: float,
) -> Courses | None:
    """Return the values of trials (place, state, steps) on their way, None where there are none.

    `rungs` name the steps where there are only these, each three times the one before.
    """
    known = [
        (slot, state, [(step, v) for step, value in steps if (v := finite(value)) is not None])
        for slot, state, steps in trials
    ]
    known = [trial for trial in known if trial[2]]
    if not known:
        return None
    scale = _scale([value for _, _, steps in known for _, value in steps], [])
    last = max(step for _, _, steps in known for step, _ in steps)
    first = min(step for _, _, steps in known for step, _ in steps)
    across = Scale((first, last), (LEFT + 14, width - RIGHT - 14), log=bool(rungs))
    lines = []
    for slot, state, steps in sorted(known, key=lambda trial: (trial[0] == best, trial[1])):
        places = [(across.at(step), scale.at(value)) for step, value in steps]
        kind = "best" if slot == best else state
        text = f"trial {slot + 1}, {state}: {compact(steps[-1][1])}"
        lines.append(Course(path_through(places), places[-1], kind, text))
    ticks = across.whole_ticks(max(2, width / 110))
    if rungs:
        ticks = tuple(Tick(across.at(s), name) for s, name in rungs.items() if first <= s <= last)
    return Courses(_frame(width, ticks, scale), tuple(lines))


def _frame(width: float, across: Sequence[Tick], scale: Scale) -> Frame:
    up = scale.ticks(5)
    return Frame(width, HEIGHT, LEFT, width - RIGHT, TOP, BOTTOM, across, up, scale.log)


def _scale(values: Sequence[float | None], complete: Sequence[float | None]) -> Scale:
    """Return an axis on which the better trials can be told apart, whatever the worst are."""
    known = sorted(v for value in values if (v := finite(value)) is not None)
    if not known:
        return Scale((0.0, 1.0), (BOTTOM, TOP))
    low, high = known[0], known[-1]
    if low > 0 and high / low > LOGARITHMIC:
        return Scale((low / 1.15, high * 1.15), (BOTTOM, TOP), log=True)
    ends = sorted(v for value in complete if (v := finite(value)) is not None)
    decisive = ends if len(ends) >= _FEW else known
    reach = FAR * (decisive[len(decisive) // 2] - low)
    if reach > 0:
        high = min(high, low + reach)
    pad = 0.06 * (high - low) or 0.5 * abs(low) or 0.5
    return Scale((max(low - pad, 0.0) if low >= 0 else low - pad, high + pad), (BOTTOM, TOP))
