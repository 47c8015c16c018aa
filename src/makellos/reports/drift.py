"""The page of a drift: the wealth of bets against the good state, alarms, pictures side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from makellos.drawing.scales import Scale
from makellos.inspection.drift import Alarm
from makellos.reports.formats import count
from makellos.reports.frames import Frame, path_through
from makellos.reports.pages import NARROW, WIDE, render_page
from makellos.reports.statements import Statement

__all__ = ["DriftPage", "Shown", "render_drift"]

_TOP, _LEFT, _RIGHT, _BELOW = 44.0, 56.0, 14.0, 50.0
_LEAST, _MOST = 1e-2, 1e12  # wealths that are drawn
_WORDS = {  # of figures, with what a difference of logarithms is said in
    "level": ("Gray level of the ground", True),
    "red": ("Red against green", True),
    "blue": ("Blue against green", True),
    "sharpness": ("Sharpness of edges", True),
    "noise": ("Noise", True),
    "grain": ("Fine against coarse noise", True),
    "across": ("Direction of fine structure, cosine", False),
    "along": ("Direction of fine structure, sine", False),
    "x": ("Place across, share of the picture", False),
    "y": ("Place down, share of the picture", False),
    "turn_x": ("Direction of the part, cosine", False),
    "turn_y": ("Direction of the part, sine", False),
    "length": ("Length of the part", True),
    "width": ("Width of the part", True),
    "area": ("Area of the part", True),
    "part": ("Gray level of the part against the ground", True),
}


@dataclass(frozen=True)
class Shown:
    """Hold an alarm, and names and encoded pictures of parts before the change and after it."""

    alarm: Alarm
    before: Sequence[tuple[str, bytes]]
    after: Sequence[tuple[str, bytes]]

    @property
    def changes(self) -> list[tuple[str, str, str, str]]:
        """Return figures in words, what they were, what they have become, and the difference."""
        rows = []
        for name, (before, after) in self.alarm.changes.items():
            words, logarithmic = _WORDS[name]
            if logarithmic:
                now = min(after - before, 20.0)
                rows.append((words, "100 %", f"{math.exp(now):.1%}", f"{math.expm1(now):+.1%}"))
            else:
                rows.append((words, f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}"))
        return rows

    @property
    def evidence(self) -> list[tuple[str, str]]:
        """Return causes and by what factor a bet on each has grown, the highest first."""
        found = sorted(self.alarm.evidence.items(), key=lambda pair: -pair[1])
        return [(cause, f"10^{power:.1f}") for cause, power in found if power >= 1]


@dataclass(frozen=True)
class DriftPage:
    """Hold all that the page shows: the sum of `wealths` after each part, and the alarms.

    `level` is the wealth at which an alarm is raised, `order` what parts were ordered by.
    """

    title: str
    n_parts: int
    wealths: Sequence[float]
    level: float
    shown: Sequence[Shown]
    n_unreadable: int
    watched: str
    order: str
    notes: Sequence[str]
    model: str


@dataclass(frozen=True)
class Chart:
    """Hold the sum of wealths over parts in SVG units; `alarms` are places and causes."""

    frame: Frame
    line: str
    level: float
    alarms: Sequence[tuple[float, str]]


def render_drift(page: DriftPage) -> str:
    """Return the page as one HTML file with style, script, charts and pictures inside."""
    return render_page(
        "drift.html.j2",
        page=page,
        statement=_statement(page),
        charts=[_chart(page, WIDE, 360.0), _chart(page, NARROW, 300.0)],
    )


def _statement(page: DriftPage) -> Statement:
    n = len(page.shown)
    if not n:
        n_read = page.n_parts - page.n_unreadable
        said = f"Nothing in {count(n_read)} parts speaks against the good state."
        return Statement("Found", "No", "drift", "right", None, (said,), ())
    sentences = tuple(
        f"Since about part {count(each.alarm.since)}: {each.alarm.cause} ({each.alarm.detail})."
        for each in page.shown[:4]
    )
    return Statement(
        "Found", count(n), "alarm" if n == 1 else "alarms", "wrong", None, sentences, ()
    )


def _chart(page: DriftPage, width: float, height: float) -> Chart:
    bottom, right = height - _BELOW, width - _RIGHT
    sums = [min(max(each, _LEAST), _MOST) for each in page.wealths]
    scale = Scale((_LEAST, max(page.level, *sums) * 3), (bottom, _TOP), log=True)
    across = Scale((1.0, float(max(2, len(sums)))), (_LEFT + 6, right - 6))
    points = {round(2 * across.at(i)) / 2: scale.at(each) for i, each in enumerate(sums, start=1)}
    most = max(4, width / 120)
    return Chart(
        Frame(
            width,
            height,
            _LEFT,
            right,
            _TOP,
            bottom,
            across.whole_ticks(most),
            scale.ticks(6),
            logarithmic=True,
        ),
        path_through(points.items()),
        scale.at(page.level),
        [(across.at(each.alarm.at), each.alarm.cause) for each in page.shown],
    )
