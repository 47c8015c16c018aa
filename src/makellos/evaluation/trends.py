"""The health of a machine over its recordings: from when on an alarm lasts, and how long before.

An alarm lasts from the first recording i of a run of at least `lasting` rejected ones on, unless
the machine goes back to good. It does so where, counted from i to the end of a later stretch of at
least `lasting` (and 2) recordings that are not rejected, or to the end of all, more than 10 % are
not rejected. A single one is always tolerated there, half of them never. So a recording that is
missed now and then undoes no alarm, and a passing alarm does not last because others follow it
much later. `look_again` is not rejected. Unreadable recordings are left out: a run goes on across
them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from makellos.errors import ConfigurationError, InputError, suggest

__all__ = ["Trend", "stamp_of_name", "times_of_names", "trend"]

TOLERATED = 0.1  # share of recordings since the alarm that may be not rejected
VERDICTS = ("ok", "look_again", "reject", "unreadable")

_STAMP = re.compile(
    r"(?<!\d)(?P<year>(?:19|20)\d\d)(?P<apart>[-_.]?)(?P<month>\d\d)(?P=apart)(?P<day>\d\d)"
    r"(?P<middle>[Tt_.\- ]{0,3})"
    r"(?P<hour>\d\d)(?P<between>[-_.:]?)(?P<minute>\d\d)(?P=between)(?P<second>\d\d)"
    r"(?:[.,](?P<fraction>\d{1,9}))?(?!\d)"
)


@dataclass(frozen=True, eq=False)
class Trend:
    """Hold how the health of a machine went.

    `n_recordings` counts those that could be read. `first_alarm` is the index of the first
    recording of the first lasting alarm among all, None without one; `lead` how long before the
    last recording it lies, in s, or in recordings where times are unknown. `n_before` counts the
    alarms before it that did not last: runs of one or more rejected recordings; all such runs
    where no alarm lasts. `indicator` float64 (n,), in the unit of the scores, is the running median
    of the scores up to each recording, NaN at unreadable ones.
    """

    n_recordings: int
    first_alarm: int | None
    lead: float | None
    n_before: int
    indicator: NDArray[np.float64]


def trend(
    scores: Sequence[float | None],
    verdicts: Sequence[str],
    times: Sequence[float] | None = None,
    *,
    lasting: int = 3,
) -> Trend:
    """Return the first lasting alarm of recordings in order of time, and the health indicator.

    `scores` are finite, None for unreadable recordings; `verdicts` are `ok`, `look_again`,
    `reject` or `unreadable`; `times`, in s, rise strictly. `lasting` is how many rejected
    recordings in a row make an alarm (the module says when it lasts). Raises `ConfigurationError`
    for `lasting` below 1, `InputError` for lengths that differ, other verdicts, scores that are
    missing or not finite, and times that do not rise.

    >>> found = trend([1, 1, 9, 1, 9, 9, 9], ["ok", "ok", "reject", "ok"] + 3 * ["reject"])
    >>> found.first_alarm, found.lead, found.n_before
    (4, 2.0, 1)
    """
    if isinstance(lasting, bool) or not isinstance(lasting, int) or lasting < 1:
        raise ConfigurationError(
            f"`lasting` is {lasting!r}; expected a whole number, at least 1. It is how many "
            "rejected recordings in a row make an alarm, such as 3."
        )
    _check_verdicts(verdicts, len(scores))
    places = np.flatnonzero([verdict != "unreadable" for verdict in verdicts])
    values = _read_scores(scores, places)
    at = _check_times(times, len(scores))
    rejected = np.array([verdicts[place] == "reject" for place in places.tolist()], dtype=np.bool_)
    runs = list(_runs(rejected))
    first = next(
        (i for i, n in runs if n >= lasting and _lasts(rejected[i:], max(lasting, 2))), None
    )
    alarm = None if first is None else int(places[first])
    indicator = np.full(len(scores), np.nan)
    indicator[places] = _running_median(values, _width(values.size, lasting))
    return Trend(
        n_recordings=int(places.size),
        first_alarm=alarm,
        lead=None if alarm is None else float(at[-1] - at[alarm]),
        n_before=sum(first is None or i < first for i, _ in runs),
        indicator=indicator,
    )


def times_of_names(names: Sequence[str]) -> list[float] | None:
    """Return the times that file names hold, in s since the earliest, in the order of the names.

    Time stamps are those of `stamp_of_name`. None where a name has none, or two have the same.

    >>> times_of_names(["2003.10.22.12.06.24", "2003.10.22.12.09.13"])
    [0.0, 169.0]
    """
    stamps = [stamp_of_name(name) for name in names]
    known = [stamp for stamp in stamps if stamp is not None]
    if not known or len(known) < len(stamps) or len(set(known)) < len(known):
        return None
    start = min(known)
    return [(stamp - start).total_seconds() for stamp in known]


def stamp_of_name(name: str) -> datetime | None:
    """Return the first date and time in a file name, without a time zone, or None.

    Year, month, day, hour, minute and second, in this order, are apart by points, dashes,
    underscores, colons or nothing; a fraction of a second may follow. Folders are not looked at.

    >>> stamp_of_name("rig/20240501_102030.csv").isoformat()
    '2024-05-01T10:20:30'
    """
    for found in _STAMP.finditer(PurePath(name.replace("\\", "/")).name):
        year, month, day = (int(found[part]) for part in ("year", "month", "day"))
        hour, minute, second = (int(found[part]) for part in ("hour", "minute", "second"))
        try:
            stamp = datetime(year, month, day, hour, minute, second)
        except ValueError:
            continue  # digits that are no date, such as a serial number
        fraction = found["fraction"]
        return stamp if fraction is None else stamp + timedelta(seconds=float(f"0.{fraction}"))
    return None


def _runs(chosen: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield start and length of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], chosen, [False])).astype(np.int8)))
    for start, end in edges.reshape(-1, 2).tolist():
        yield start, end - start


def _lasts(rejected: NDArray[np.bool_], stretch: int) -> bool:
    """Tell whether an alarm that begins with the first recording never goes back to good."""
    n_so_far = np.arange(1, rejected.size + 1)
    n_missed = np.cumsum(~rejected)
    # Half of one or two recordings is less than the single one that is tolerated of more.
    allowed = np.minimum(np.maximum(1, TOLERATED * n_so_far + 1e-9), (n_so_far - 1) // 2)
    judged = [start + n - 1 for start, n in _runs(~rejected) if n >= stretch]
    judged.append(rejected.size - 1)
    return bool(np.all(n_missed[judged] <= allowed[judged]))


def _width(n: int, lasting: int) -> int:
    """Return an odd width: `lasting` high scores move the median, and a long record is smooth."""
    return max(2 * lasting - 1, n // 100 | 1)


def _running_median(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return the median of each value and those before it, `width` in all where there are."""
    medians = [np.median(values[max(0, i + 1 - width) : i + 1]) for i in range(values.size)]
    return np.array(medians, dtype=np.float64)


