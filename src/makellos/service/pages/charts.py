"""Geometry of the charts of the pages, in SVG units."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["BudgetChart", "ControlChart", "budget_chart", "control_chart"]

_WIDTH, _HEIGHT = 720.0, 240.0
_WIDE = 1100.0  # of the control chart
_LEFT, _RIGHT, _TOP, _BELOW = 46.0, 14.0, 26.0, 34.0
_TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
_FLOOR = 1e-4  # p-values below it are drawn there


@dataclass(frozen=True)
class BudgetChart:
    """Hold the share of parts that is rejected, over the budget; `promise` is where both agree."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    line: str
    promise: str
    now: float
    asked: float
    asked_height: float
    across: tuple[tuple[float, float], ...]
    up: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ControlChart:
    """Hold p-values over the parts in their order: spots with verdicts, limits, alarms."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    spots: tuple[tuple[float, float, str, int], ...]
    reject: float
    again: float
    up: tuple[tuple[float, float], ...]
    alarms: tuple[tuple[float, str, str], ...]
    mean: str


def _log_place(value: float, low: float, high: float) -> float:
    span = math.log(high / low)
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * math.log(max(low, min(high, value)) / low) / span


def budget_chart(
    p_values: Sequence[float], budget: float, asked: float, steps: Sequence[float]
) -> BudgetChart:
    """Return how many parts are rejected under each budget, by their p-values in [0, 1]."""
    ordered, n = sorted(p_values), max(1, len(p_values))
    low, high = min(steps) / 1.15, max(steps) * 1.15
    budgets = [low * (high / low) ** (i / 160) for i in range(161)]

    def share(limit: float) -> float:
        return bisect.bisect_right(ordered, limit * (1 + 1e-9)) / n

    most = _round_up(max(share(high), high))
    bottom = _HEIGHT - _BELOW

    def up(value: float) -> float:
        return bottom - (bottom - _TOP) * min(1.0, value / most)

    points = [(_log_place(each, low, high), up(share(each))) for each in budgets]
    promised = [(_log_place(each, low, high), up(each)) for each in budgets]
    ticks = [each for each in _TICKS if low < each < high]
    return BudgetChart(
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_WIDTH - _RIGHT,
        top=_TOP,
        bottom=bottom,
        line=_path(points),
        promise=_path(promised),
        now=round(_log_place(budget, low, high), 1),
        asked=round(_log_place(asked, low, high), 1),
        asked_height=round(up(share(asked)), 1),
        across=tuple((round(_log_place(each, low, high), 1), each) for each in ticks),
        up=tuple((round(up(most * k / 4), 1), most * k / 4) for k in range(5)),
    )


def control_chart(
    parts: Sequence[tuple[int, float, str]],
    *,
    budget: float,
    again: float,
    alarms: Sequence[tuple[int, str]],
) -> ControlChart:
    """Return parts, oldest first, as number, p-value and verdict; alarms as number and cause.

    The scale is logarithmic and grows upwards, from 1 to below the lowest p-value.
    """
    bottom, span = _HEIGHT - _BELOW, max(1, len(parts) - 1)
    lowest = min([budget, *(p_value for _, p_value, _ in parts)])
    floor = max(_FLOOR, lowest / 2)

    def up(p_value: float) -> float:
        return bottom - (bottom - _TOP) * math.log(max(floor, p_value)) / math.log(floor)

    def across(place: int) -> float:
        return _LEFT + (_WIDE - _LEFT - _RIGHT) * place / span

    numbers = [number for number, _, _ in parts]
    wide = max(5, len(parts) // 20)
    logs = [math.log(max(floor, p_value)) for _, p_value, _ in parts]
    recent = [logs[max(0, i - wide) : i + 1] for i in range(len(logs))]
    means = [math.exp(math.fsum(each) / len(each)) for each in recent]
    return ControlChart(
        width=_WIDE,
        height=_HEIGHT,
        left=_LEFT,
        right=_WIDE - _RIGHT,
        top=_TOP,
        bottom=bottom,
        spots=tuple(
            (round(across(i), 1), round(up(p_value), 1), verdict, number)
            for i, (number, p_value, verdict) in enumerate(parts)
        ),
        reject=round(up(budget), 1),
        again=round(up(again), 1),
        up=tuple((round(up(each), 1), each) for each in (1.0, 0.1, 0.01, 0.001) if each >= floor),
        alarms=tuple(
            (round(across(place), 1), cause, "end" if place > 0.6 * len(numbers) else "start")
            for number, cause in alarms
            if numbers and numbers[0] <= number <= numbers[-1]
            for place in [bisect.bisect_left(numbers, number)]
        ),
        mean=_path([(across(i), up(each)) for i, each in enumerate(means)]),
    )


def _round_up(value: float) -> float:
    """Return the next larger of 1, 2, 4, 5, 8 times a power of ten, at most 1."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-6)))
    return min(1.0, next(k * power for k in (1, 2, 4, 8, 10) if k * power >= value * 0.999))


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) if points else ""
