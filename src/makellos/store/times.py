"""Times as the store has them: whole microseconds since 1970 in UTC."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from makellos.errors import InputError

__all__ = ["Clock", "iso", "microseconds", "utc_now"]

Clock = Callable[[], int]
_START = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def utc_now() -> int:
    """Return the time now in µs since 1970, UTC."""
    return time.time_ns() // 1000


def iso(moment: int) -> str:
    """Return a time in µs since 1970 as ISO 8601 in UTC.

    >>> iso(1_790_000_000_250_000)
    '2026-09-21T14:13:20.250000Z'
    """
    text = (_START + timedelta(microseconds=moment)).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def microseconds(text: str) -> int:
    """Return an ISO 8601 time as µs since 1970; one without a zone counts as UTC.

    Raises `InputError` for what is no time.

    >>> microseconds("2026-09-21T16:13:20.25+02:00"), microseconds("1970-01-02")
    (1790000000250000, 86400000000)
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _START) // _MICROSECOND
    except (ValueError, OverflowError):
        raise InputError(
            f"{text!r} is not a time. Write it like 2026-09-21 or 2026-09-21T14:30:00Z."
        ) from None