def _check_verdicts(verdicts: Sequence[str], n: int) -> None:
    if len(verdicts) != n:
        raise InputError(
            f"There are {n} scores and {len(verdicts)} verdicts. Pass one of each per recording, "
            "in order of time."
        )
    for index, verdict in enumerate(verdicts):
        if verdict not in VERDICTS:
            raise InputError(
                f"{verdict!r} at index {index} is not a verdict. {suggest(str(verdict), VERDICTS)}"
            )


def _read_scores(scores: Sequence[float | None], places: NDArray[np.intp]) -> NDArray[np.float64]:
    chosen = [scores[place] for place in places]
    values = np.array([np.nan if score is None else score for score in chosen], dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        index = int(places[bad[0]])
        raise InputError(
            f"The score at index {index} is {scores[index]}; expected a finite number. Give a "
            "recording without a score the verdict 'unreadable'."
        )
    return values


def _check_times(times: Sequence[float] | None, n: int) -> NDArray[np.float64]:
    """Return the times, or the numbers of the recordings where they are unknown."""
    if times is None:
        return np.arange(n, dtype=np.float64)
    at = np.asarray(times, dtype=np.float64)
    if at.shape != (n,):
        raise InputError(
            f"There are {n} scores and times of shape {at.shape}. Pass one time in s per "
            "recording, or None where they are unknown."
        )
    falls = np.flatnonzero(~(np.diff(at) > 0))
    if n and not np.isfinite(at).all():
        raise InputError("A time is not finite. Pass seconds, or None where times are unknown.")
    if falls.size:
        index = int(falls[0]) + 1
        raise InputError(
            f"Times do not increase: {at[index]:g} s at index {index} follows {at[index - 1]:g} s. "
            "Sort the recordings by time, and leave out duplicates."
        )
    return at
