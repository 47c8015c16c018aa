"""Geometry of ROC and precision-recall curves in a report, in SVG user units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from makellos.drawing.scales import Scale
from makellos.evaluation.promise import realised_range, share_of_plants
from makellos.reports.formats import finite
from makellos.reports.frames import ACROSS, UP, Frame, path_through, quarters, share_frame

__all__ = ["Curve", "curve", "promise_curve"]

_N_RATES = 120
Point = tuple[float, float]
_X, _Y = Scale((0.0, 1.0), ACROSS), Scale((0.0, 1.0), UP)


@dataclass(frozen=True)
class Curve:
    """Hold a curve in the unit square: its line, reference line and operating point."""

    frame: Frame
    line: str
    area: str
    reference: str
    point: Point | None
    point_anchor: str


def curve(
    horizontal: Sequence[float],
    vertical: Sequence[float],
    *,
    point: tuple[float | None, float | None] = (None, None),
    reference: tuple[float, float] = (0.0, 1.0),
) -> Curve | None:
    """Return a curve through points of the unit square, or None where fewer than two are finite.

    `point` is the operating point (x, y); `reference` the heights at 0 and 1 of the dashed line
    that guessing would reach.
    """
    known = [
        (x, y)
        for pair in zip(horizontal, vertical, strict=True)
        if (x := finite(pair[0])) is not None and (y := finite(pair[1])) is not None
    ]
    if len(known) < 2:
        return None
    xs, ys = zip(*known, strict=True)
    places = zip(_X.places(xs).tolist(), _Y.places(ys).tolist(), strict=True)
    placed = _thinned(list(places))
    line, bottom = path_through(placed), UP[0]
    x, y = finite(point[0]), finite(point[1])
    spot = None if x is None or y is None else (_X.at(x), _Y.at(y))
    return Curve(
        frame=share_frame(quarters(ACROSS)),
        line=line,
        area=f"{line}L{placed[-1][0]:.1f} {bottom:.1f}L{placed[0][0]:.1f} {bottom:.1f}Z",
        reference=path_through([(_X.at(share), _Y.at(reference[share])) for share in (0, 1)]),
        point=spot,
        point_anchor="end" if spot is not None and spot[0] > sum(ACROSS) / 2 else "start",
    )


def promise_curve(n_units: int, budget: float) -> Curve:
    """Return the share of plants in which at most so many good parts are rejected, by that rate.

    `n_units` good parts or groups set the threshold; the dashed line is the budget.
    """
    most = max(2 * budget, realised_range(n_units, budget, 0.998)[1])
    across = Scale((0.0, 100 * most), ACROSS)
    rates = [most * i / _N_RATES for i in range(_N_RATES + 1)]
    placed = [
        (across.at(100 * rate), _Y.at(share_of_plants(n_units, budget, rate))) for rate in rates
    ]
    line, bottom = path_through(placed), UP[0]
    return Curve(
        frame=share_frame(across.ticks(4)),
        line=line,
        area=f"{line}L{placed[-1][0]:.1f} {bottom:.1f}L{placed[0][0]:.1f} {bottom:.1f}Z",
        reference=path_through([(across.at(100 * budget), _Y.at(share)) for share in (0, 1)]),
        point=None,
        point_anchor="start",
    )


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Return the points that lie at least half a unit from the one before, and both ends."""
    kept = [points[0]]
    for x, y in points[1:-1]:
        if max(abs(x - kept[-1][0]), abs(y - kept[-1][1])) >= 0.5:
            kept.append((x, y))
    return [*kept, points[-1]]
