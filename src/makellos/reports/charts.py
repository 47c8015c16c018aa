"""Geometry of the score histogram in a report: where bars and ticks lie, in SVG user units.

Templates draw what is computed here; colours come from the page's style sheet, so one drawing
serves light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from makellos.drawing.scales import Scale, Tick, round_step
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
    """Hold where scores and the bins over them lie; past the scale is one more bin in `beyond`."""

    scale: Scale
    n_bins: int
    left: float
    right: float
    beyond: Tick | None = None

    @property
    def pitch(self) -> float:
        return (self.right - self.left) / self.n_bins

    def bins_of(self, parts: Sequence[ScoredPart]) -> list[int]:
        places = self.scale.places([part.score for part in parts])
        positions = np.floor((places - self.left) / self.pitch + 1e-9)
        bins: list[int] = np.minimum(positions, self.n_bins - 1).astype(int).tolist()
        return bins


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
    axis = _axis(parts, limit, band, width)
    groups = [(name, [p for p in parts if p.defective is bad]) for name, bad in _KINDS]
    drawn = [(name, group) for name, group in groups if group]
    panels = tuple(
        _panel(name, group, axis, PANEL_TOP + i * PANEL_PITCH + PANEL_HEIGHT)
        for i, (name, group) in enumerate(drawn)
    )
    mark = None if limit is None else Tick(axis.scale.at(limit), compact(limit))
    ticks, beyond = axis.scale.ticks(max(3, int(width / 110))), axis.beyond
    kind = "logarithmic" if axis.scale.log else "linear" if beyond is None else "broken"
    return Histogram(
        width=width,
        height=panels[-1].baseline + 48,
        left=axis.left,
        right=axis.right,
        panels=panels,
        ticks=tuple(t for t in ticks if beyond is None or t.at < beyond.at - 52),
        zones=_zones(mark, None if band is None else axis.scale.at(band), axis),
        threshold=mark,
        threshold_anchor="end" if mark is not None and mark.at > width / 2 else "start",
        scale=kind,
        beyond=beyond,
    )


_KINDS = (("good", False), ("defective", True))


def _axis(
    parts: Sequence[ScoredPart], threshold: float | None, band: float | None, width: float
) -> _Axis:
    values = [part.score for part in parts]
    values += [mark for mark in (threshold, band) if mark is not None]
    low, high = min(values), max(values)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-12):
        pad = 0.5 * abs(low) or 0.5
        low, high = low - pad, high + pad
    reach = _bulk(parts) if threshold is None else max(threshold, _bulk(parts))
    core = reach - low if reach > low else high - low
    left, right = 34.0, width - 12.0
    if high - low <= LONG_TAIL * core:
        span, n_bins = _aligned(low, high, threshold)
        return _Axis(Scale(span, (left, right)), n_bins, left, right)
    if low > 0 and math.log(reach / low) > 0.15 * math.log(high / low):
        mark = None if threshold is None else math.log10(threshold)
        (first, last), n_bins = _aligned(math.log10(low), math.log10(high), mark)
        return _Axis(Scale((10**first, 10**last), (left, right), log=True), n_bins, left, right)
    span, n_bins = _aligned(low, low + LONG_TAIL * core, threshold)
    pitch = (right - left) / (n_bins + 1)
    beyond = Tick(right - pitch / 2, f"over {compact(span[1])}")
    return _Axis(Scale(span, (left, right - pitch)), n_bins + 1, left, right, beyond)


def _bulk(parts: Sequence[ScoredPart]) -> float:
    """Return the score below which most good parts lie, or most parts where none is good."""
    good = sorted(part.score for part in parts if not part.defective)
    ordered = good or sorted(part.score for part in parts)
    return ordered[int((0.95 if good else 0.75) * (len(ordered) - 1))]


def _aligned(low: float, high: float, mark: float | None) -> tuple[tuple[float, float], int]:
    """Return the ends and the number of even bins over [low, high] of which one edge is `mark`."""
    step = (high - low) / N_BINS
    if mark is None:
        return (low, high), N_BINS
    below = math.ceil((mark - low) / step - 1e-9)
    # A score that equals the upper end belongs to a bin that begins there.
    above = math.floor((high - mark) / step + 1e-9) + 1
    return (mark - below * step, mark + above * step), below + above


def _panel(name: str, parts: Sequence[ScoredPart], axis: _Axis, baseline: float) -> Panel:
    counts = [dict.fromkeys(OUTCOMES, 0) for _ in range(axis.n_bins)]
    for part, place in zip(parts, axis.bins_of(parts), strict=True):
        counts[place][part.outcome] += 1
    tallest = max(sum(each.values()) for each in counts)
    pitch, unit = axis.pitch, PANEL_HEIGHT / tallest
    gap = min(2.0, 0.2 * pitch)
    bars = []
    for i, each in enumerate(counts):
        top = baseline
        for outcome, n in each.items():
            if n:
                size = max(2.5, n * unit)
                top -= size
                bars.append(Bar(axis.left + i * pitch + gap / 2, top, pitch - gap, size, outcome))
    level = round(1 / round_step(1 / tallest))  # the largest round number that is no more
    noun = "part" if len(parts) == 1 else "parts"
    grid = Tick(baseline - level * unit, str(level))
    return Panel(f"{len(parts)} {name} {noun}", baseline, tuple(bars), grid)


def _zones(mark: Tick | None, band: float | None, axis: _Axis) -> tuple[Zone, ...]:
    if mark is None:
        return ()
    start = mark.at if band is None else min(band, mark.at)
    stretches = (
        ("ok", axis.left, start),
        ("look again", start, mark.at),
        ("reject", mark.at, axis.right),
    )
    return tuple(
        Zone(name, x, end - x, labelled=end - x > 7.0 * len(name) + 6)
        for name, x, end in stretches
        if end > x
    )
