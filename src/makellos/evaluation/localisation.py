"""How far heat maps can be trusted: peak and heat inside the damage, and what deleting heat does.

Beside each share stands what chance would give: a peak at any place of the picture, heat spread
evenly over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from makellos.errors import ConfigurationError, InputError
from makellos.evaluation._checks import check_share
from makellos.evaluation.intervals import Interval

__all__ = [
    "MARGIN",
    "Deleted",
    "DeletionFigures",
    "LocalisationFigures",
    "Located",
    "damage_length",
    "deletion",
    "grown",
    "heat_inside",
    "hottest",
    "localisation",
    "localisation_by_defect",
    "locate",
    "peak_inside",
    "wilson_interval",
]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]

MARGIN = 8  # pixels of the picture: masks are drawn by hand, and cells of maps are coarse
_Z = 1.959963984540054  # quantile .975 of the standard normal distribution


@dataclass(frozen=True)
class Located:
    """Hold how a part's map lies on the mask of its damage; shares in [0, 1].

    `area_share` is the share of the picture inside the mask, `grown_share` that inside the mask
    grown by the margin.
    """

    label: str
    peak_inside: bool
    heat_inside: float
    area_share: float
    grown_share: float


@dataclass(frozen=True)
class LocalisationFigures:
    """Hold means over `n` parts, in [0, 1]; the interval is Wilson's at 95 %, parts independent.

    `peak_by_chance` is the mean share of the picture that a peak counts as inside,
    `heat_by_chance` that of the mask.
    """

    n: int
    peak_inside: float
    peak_interval: Interval
    peak_by_chance: float
    heat_inside: float
    heat_by_chance: float


@dataclass(frozen=True)
class Deleted:
    """Hold how far a part's class fell when its heat was blurred away, and as much elsewhere.

    `score_drop` is in log odds of the class, `probability_drop` in [-1, 1]; above 0 it fell.
    """

    score_drop: float
    score_drop_by_chance: float
    probability_drop: float
    probability_drop_by_chance: float


@dataclass(frozen=True)
class DeletionFigures:
    """Hold means of `Deleted` over `n` parts.

    `better_than_chance` is the share of parts whose score fell more by deleting heat than by
    deleting as much elsewhere, with Wilson's interval at 95 %; blind heat has one half.
    """

    n: int
    score_drop: float
    score_drop_by_chance: float
    probability_drop: float
    probability_drop_by_chance: float
    better_than_chance: float
    better_interval: Interval


def damage_length(mask: Bools) -> float:
    """Return the greatest distance across one piece of the damage on a mask H×W, in pixels.

    Pieces touch by sides or corners; 0 where nothing is marked.

    >>> damage_length(np.eye(4, dtype=bool)), damage_length(np.ones((1, 1), dtype=bool))
    (5.66, 1.41)
    """
    outlines, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    longest = 0.0
    for outline in outlines:
        corners = cv2.convexHull(outline).reshape(-1, 2).astype(np.float64)
        apart = np.abs(corners[:, None] - corners) + 1.0  # a pixel is as wide as one
        longest = max(longest, float(np.hypot(*np.moveaxis(apart, 2, 0)).max()))
    return round(longest, 2)


def locate(
    label: str, heat_map: ArrayLike, mask: ArrayLike, margin: int = MARGIN
) -> Located | None:
    """Return how a map H×W lies on a mask H×W; None where the mask marks nothing.

    Both have the size of the picture, `margin` is in its pixels. Raises `InputError` for shapes
    that differ and values that are not finite.
    """
    marked = _marked(mask)
    if not marked.any():
        return None
    wide = grown(marked, margin)
    return Located(
        label=label,
        peak_inside=peak_inside(heat_map, wide, margin=0),
        heat_inside=heat_inside(heat_map, marked),
        area_share=float(marked.mean()),
        grown_share=float(wide.mean()),
    )


def peak_inside(heat_map: ArrayLike, mask: ArrayLike, margin: int = MARGIN) -> bool:
    """Tell whether a map's maximum lies inside a mask grown by `margin` pixels, both H×W.

    Of several places with the maximum the one nearest to their mean counts. A map that is the same
    everywhere has no peak, and none inside. Raises as `locate` does.

    >>> peak_inside([[0, 0, 1]], [[1, 0, 0]], margin=1), peak_inside([[0, 1, 0]], [[1, 0, 0]], 1)
    (False, True)
    """
    values, marked = _pair(heat_map, mask)
    highest = values.max()
    if highest == values.min():
        return False
    places = np.argwhere(values == highest)
    distances = np.square(places - places.mean(axis=0)).sum(axis=1)
    row, column = places[int(distances.argmin())]
    return bool(grown(marked, margin)[row, column])


def heat_inside(heat_map: ArrayLike, mask: ArrayLike) -> float:
    """Return the share of a map's sum that lies inside a mask, both H×W; 0 for a map of zeros.

    What is below 0 is no heat. Raises as `locate` does.

    >>> heat_inside([[3, 1, 0]], [[1, 0, 0]])
    0.75
    """
    values, marked = _pair(heat_map, mask)
    heat = np.maximum(values, 0.0)
    total = float(heat.sum())
    return float(heat[marked].sum()) / total if total > 0 else 0.0


def grown(mask: ArrayLike, margin: int) -> Bools:
    """Return a mask H×W grown by a disc of `margin` pixels' radius.

    Raises `ConfigurationError` for a margin below 0.
    """
    marked = _marked(mask)
    if margin < 0:
        raise ConfigurationError(f"The margin is {margin} pixels; expected 0 or more.")
    if margin == 0:
        return marked
    steps = np.arange(-margin, margin + 1)
    disc = (steps[:, None] ** 2 + steps**2 <= margin**2).astype(np.uint8)
    wide: Bools = cv2.dilate(marked.astype(np.uint8), disc) > 0
    return wide


def localisation(items: Sequence[Located]) -> LocalisationFigures | None:
    """Return the figures over parts; None where there are none."""
    if not items:
        return None
    hits = [item.peak_inside for item in items]
    return LocalisationFigures(
        n=len(items),
        peak_inside=float(np.mean(hits)),
        peak_interval=wilson_interval(sum(hits), len(hits)),
        peak_by_chance=float(np.mean([item.grown_share for item in items])),
        heat_inside=float(np.mean([item.heat_inside for item in items])),
        heat_by_chance=float(np.mean([item.area_share for item in items])),
    )


def localisation_by_defect(items: Sequence[Located]) -> dict[str, LocalisationFigures]:
    """Return the figures of each kind of defect, by its name in alphabetical order."""
    found = {}
    for name in sorted({item.label for item in items}):
        figures = localisation([item for item in items if item.label == name])
        if figures is not None:
            found[name] = figures
    return found


def wilson_interval(n_hits: int, n: int) -> Interval:
    """Return the 95 % interval of a share by Wilson (1927), (0, 1) of nothing.

    Raises `InputError` unless 0 <= n_hits <= n.

    >>> tuple(round(bound, 3) for bound in wilson_interval(7, 10))
    (0.397, 0.892)
    """
    if not 0 <= n_hits <= n:
        raise InputError(f"{n_hits} of {n} is not a share. Count the hits among all trials.")
    if n == 0:
        return 0.0, 1.0
    share, spread = n_hits / n, _Z**2 / n
    middle = share + spread / 2
    reach = float(np.sqrt(spread * (share * (1 - share) + spread / 4)))
    low, high = (middle - reach) / (1 + spread), (middle + reach) / (1 + spread)
    return (0.0 if n_hits == 0 else low), (1.0 if n_hits == n else high)


def hottest(heat_map: ArrayLike, share: float) -> Bools:
    """Return the hottest `share` of a map's H×W pixels, of those above 0.

    Raises `ConfigurationError` for a share that is not above 0 and up to 1, `InputError` for
    values that are not finite.
    """
    values = _checked(heat_map)
    n = round(check_share("share", share) * values.size)
    chosen = np.zeros(values.size, dtype=np.bool_)
    chosen[np.argsort(-values, axis=None, kind="stable")[:n]] = True
    return chosen.reshape(values.shape) & (values > 0)


def deletion(items: Sequence[Deleted]) -> DeletionFigures | None:
    """Return the figures of the deletion test over parts; None where there are none."""
    if not items:
        return None
    better = [item.score_drop > item.score_drop_by_chance for item in items]
    return DeletionFigures(
        n=len(items),
        score_drop=float(np.mean([item.score_drop for item in items])),
        score_drop_by_chance=float(np.mean([item.score_drop_by_chance for item in items])),
        probability_drop=float(np.mean([item.probability_drop for item in items])),
        probability_drop_by_chance=float(
            np.mean([item.probability_drop_by_chance for item in items])
        ),
        better_than_chance=float(np.mean(better)),
        better_interval=wilson_interval(sum(better), len(better)),
    )


def _pair(heat_map: ArrayLike, mask: ArrayLike) -> tuple[NDArray[np.float64], Bools]:
    values, marked = _checked(heat_map), _marked(mask)
    if values.shape != marked.shape:
        raise InputError(
            f"A map {values.shape} and a mask {marked.shape} cannot be compared. Resize the map "
            "to the picture's height and width, which the mask has."
        )
    return values, marked


def _checked(heat_map: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(heat_map, dtype=np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise InputError(
            f"A heat map is H×W finite numbers; received shape {values.shape}, or values that are "
            "not finite."
        )
    return values


def _marked(mask: ArrayLike) -> Bools:
    marked: Bools = np.asarray(mask) != 0
    if marked.ndim != 2 or not marked.size:
        raise InputError(f"A mask is H×W, not 0 where damaged; received shape {marked.shape}.")
    return marked
