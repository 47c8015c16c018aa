"""Geometry of the score histogram in a report: where bars and ticks lie, in SVG user units.

Templates draw what is computed here; colours come from the page's style sheet, so one drawing
serves light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from makellos.reports.formats import compact, finite

__all__ = ["Histogram", "ScoredPart", "score_histogram"]

N_BINS = 48
PANEL_HEIGHT = 92.0
PANEL_PITCH = 128.0
PANEL_TOP = 66.0
LONG_TAIL = 8.0
OUTCOMES = ("right", "again", "wrong")


@dataclass(frozen=True)
class ScoredPart:
    """Hold what the histogram needs of a part; `outcome` is `right`, `again` or `wrong`."""

    score: float
    defective: bool
    outcome: str


@dataclass(frozen=True)
class Tick:
    """Hold a position along an axis and the text that stands there."""

    at: float
    text: str


@dataclass(frozen=True)
class Bar:
    """Hold one rectangle of a histogram."""

    x: float
    y: float
    width: float
    height: float
    outcome: str


@dataclass(frozen=True)
class Panel:
    """Hold the bars of good or of defective parts above one baseline."""

    title: str
    baseline: float
    bars: tuple[Bar, ...]
    grid: Tick


@dataclass(frozen=True)
class Zone:
    """Hold a stretch of the score axis that one verdict covers."""

    name: str
    x: float
    width: float
    labelled: bool


@dataclass(frozen=True)
class Histogram:
    """Hold the histogram of scores, good above defective, on one shared axis."""

    width: float
    height: float
    left: float
    right: float
    panels: tuple[Panel, ...]
    ticks: tuple[Tick, ...]
    zones: tuple[Zone, ...]
    threshold: Tick | None
    threshold_anchor: str
    scale: str
    beyond: Tick | None


@dataclass(frozen=True)
class _Axis:
    """Map scores to bins; `cut` is where a broken axis ends, `step` the width of a bin."""

    low: float
    step: float
    n_bins: int
    logarithmic: bool
    cut: float | None

    def bin_of(self, score: float) -> int:
        position = (self._unit(score) - self.low) / self.step
        return min(self.n_bins - 1, max(0, math.floor(position + 1e-9)))

    def share(self, score: float) -> float:
        """Return the position of a score along the axis, in [0, 1] inside it."""
        return (self._unit(score) - self.low) / (self.step * self.n_bins)

    def score_at(self, n_steps: float) -> float:
        unit = self.low + n_steps * self.step
        return 10**unit if self.logarithmic else unit

    def _unit(self, score: float) -> float:
        return math.log10(score) if self.logarithmic else score


def score_histogram(
    parts: Sequence[ScoredPart],
    *,
    threshold: float | None,
    look_again_threshold: float | None,
    width: float,
) -> Histogram | None:
    """Return the histogram of finite scores, `width` units wide, or None where there are none.

    The threshold is an edge between two bins. The axis is logarithmic or broken where a few
    scores lie so far out that the others could not be told apart.
    """
    parts = [part for part in parts if finite(part.score) is not None]
    if not parts:
        return None
    limit, band = finite(threshold), finite(look_again_threshold)
    axis = _axis(parts, limit, band)
    left, right = 34.0, width - 12.0
    groups = [(name, [p for p in parts if p.defective is bad]) for name, bad in _KINDS]
    drawn = [(name, group) for name, group in groups if group]
    panels = tuple(
        _panel(
            name,
            group,
            axis,
            left=left,
            right=right,
            baseline=PANEL_TOP + i * PANEL_PITCH + PANEL_HEIGHT,
        )
        for i, (name, group) in enumerate(drawn)
    )
    height = panels[-1].baseline + 48

    def place(score: float) -> float:
        return left + (right - left) * min(1.0, max(0.0, axis.share(score)))

    mark = None if limit is None else Tick(place(limit), compact(limit))
    beyond = None
    if axis.cut is not None:
        middle = left + (right - left) * (axis.n_bins - 0.5) / axis.n_bins
        beyond = Tick(middle, f"over {compact(axis.cut)}")
    ticks = tuple(Tick(place(score), f"{score:.6g}") for score in _ticks(axis, width))
    return Histogram(
        width=width,
        height=height,
        left=left,
        right=right,
        panels=panels,
        ticks=tuple(t for t in ticks if beyond is None or t.at < beyond.at - 52),
        zones=_zones(mark, None if band is None else place(band), left, right),
        threshold=mark,
        threshold_anchor="end" if mark is not None and mark.at > width / 2 else "start",
        scale="logarithmic" if axis.logarithmic else "broken" if axis.cut is not None else "linear",
        beyond=beyond,
    )


_KINDS = (("good", False), ("defective", True))


def _axis(parts: Sequence[ScoredPart], threshold: float | None, band: float | None) -> _Axis:
    values = [part.score for part in parts]
    values += [mark for mark in (threshold, band) if mark is not None]
    low, high = min(values), max(values)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-12):
        pad = 0.5 * abs(low) or 0.5
        low, high = low - pad, high + pad
    reach = _bulk(parts) if threshold is None else max(threshold, _bulk(parts))
    core = reach - low if reach > low else high - low
    if high - low <= LONG_TAIL * core:
        return _aligned(low, high, threshold, logarithmic=False)
    if low > 0 and math.log(reach / low) > 0.15 * math.log(high / low):
        mark = None if threshold is None else math.log10(threshold)
        return _aligned(math.log10(low), math.log10(high), mark, logarithmic=True)
    inside = _aligned(low, low + LONG_TAIL * core, threshold, logarithmic=False)
    cut = inside.score_at(inside.n_bins)
    return _Axis(inside.low, inside.step, inside.n_bins + 1, logarithmic=False, cut=cut)


def _bulk(parts: Sequence[ScoredPart]) -> float:
    """Return the score below which most good parts lie, or most parts where none is good."""
    good = sorted(part.score for part in parts if not part.defective)
    ordered = good or sorted(part.score for part in parts)
    return ordered[int((0.95 if good else 0.75) * (len(ordered) - 1))]


def _aligned(low: float, high: float, mark: float | None, *, logarithmic: bool) -> _Axis:
    """Return bins over [low, high] of which one edge is `mark`."""
    step = (high - low) / N_BINS
    if mark is None:
        return _Axis(low, step, N_BINS, logarithmic, None)
    below = math.ceil((mark - low) / step - 1e-9)
    # A score that equals the upper end belongs to a bin that begins there.
    above = math.floor((high - mark) / step + 1e-9) + 1
    return _Axis(mark - below * step, step, below + above, logarithmic, None)


def _panel(
    name: str,
    parts: Sequence[ScoredPart],
    axis: _Axis,
    *,
    left: float,
    right: float,
    baseline: float,
) -> Panel:
    counts = {outcome: [0] * axis.n_bins for outcome in OUTCOMES}
    for part in parts:
        counts[part.outcome][axis.bin_of(part.score)] += 1
    tallest = max(sum(counts[outcome][i] for outcome in OUTCOMES) for i in range(axis.n_bins))
    pitch, unit = (right - left) / axis.n_bins, PANEL_HEIGHT / tallest
    gap = min(2.0, 0.2 * pitch)
    bars = []
    for i in range(axis.n_bins):
        top = baseline
        for outcome in OUTCOMES:
            if counts[outcome][i]:
                size = max(2.5, counts[outcome][i] * unit)
                top -= size
                bars.append(Bar(left + i * pitch + gap / 2, top, pitch - gap, size, outcome))
    level = _nice_below(tallest)
    noun = "part" if len(parts) == 1 else "parts"
    grid = Tick(baseline - level * unit, str(level))
    return Panel(f"{len(parts)} {name} {noun}", baseline, tuple(bars), grid)


def _nice_below(value: float) -> int:
    """Return the largest of 1, 2, 5, 10, 20, 50, … that is at most `value`, at least 1."""
    power = 10 ** math.floor(math.log10(max(value, 1)))
    return int(max(step * power for step in (1, 2, 5) if step * power <= max(value, 1)))


def _ticks(axis: _Axis, width: float) -> list[float]:
    most = max(3, int(width / 110))
    low, high = axis.score_at(0), axis.cut or axis.score_at(axis.n_bins)
    return _log_ticks(low, high, most) if axis.logarithmic else _linear_ticks(low, high, most)


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


_LOG_STEPS = (
    (1, 1.5, 2, 3, 4, 5, 6, 7, 8),
    (1, 1.5, 2, 3, 5, 7),
    (1, 2, 3, 5),
    (1, 2, 5),
    (1, 3),
    (1,),
)


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found: list[float] = []
    for steps in _LOG_STEPS:
        values = [s * 10.0**k for k in range(first, last + 1) for s in steps]
        found = [v for v in values if low <= v <= high]
        if len(found) <= most:
            return found
    return found[:: math.ceil(len(found) / most)]


def _zones(mark: Tick | None, band: float | None, left: float, right: float) -> tuple[Zone, ...]:
    if mark is None:
        return ()
    start = mark.at if band is None else min(band, mark.at)
    stretches = (("ok", left, start), ("look again", start, mark.at), ("reject", mark.at, right))
    return tuple(
        Zone(name, x, end - x, labelled=end - x > 7.0 * len(name) + 6)
        for name, x, end in stretches
        if end > x
    )
