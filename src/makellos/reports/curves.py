"""Geometry of ROC and precision-recall curves in a report, in SVG user units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from makellos.reports.formats import finite

__all__ = ["Curve", "curve"]


@dataclass(frozen=True)
class Curve:
    """Hold a curve in the unit square: its line, reference line, ticks and operating point."""

    width: float
    height: float
    left: float
    top: float
    right: float
    bottom: float
    line: str
    area: str
    reference: str
    ticks: tuple[tuple[float, float, str], ...]
    point: tuple[float, float] | None
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
    pairs = [(finite(x), finite(y)) for x, y in zip(horizontal, vertical, strict=True)]
    known = [(x, y) for x, y in pairs if x is not None and y is not None]
    if len(known) < 2:
        return None
    width, height, left, top, right, bottom = 340.0, 304.0, 38.0, 32.0, 328.0, 266.0

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * x, bottom - (bottom - top) * y

    placed = _thinned([place(x, y) for x, y in known])
    line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
    ends = (place(0, reference[0]), place(1, reference[1]))
    x, y = finite(point[0]), finite(point[1])
    spot = None if x is None or y is None else place(x, y)
    return Curve(
        width=width,
        height=height,
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        line=line,
        area=f"{line}L{placed[-1][0]:.1f} {bottom:.1f}L{placed[0][0]:.1f} {bottom:.1f}Z",
        reference="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in ends),
        ticks=tuple((*place(at, at), f"{at:g}") for at in (0.0, 0.25, 0.5, 0.75, 1.0)),
        point=spot,
        point_anchor="end" if spot is not None and spot[0] > (left + right) / 2 else "start",
    )


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that lie at least half a unit from the one before, and both ends."""
    kept = [points[0]]
    for x, y in points[1:-1]:
        if max(abs(x - kept[-1][0]), abs(y - kept[-1][1])) >= 0.5:
            kept.append((x, y))
    return [*kept, points[-1]]
