"""The frame of a chart: where it lies in its drawing, and the ticks of its axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from makellos.drawing.scales import Scale, Tick

__all__ = ["ACROSS", "UP", "Frame", "path_through", "quarters", "share_frame"]

ACROSS, UP = (38.0, 328.0), (266.0, 32.0)  # where the axes of a `share_frame` begin and end


@dataclass(frozen=True)
class Frame:
    """Hold the size of a drawing, the edges of the chart in it and its ticks, in SVG units."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    across: Sequence[Tick]
    up: Sequence[Tick]
    logarithmic: bool = False


def share_frame(across: Sequence[Tick]) -> Frame:
    """Return the frame of a small chart whose upward axis is one of shares."""
    bottom, top = UP
    return Frame(340.0, 304.0, *ACROSS, top, bottom, across, quarters(UP))


def quarters(ends: tuple[float, float]) -> tuple[Tick, ...]:
    """Return the ticks of an axis of shares between these ends."""
    scale = Scale((0.0, 1.0), ends)
    return tuple(Tick(scale.at(share), f"{share:g}") for share in (0.0, 0.25, 0.5, 0.75, 1.0))


def path_through(points: Iterable[tuple[float, float]]) -> str:
    """Return the SVG path of straight lines through points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
