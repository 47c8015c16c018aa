"""Numbers as a reader wants them: percentages, scores and counts as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = [
    "MISSING",
    "NARROW_SPACE",
    "auroc",
    "compact",
    "count",
    "decimal",
    "duration",
    "finite",
    "interval_of",
    "percent",
    "percent_range",
    "rounded",
    "short",
    "shown",
    "whole",
]

MISSING = "\u2013"
NARROW_SPACE = "\u202f"


def finite(value: Any) -> float | None:
    """Return `value` as a float, or None where it is missing, not a number or not finite."""
    if value is None or isinstance(value, (bool, str)):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def whole(value: Any) -> int | None:
    """Return `value` rounded to an integer, or None where it is missing or not finite."""
    number = finite(value)
    return None if number is None else round(number)


def interval_of(figures: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """Return the 95 % interval of one of the figures, or None where an end is missing."""
    ends = [finite(end) for end in (figures.get("intervals") or {}).get(name) or ()]
    known = [end for end in ends if end is not None]
    return (known[0], known[1]) if len(known) == len(ends) == 2 else None


def percent(value: Any) -> str:
    """Return a share in [0, 1] as a percentage that never rounds to 0 or 100 falsely.

    >>> percent(0.5), percent(0.99999), percent(None)
    ('50\\u202f%', '>99.99\\u202f%', '\u2013')
    """
    share = finite(value)
    if share is None:
        return MISSING
    hundredths = 100 * share
    digits = 2 if hundredths < 1 or hundredths > 99 else 1
    text = f"{hundredths:.{digits}f}".rstrip("0").rstrip(".")
    if text == "0" and share > 0:
        text = "<0.01"
    if text == "100" and share < 1:
        text = ">99.99"
    return f"{text}{NARROW_SPACE}%"


def rounded(value: Any) -> str:
    """Return a share as whole percent that never reads 0 or 100 falsely.

    >>> rounded(0.128), rounded(0.9999), rounded(0.001), rounded(1)
    ('13\\u202f%', '>99\\u202f%', '<1\\u202f%', '100\\u202f%')
    """
    share = finite(value)
    if share is None:
        return MISSING
    text = f"{100 * share:.0f}"
    if text == "0" and share > 0:
        text = "<1"
    if text == "100" and share < 1:
        text = ">99"
    return f"{text}{NARROW_SPACE}%"


def percent_range(interval: tuple[float, float]) -> str:
    """Return an interval of two shares as text.

    >>> percent_range((0.25, 0.5))
    '25\\u202f% to 50\\u202f%'
    """
    low, high = interval
    return f"{percent(low)} to {percent(high)}"


def decimal(value: Any) -> str:
    """Return a ratio with three decimals that never rounds to 1 falsely.

    >>> decimal(0.98765), decimal(0.99999), decimal(1.0)
    ('0.988', '>0.999', '1.000')
    """
    number = finite(value)
    if number is None:
        return MISSING
    text = f"{number:.3f}"
    return ">0.999" if text == "1.000" and number < 1 else text


def auroc(value: Any) -> str:
    """Return an AUROC that never rounds to 1 falsely, "" where there is none.

    >>> auroc(0.98765), auroc(0.99999), auroc(1.0)
    ('0.988', '0.9999', '1.000')
    """
    number = finite(value)
    if number is None:
        return ""
    text = f"{number:.3f}"
    return f"{math.floor(number * 1e4) / 1e4:.4f}" if text == "1.000" and number < 1 else text


def compact(value: Any) -> str:
    """Return a score with four significant digits.

    >>> compact(1234.56), compact(0.000123456)
    ('1235', '0.0001235')
    """
    number = finite(value)
    return MISSING if number is None else f"{number:.4g}"


def count(value: Any) -> str:
    """Return a count, in groups of three digits from 10 000 on.

    >>> count(9999), count(1234567)
    ('9999', '1\\u202f234\\u202f567')
    """
    number = whole(value)
    if number is None:
        return MISSING
    return f"{number:,}".replace(",", NARROW_SPACE) if abs(number) >= 10_000 else str(number)


def duration(seconds: Any) -> str:
    """Return a time in seconds in the unit a person would use.

    >>> duration(12.3), duration(7380)
    ('12.3\\u202fs', '2\\u202fh 3\\u202fmin')
    """
    number = finite(seconds)
    if number is None:
        return MISSING
    if number < 120:
        return f"{number:.3g}{NARROW_SPACE}s"
    minutes = round(number / 60)
    if minutes < 60:
        return f"{minutes}{NARROW_SPACE}min"
    return f"{minutes // 60}{NARROW_SPACE}h {minutes % 60}{NARROW_SPACE}min"


def short(text: str, n: int) -> str:
    """Return a text of at most `n` letters, its end replaced by an ellipsis where it is longer."""
    return text if len(text) <= n else text[: n - 1] + "…"


def shown(value: Any) -> str:
    """Return the value of a parameter as a person would write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return compact(value)
    return str(value) if value != "" else "automatic"
