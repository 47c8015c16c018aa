"""Series in file names: folders, prefixes, numbers that come again, dates, counters with gaps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np

__all__ = ["Named", "series_in_names"]

Named = tuple[str, list[str]]  # what tells series apart, in words; the series of each name

_LEAST = 5  # parts of a series, on average
_GAP = 20.0  # times the median step of a counter
_MOST = 12  # ways to tell series apart
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_.]?(\d\d)[-_.]?(\d\d)(?!\d)")


def series_in_names(names: Sequence[str]) -> list[Named]:
    """Return the ways in which names (with ``/`` between folders) fall into series.

    Each has two series or more, of five parts on average.

    >>> series_in_names([f"lot{lot}_{n}.png" for lot in "ab" for n in range(10, 20)])[0][0]
    'the beginning of the file name'
    """
    if not names:
        return []
    found: list[Named] = []
    seen: set[tuple[int, ...]] = set()
    for what, labels in _ways([PurePosixPath(name) for name in names]):
        n_series = len(set(labels))
        same = tuple(np.unique(labels, return_inverse=True)[1].tolist()) if labels else ()
        order = _in_order(same)
        if 1 < n_series <= len(names) / _LEAST and order not in seen:
            seen.add(order)
            found.append((what, labels))
    return found[:_MOST]


def _in_order(numbers: Sequence[int]) -> tuple[int, ...]:
    """Return numbers anew in the order in which they first come, so that equal divisions agree."""
    places = {number: place for place, number in enumerate(dict.fromkeys(numbers))}
    return tuple(places[number] for number in numbers)


def _ways(paths: Sequence[PurePosixPath]) -> Iterator[Named]:
    yield "folders", [str(path.parent) for path in paths]
    stems = [path.stem for path in paths]
    dates = [_DATE.search(stem) for stem in stems]
    if all(dates):
        yield "the date in the file name", ["-".join(d.groups()) for d in dates if d is not None]
    words = [re.sub(r"\d+", "#", stem) for stem in stems]
    yield "the beginning of the file name", words
    digits = [re.findall(r"\d+", stem) for stem in stems]
    if min(map(len, digits), default=0) != max(map(len, digits), default=0):
        return
    for place in range(len(digits[0])):
        what = f"number {place + 1} in the file name" if len(digits[0]) > 1 else "the number"
        yield what, [found[place] for found in digits]
        yield (
            "the file name up to " + what,
            [f"{word} {found[: place + 1]}" for word, found in zip(words, digits, strict=True)],
        )
    for place in range(len(digits[0])):
        runs = _runs([int(found[place][-15:]) for found in digits])
        if runs is not None:
            yield "gaps in the numbers of the file names", runs


def _runs(counts: Sequence[int]) -> list[str] | None:
    """Return the run of each count where large gaps divide them; None where nothing is counted."""
    if max(Counter(counts).values()) > 2:
        return None
    order = np.unique(counts)
    steps = np.diff(order)
    if not len(steps):
        return None
    wide = np.flatnonzero(steps > _GAP * max(1.0, float(np.median(steps))))
    numbers = np.searchsorted(order[wide], counts, side="left")
    return [str(number) for number in numbers]
