"""Scales of charts: where values lie along an axis, and which round values stand there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Scale", "Tick", "log_ticks", "round_span", "round_step", "ticks"]

# From the densest to the sparsest: what stands in each power of ten of a logarithmic axis.
_IN_A_DECADE = (
    (1, 1.5, 2, 3, 4, 5, 6, 7, 8),
    (1, 1.5, 2, 3, 5, 7),
    (1, 2, 3, 5),
    (1, 2, 5),
    (1, 3),
    (1,),
)


class Tick(NamedTuple):
    """Hold a value, or its place along an axis, and the text that stands there."""

    at: float
    text: str


@dataclass(frozen=True)
class Scale:
    """Map values to places along an axis: those of `span` to `ends`, those outside to the nearer.

    With `log` the values of `span` are positive and places are even by decades. A span of a single
    value lies in the middle.
    """

    span: tuple[float, float]
    ends: tuple[float, float] = (0.0, 1.0)
    log: bool = False

    def at(self, value: float) -> float:
        """Return the place of a value."""
        return float(self.places(value))

    def places(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return the places of values of any shape, in the same shape."""
        (first, last), (start, end) = self.span, self.ends
        inside = np.clip(np.asarray(values, np.float64), min(self.span), max(self.span))
        if first == last:
            return np.full_like(inside, (start + end) / 2)
        if self.log:
            inside, first, last = np.log10(inside), math.log10(first), math.log10(last)
        return start + (end - start) * ((inside - first) / (last - first))

    def ticks(self, most: float) -> tuple[Tick, ...]:
        """Return the places of about `most` round values with their text."""
        found = (log_ticks if self.log else ticks)(min(self.span), max(self.span), most)
        return tuple(Tick(self.at(value), text) for value, text in found)

    def whole_ticks(self, most: float) -> tuple[Tick, ...]:
        """Return the places of the first whole number and of multiples of a round one, as above."""
        first, last = round(self.span[0]), round(self.span[1])
        step = max(1, round(round_step((last - first) / most)))
        numbers = sorted({first, *range(-(-(first + 1) // step) * step, last + 1, step)})
        return tuple(Tick(self.at(number), str(number)) for number in numbers)


def round_step(least: float) -> float:
    """Return the smallest of 0.1, 0.2, 0.5, 1, 2, 5, 10, … that is `least` or more.

    >>> round_step(0.03), round_step(20.0), round_step(0.0)
    (0.05, 20.0, 1.0)
    """
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= least * (1 - 1e-9))


def round_span(low: float, high: float, most: float) -> tuple[float, float]:
    """Return low and high moved outwards to round values.

    >>> round_span(-0.07, 0.13, 4)
    (-0.1, 0.15000000000000002)
    """
    step = round_step((high - low) / most)
    return step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)


def ticks(low: float, high: float, most: float, unit: float = 1.0) -> list[Tick]:
    """Return the values from low to high that are round in a unit, at most about `most`.

    Their steps are 1, 2 or 5 of a power of ten, and all have as many decimals.

    >>> [text for _, text in ticks(0.3, 2.1, 4)]
    ['0.5', '1.0', '1.5', '2.0']
    """
    step = round_step((high - low) / unit / most)
    first, last = math.ceil(low / unit / step - 1e-9), math.floor(high / unit / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    plain = f".{digits}f" if max(abs(low), abs(high)) < 1e6 and digits < 6 else ".4g"
    return [Tick(n * step * unit, format(n * step, plain)) for n in range(first, last + 1)]


def log_ticks(low: float, high: float, most: float) -> list[Tick]:
    """Return round values from low to high, both positive, that are apart on a logarithmic axis.

    >>> [text for _, text in log_ticks(0.2, 20.0, 5)]
    ['0.3', '1', '3', '10']
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for steps in _IN_A_DECADE:
        found = [v for n in powers for step in steps if low <= (v := step * 10.0**n) <= high]
        if len(found) <= most:
            break
    return [Tick(value, f"{value:g}") for value in found[:: max(1, math.ceil(len(found) / most))]]
