"""Times of samples: the sampling rate that they state, whether it can be, and gaps in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.errors import InputError
from makellos.vibration._columns import Column, Columns

__all__ = [
    "MOST_HZ",
    "RATE_TOLERANCE",
    "check_stated",
    "is_time_name",
    "rate_and_gaps",
    "without_time",
]

RATE_TOLERANCE = 0.01  # relative; clocks of one kind of recorder differ by far less
# What vibration is recorded at; below the second one, and above a tenth of the
# last, the unit of times has to be stated.
LEAST_HZ, USUAL_HZ, MOST_HZ = 1.0, 100.0, 1e8

_NAMES = (  # those that mean a time wherever the column stands, and those that do in the first
    r"time(?:[ _-]?stamps?)?|elapsed(?:[ _]time)?|zeit(?:stempel)?|date[ _-]?time|epoch"
    r"|x[ _]values?"
)
_SHORT_NAMES = r"t|ts|s|sec|seconds?|ms|us|µs|μs|ns|date|datum|uhrzeit"
_UNIT = (
    r"(?:(?:[ _.-]+[\[(]?|[\[(])(?P<unit>s|sec|seconds?|ms|us|µs|μs|ns|min|minutes?|h|hours?)"
    r"[\])]?)?"
)
_TIME = re.compile(rf"^(?:{_NAMES}){_UNIT}$", re.IGNORECASE)
_FIRST_TIME = re.compile(rf"^(?:{_NAMES}|{_SHORT_NAMES}){_UNIT}$", re.IGNORECASE)
_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "usec", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nsec", "nanosecond", "nanoseconds"), 1e-9),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}
_UNITS = ("s", "ms", "us", "ns")
_EPOCH = (1.0e9, 2.5e9)  # s since 1970: from 2001 to 2049


def without_time(found: Columns) -> tuple[list[Column], Column | None]:
    """Return the channels of a file, and the column that is their time, where there is one.

    Columns of empty times, of further times and a count of rows before them are neither.
    """
    with np.errstate(all="ignore"):  # of what is no number
        return _without_time(found)


def _without_time(found: Columns) -> tuple[list[Column], Column | None]:
    columns = found.columns
    if len(columns) < 2:
        return columns, None
    stated = [
        each
        for each in columns
        if _TIME.match(each.name) or (each.name.startswith("X.") and _is_even(each.values))
    ]
    first = columns[0]
    if found.ordered and not stated and (_FIRST_TIME.match(first.name) or _is_even(first.values)):
        stated = [first]
    elif not found.ordered and not stated:
        stated = [each for each in columns if _FIRST_TIME.match(each.name)][:1]
    filled = [each for each in stated if not np.isnan(_floats(each.values)).all()]
    if len(stated) == len(columns):
        return columns, None
    left = [each for each in columns if not any(each is time for time in stated)]
    if filled and found.ordered and len(left) > 1 and left[0] is first and _is_count(first):
        left = left[1:]
    return left, filled[0] if filled else None


def rate_and_gaps(
    time: Column, path: Path, believed: Iterable[float | None] = ()
) -> tuple[float | None, tuple[tuple[int, float], ...]]:
    """Return the rate in Hz that a time column states, None for a count, and its gaps.

    A gap is the sample after it, and the jump in sampling periods. `believed` are rates that
    others state: times without a unit have the one that agrees with them.

    Raises `InputError` for times that do not rise, and for a rate that vibration is not recorded
    at.
    """
    with np.errstate(all="ignore"):
        first, values = _first_and_elapsed(time.values)
        steps = np.diff(values)
        jumps, base = _jumps(steps)
    n_rises = int((steps > 0).sum())
    if not base or jumps.all() or n_rises < min(2, len(steps)):
        raise InputError(
            f"{path}: the column {time.name!r} {'hardly rises' if n_rises else 'does not rise'}, "
            "so it gives no rate. Rename it if it is a channel, or remove it and give the "
            "sampling rate."
        )
    step = _period(values, steps, jumps)
    gaps = tuple((int(i) + 1, float(steps[i]) / step) for i in np.flatnonzero(jumps))
    stated = time.unit or (_FIRST_TIME.match(time.name) or {"unit": None})["unit"]
    if stated is None and time.name.lower() in _SECONDS:
        stated = time.name
    if stated is not None and stated.lower() not in _SECONDS:
        return None, gaps
    since_1970 = _epoch_unit(first)
    if stated is not None and since_1970 is not None:
        # A unit that is not that of a time since 1970 is no reason to believe a low rate.
        is_sure = _SECONDS[stated.lower()] == _SECONDS[since_1970]
        since_1970 = None
    else:
        is_sure = bool(stated or since_1970)
    units = [known] if (known := stated or since_1970) else list(_UNITS)
    rates = [_rounded(1 / (step * _SECONDS[unit.lower()])) for unit in units]
    agreeing = [
        rate
        for hint in believed
        for rate in rates
        if hint is not None and abs(rate / hint - 1) <= RATE_TOLERANCE
    ]
    if agreeing:
        return agreeing[0], gaps
    if not (stated or since_1970) and base == 1 and bool((steps[~jumps] == 1).all()):
        return None, gaps  # a count
    least, most = (LEAST_HZ, MOST_HZ) if is_sure else (USUAL_HZ, MOST_HZ / 10)
    if not least <= rates[0] <= most:
        raise InputError(_implausible(path, time.name, step, rates, stated, since_1970))
    return rates[0], gaps


def is_time_name(name: str) -> bool:
    """Tell whether a first column of this name is a time."""
    return bool(_FIRST_TIME.match(name))


def check_stated(rate: float, path: Path) -> str | None:
    """Return what is odd about a rate that a file states, in words or by times; None for nothing.

    Raises `InputError` for one that vibration is not recorded at.
    """
    if not LEAST_HZ <= rate <= MOST_HZ:
        raise InputError(
            f"{path} states a sampling rate of {rate:.6g} Hz; vibration is recorded at "
            f"{LEAST_HZ:g} Hz to {MOST_HZ / 1e6:g} MHz. Correct it in the file, or give the right "
            "one (--rate HZ)."
        )
    if rate >= USUAL_HZ:
        return None
    return (
        f"{path} states a sampling rate of {rate:.6g} Hz, which is low for vibration. If kHz is "
        "meant, or its times are in ms, correct it in the file, or give the right rate (--rate HZ)."
    )


def _implausible(
    path: Path,
    name: str,
    step: float,
    rates: Sequence[float],
    stated: str | None,
    since_1970: str | None,
) -> str:
    column = f"the column {name!r}" if name else "the first column, read as time (it rises evenly),"
    unit = stated or since_1970 or "s"
    whence = "as stated" if stated else "counted from 1970" if since_1970 else "no unit is stated"
    others = [
        f"{rate:,.6g} Hz in {other}"
        for other, rate in zip(_UNITS[1:], rates[1:], strict=False)
        if USUAL_HZ <= rate <= MOST_HZ
    ]
    guess = f" It would be {' or '.join(others)}." if others else ""
    return (
        f"{path}: {column} rises by {step:.6g} from sample to sample; in {unit} ({whence}) that is "
        f"a rate of {rates[0]:.6g} Hz, implausible for vibration.{guess} Put the unit in the name "
        "of the column, such as 'time [ms]', or give the right rate (--rate HZ)."
    )


def _floats(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)


def _first_and_elapsed(values: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
    """Return the first time, and all without it; whole numbers keep every digit."""
    if values.dtype.kind in "iu" and len(values):
        return float(values[0]), (values - values[0]).astype(np.int64).astype(np.float64)
    elapsed = _floats(values)
    finite = elapsed[np.isfinite(elapsed)]
    first = float(finite[0]) if len(finite) else 0.0
    return first, elapsed - first


def _period(
    values: NDArray[np.float64], steps: NDArray[np.float64], jumps: NDArray[np.bool_]
) -> float:
    """Return the time between samples, from the first change to the last where there is no gap.

    What lies before and after may be cut off, of times that many samples share.
    """
    changes = np.flatnonzero(steps > 0)
    if not jumps.any() and len(changes) > 1:
        first, last = int(changes[0]), int(changes[-1])
        return float((values[last] - values[first]) / (last - first))
    return float(steps[~jumps].mean())


def _epoch_unit(first: float) -> str | None:
    """Return the unit of a time since 1970, told by its size; None for another time."""
    for i, unit in enumerate(_UNITS):
        if _EPOCH[0] <= first / 1000**i < _EPOCH[1]:
            return unit
    return None


def _is_count(column: Column) -> bool:
    steps = np.diff(_floats(column.values))
    return bool(len(steps)) and bool((steps == 1).all())


def _is_even(values: NDArray[Any]) -> bool:
    """Say whether a column without a telling name is a time: steps of one size, hardly a jump."""
    if len(values) < 3 or not np.isfinite(_floats(values)).all():
        return False
    steps = np.diff(_first_and_elapsed(values)[1])
    jumps, base = _jumps(steps)
    even = steps[~jumps]
    return bool(
        base > 0
        and jumps.mean() <= 0.01
        and len(even) > 1
        and even.min() >= 0
        and np.ptp(even) <= 1.01 * base
    )


def _jumps(steps: NDArray[np.float64]) -> tuple[NDArray[np.bool_], float]:
    """Return where the steps of a time column are out of line, and the usual step.

    Times that were written with few digits have steps of two sizes, or repeat; that is no jump.
    """
    positive = steps[steps > 0]
    if not len(positive):
        return np.ones(len(steps), np.bool_), 0.0
    base = float(np.median(positive))
    low, high = np.nanpercentile(steps, (5, 95))
    low, high = min(low, base), max(high, base)
    if high - low > 1.01 * base:  # not a matter of digits
        low = high = base
    slack = max(0.5 * base, high - low) * (1 + 1e-6)
    regular = (steps >= max(0.0, low - slack)) & (steps <= high + slack)
    return ~regular, base


def _rounded(rate: float) -> float:
    """Return the whole number of Hz that times of few digits have blurred, where one is near."""
    whole = float(round(rate))
    return whole if abs(rate - whole) <= 1e-4 * rate else rate
