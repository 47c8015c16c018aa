"""What the verdicts cost: false alarms, misses, parts to look at again, by kind and by size.

Rates count `reject` alone: a false alarm is a good part that was rejected, a miss a defective part
that was not. Parts that somebody has to look at again are reported beside, never mixed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from makellos.errors import InputError
from makellos.evaluation._checks import (
    check_labels,
    check_length,
    check_scores,
    check_verdicts,
)
from makellos.evaluation.ranking import auroc

__all__ = [
    "DefectFigures",
    "Rates",
    "SizeFigures",
    "by_defect",
    "damaged_area",
    "defective_from_labels",
    "misses_by_size",
    "rates_at_threshold",
    "verdict_rates",
]

Bools = NDArray[np.bool_]
GOOD = "good"
SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class Rates:
    """Hold counts of parts and rates in [0, 1]; None where there are no such parts."""

    n_good: int
    n_defective: int
    false_alarm_rate: float | None
    miss_rate: float | None
    accuracy: float | None
    look_again_rate: float | None
    look_again_rate_good: float | None
    look_again_rate_defective: float | None


@dataclass(frozen=True)
class DefectFigures:
    """Hold the figures of one kind of defect, in [0, 1].

    `image_auroc` ranks its parts against all good parts; None where there are no good parts.
    """

    n: int
    image_auroc: float | None
    miss_rate: float
    look_again_rate: float


@dataclass(frozen=True)
class SizeFigures:
    """Hold the misses among defective parts whose damage is of a similar size.

    `pixels` is the smallest and the largest damaged area of these parts, in pixels; `percent` the
    smallest and the largest share of the picture, in percent. The rates are in [0, 1].
    """

    n: int
    n_missed: int
    miss_rate: float
    look_again_rate: float
    pixels: tuple[int, int]
    percent: tuple[float, float]


def defective_from_labels(labels: Sequence[str]) -> Bools:
    """Return which parts are defective, bool (n,): all whose label is not `good`.

    Raises InputError for labels that are no names.

    >>> defective_from_labels(["good", "scratch"]).tolist()
    [False, True]
    """
    return np.array([label != GOOD for label in check_labels(labels)], dtype=np.bool_)


def verdict_rates(verdicts: Sequence[str], labels: Sequence[str]) -> Rates:
    """Return the rates of verdicts (`ok`, `look_again`, `reject`) on labelled parts.

    A label is `good`, `defective` or the name of a defect. Raises InputError for other verdicts,
    such as `unreadable`, and for lengths that differ.

    >>> verdict_rates(["ok", "reject", "look_again"], ["good", "good", "scratch"]).miss_rate
    1.0
    """
    defective = defective_from_labels(labels)
    check_length("verdicts", (len(verdicts),), defective.size)
    given = check_verdicts(verdicts)
    return _rates(given == "reject", given == "look_again", defective)


def rates_at_threshold(scores: ArrayLike, labels: Sequence[str], threshold: float) -> Rates:
    """Return the rates when parts with `score > threshold` are rejected and all others are ok.

    `scores` (n,) are finite, higher is more anomalous. Raises InputError for other scores, a
    threshold that is NaN, and lengths that differ.
    """
    values = check_scores(scores)
    if np.isnan(threshold):
        raise InputError("The threshold is NaN. Pass a number on the scale of the scores.")
    defective = defective_from_labels(labels)
    check_length("labels", defective.shape, values.size)
    return _rates(values > threshold, np.zeros_like(defective), defective)


def by_defect(
    scores: ArrayLike, verdicts: Sequence[str], labels: Sequence[str]
) -> dict[str, DefectFigures]:
    """Return the figures of every kind of defect, by its name in alphabetical order.

    `scores` (n,) are finite; verdicts and labels are those of `verdict_rates`, and so are the
    errors. Without defective parts the table is empty.
    """
    values = check_scores(scores)
    defective = defective_from_labels(labels)
    check_length("labels", defective.shape, values.size)
    check_length("verdicts", (len(verdicts),), values.size)
    given, names = check_verdicts(verdicts), np.array(list(labels), dtype=object)
    table = {}
    for name in sorted(set(names[defective])):
        here = names == name
        compared = here | ~defective
        table[name] = DefectFigures(
            n=int(here.sum()),
            image_auroc=auroc(values[compared], here[compared]),
            miss_rate=float(np.mean(given[here] != "reject")),
            look_again_rate=float(np.mean(given[here] == "look_again")),
        )
    return table


def damaged_area(mask: ArrayLike) -> int:
    """Return the number of damaged pixels of a mask of any shape, not 0 where damaged.

    >>> damaged_area([[0, 255], [255, 0]])
    2
    """
    return int(np.count_nonzero(np.asarray(mask)))


def misses_by_size(
    verdicts: Sequence[str],
    damaged_areas: Sequence[int | None],
    picture_areas: Sequence[int],
) -> dict[str, SizeFigures]:
    """Return the misses among parts with `small`, `medium` and `large` damage.

    `damaged_areas` are in pixels of the mask; parts with 0 or None (good ones, and defective ones
    without a mask) are left out. `picture_areas` are height x width, in pixels. The sizes are
    split at the tertiles of the areas at hand; parts of equal area share a size, so a size may be
    missing. Raises InputError for other verdicts, lengths that differ and areas that cannot be.
    """
    given = check_verdicts(verdicts)
    check_length("damaged_areas", (len(damaged_areas),), given.size)
    check_length("picture_areas", (len(picture_areas),), given.size)
    measured = np.array([bool(area) for area in damaged_areas], dtype=np.bool_)
    areas = np.array([area or 0 for area in damaged_areas], dtype=np.int64)[measured]
    pictures = np.asarray(picture_areas, dtype=np.int64)[measured]
    _check_areas(areas, pictures)
    if not areas.size:
        return {}
    bounds = np.quantile(areas, [1 / 3, 2 / 3], method="inverted_cdf")
    size_index = np.searchsorted(bounds, areas, side="left")
    return {
        size: _size_figures(given[measured][here], areas[here], pictures[here])
        for index, size in enumerate(SIZES)
        if (here := size_index == index).any()
    }


def _size_figures(
    verdicts: NDArray[np.str_], areas: NDArray[np.int64], pictures: NDArray[np.int64]
) -> SizeFigures:
    percent = 100.0 * areas / pictures
    missed = verdicts != "reject"
    return SizeFigures(
        n=int(areas.size),
        n_missed=int(missed.sum()),
        miss_rate=float(missed.mean()),
        look_again_rate=float(np.mean(verdicts == "look_again")),
        pixels=(int(areas.min()), int(areas.max())),
        percent=(float(percent.min()), float(percent.max())),
    )


def _check_areas(areas: NDArray[np.int64], pictures: NDArray[np.int64]) -> None:
    wrong = np.flatnonzero((areas < 0) | (areas > pictures))
    if wrong.size:
        index = wrong[0]
        raise InputError(
            f"The damaged area is {areas[index]} pixels, but the picture has {pictures[index]}. "
            "Expected 0 up to the area of the picture. Measure both at the same resolution."
        )


def _rates(rejected: Bools, look_again: Bools, defective: Bools) -> Rates:
    return Rates(
        n_good=int(np.count_nonzero(~defective)),
        n_defective=int(np.count_nonzero(defective)),
        false_alarm_rate=_share(rejected[~defective]),
        miss_rate=_share(~rejected[defective]),
        accuracy=_share(rejected == defective),
        look_again_rate=_share(look_again),
        look_again_rate_good=_share(look_again[~defective]),
        look_again_rate_defective=_share(look_again[defective]),
    )


def _share(counted: Bools) -> float | None:
    return float(counted.mean()) if counted.size else None
