"""Charts of what detectors are worth that learned from few good parts, and what these promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from makellos.drawing.scales import Scale, Tick, round_span
from makellos.reports.formats import MISSING, auroc, finite, percent, percent_range
from makellos.reports.frames import ACROSS, UP, Frame, path_through

__all__ = ["FewGoodCurve", "few_good_curves", "few_good_row"]


@dataclass(frozen=True)
class Curve:
    """Hold a figure by number of good parts: the line of means, and a mark and span for each."""

    frame: Frame
    line: str
    marks: tuple[tuple[float, float, float, float], ...]  # x, mean, lowest, highest
    promise: str = ""


@dataclass(frozen=True)
class FewGoodCurve:
    """Hold one detector: both charts, None where test parts lack a class, and the table below."""

    detector: str
    misses: Curve | None
    auroc: Curve | None
    rows: Sequence[Sequence[tuple[str, str]]]
    most: Mapping[str, Any]


def few_good_curves(found: Sequence[Mapping[str, Any]]) -> list[FewGoodCurve]:
    """Return the charts of each detector; `found` is ``few_good`` of ``compare --json``."""
    curves = []
    for name in dict.fromkeys(each["detector"] for each in found):
        points = sorted((p for p in found if p["detector"] == name), key=lambda p: p["n_good"])
        numbers = [p["n_good"] for p in points]
        across = Scale((numbers[0], numbers[-1]), (ACROSS[0] + 12, ACROSS[1] - 12), log=True)
        ranks = [p["image_auroc"]["lowest"] for p in points if p["image_auroc"]]
        low = round_span(min([0.9, *ranks]), 1.0, 5)
        curves.append(
            FewGoodCurve(
                name,
                _curve(points, "miss_rate", across, Scale((0.0, 100.0), UP), 100.0),
                _curve(points, "image_auroc", across, Scale(low, UP), 1.0),
                [few_good_row(point) for point in points],
                points[-1],
            )
        )
    return curves


def few_good_row(point: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the cells of a row, each a text and what stands below: the range over draws."""
    promised = finite(point["false_alarms"])
    return [
        (str(point["n_good"]), ""),
        ("nothing" if promised is None else percent(promised), ""),
        _rate(point["miss_rate"]),
        _rate(point["false_alarm_rate"]),
        _cell(point["image_auroc"]),
    ]


def _rate(spread: Mapping[str, Any] | None) -> tuple[str, str]:
    if spread is None:
        return MISSING, ""
    return percent(spread["mean"]), percent_range((spread["lowest"], spread["highest"]))


def _cell(spread: Mapping[str, Any] | None) -> tuple[str, str]:
    if spread is None:
        return MISSING, ""
    return auroc(spread["mean"]), f"{auroc(spread['lowest'])} to {auroc(spread['highest'])}"


def _curve(
    points: Sequence[Mapping[str, Any]], key: str, across: Scale, up: Scale, unit: float
) -> Curve | None:
    known = [point for point in points if point[key] is not None]
    if not known:
        return None
    ticks = tuple(Tick(across.at(p["n_good"]), str(p["n_good"])) for p in points)
    frame = Frame(340.0, 304.0, *ACROSS, UP[1], UP[0], ticks, up.ticks(5))
    marks = tuple(
        (
            across.at(point["n_good"]),
            *(up.at(unit * point[key][end]) for end in ("mean", "lowest", "highest")),
        )
        for point in known
    )
    promised = [p for p in points if finite(p["false_alarms"]) is not None]
    places = [(across.at(p["n_good"]), up.at(unit * p["false_alarms"])) for p in promised]
    promise = path_through(places) if key == "miss_rate" else ""
    return Curve(frame, path_through([(x, y) for x, y, *_ in marks]), marks, promise)  # type: ignore[arg-type]
