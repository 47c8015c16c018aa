"""Geometry of the charts of a search: values by trial, and on the way of each, in SVG units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from makellos.reports.formats import compact, finite

__all__ = ["Courses", "History", "courses", "history"]

HEIGHT, TOP, BOTTOM = 300.0, 30.0, 254.0
LEFT, RIGHT = 56.0, 14.0
FAR = 4.0  # times the spread of the better half, beyond which values lie on the upper edge
LOGARITHMIC = 30.0  # times the lowest value that the highest is, from which the axis is so
_FEW = 3  # complete trials, from which they alone decide how far the axis goes
# Tick distance in units of a power of ten.
_NICE = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Tick:
    """Hold a position along an axis and the text that stands there."""

    at: float
    text: str


@dataclass(frozen=True)
class Frame:
    """Hold the axes of a chart."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    logarithmic: bool


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


@dataclass(frozen=True)
class _Scale:
    """Map values to heights in a chart."""

    low: float
    high: float
    logarithmic: bool

    def y(self, value: float) -> float:
        low, high, at = (self._unit(v) for v in (self.low, self.high, value))
        share = (min(max(at, low), high) - low) / (high - low)
        return BOTTOM - (BOTTOM - TOP) * share

    def ticks(self) -> tuple[Tick, ...]:
        if self.logarithmic:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            values = [s * 10.0**k for k in range(first, last + 1) for s in (1, 3)]
        else:
            step = _step((self.high - self.low) / 4)
            first = math.ceil(self.low / step - 1e-9)
            values = [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
        inside = [value for value in values if self.low <= value <= self.high]
        return tuple(Tick(self.y(value), compact(round(value, 12))) for value in inside)

    def _unit(self, value: float) -> float:
        return math.log10(max(value, 1e-300)) if self.logarithmic else value


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
    left, right = LEFT, width - RIGHT

    def x(slot: float) -> float:
        return left + 14 + (right - left - 28) * (slot / max(n - 1, 1) if n > 1 else 0.5)

    points, line, lowest, at_best = [], "", math.inf, (left, BOTTOM)
    for slot, state, value in sorted(trials):
        known = finite(value) if state != "failed" else None
        y = TOP - 12 if known is None else scale.y(known)
        kind = "best" if slot == best else state
        said = state if known is None else f"{state}, {compact(known)}"
        beyond = known is not None and known > scale.high
        points.append(Point(x(slot), y, kind, f"trial {slot + 1}: {said}", beyond))
        if slot == best:
            at_best = (x(slot), y)
        if state == "complete" and known is not None and known < lowest:
            lowest = known
            line += f"{'V' if line else f'M{x(slot):.1f} '}{y:.1f}"
        if line:
            line += f"H{x(slot):.1f}"
    numbers = _trial_ticks(n, width)
    frame = _frame(width, tuple(Tick(x(i - 1), str(i)) for i in numbers), scale)
    dashed = None if default is None else scale.y(default)
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
    left, right = LEFT + 14, width - RIGHT - 14

    def x(step: float) -> float:
        if last == first:
            return (left + right) / 2
        if rungs:
            return left + (right - left) * math.log(step / first) / math.log(last / first)
        return left + (right - left) * (step - first) / (last - first)

    lines = []
    for slot, state, steps in sorted(known, key=lambda trial: (trial[0] == best, trial[1])):
        places = [(x(step), scale.y(value)) for step, value in steps]
        line = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
        kind = "best" if slot == best else state
        text = f"trial {slot + 1}, {state}: {compact(steps[-1][1])}"
        lines.append(Course(line, places[-1], kind, text))
    if rungs:
        across = tuple(Tick(x(s), name) for s, name in rungs.items() if first <= s <= last)
    else:
        across = tuple(Tick(x(s), str(s)) for s in _step_ticks(first, last, width))
    return Courses(_frame(width, across, scale), tuple(lines))


def _frame(width: float, across: tuple[Tick, ...], scale: _Scale) -> Frame:
    return Frame(
        width=width,
        height=HEIGHT,
        left=LEFT,
        right=width - RIGHT,
        top=TOP,
        bottom=BOTTOM,
        across=across,
        up=scale.ticks(),
        logarithmic=scale.logarithmic,
    )


def _scale(values: Sequence[float | None], complete: Sequence[float | None]) -> _Scale:
    """Return an axis on which the better trials can be told apart, whatever the worst are."""
    known = sorted(v for value in values if (v := finite(value)) is not None)
    if not known:
        return _Scale(0.0, 1.0, logarithmic=False)
    low, high = known[0], known[-1]
    if low > 0 and high / low > LOGARITHMIC:
        return _Scale(low / 1.15, high * 1.15, logarithmic=True)
    ends = sorted(v for value in complete if (v := finite(value)) is not None)
    decisive = ends if len(ends) >= _FEW else known
    reach = FAR * (decisive[len(decisive) // 2] - low)
    if reach > 0:
        high = min(high, low + reach)
    pad = 0.06 * (high - low) or 0.5 * abs(low) or 0.5
    return _Scale(max(low - pad, 0.0) if low >= 0 else low - pad, high + pad, logarithmic=False)


def _trial_ticks(n: int, width: float) -> list[int]:
    step = max(1, round(_step(n / max(2, width / 90))))
    return sorted({1, *range(step, n + 1, step)}) if step > 1 else list(range(1, n + 1))


def _step_ticks(first: int, last: int, width: float) -> list[int]:
    step = max(1, round(_step((last - first) / max(2, width / 110))))
    return sorted({first, *range(math.ceil((first + 1) / step) * step, last + 1, step)})


def _step(rough: float) -> float:
    if rough <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(nice * power for nice in _NICE if nice * power >= rough * (1 - 1e-9))
