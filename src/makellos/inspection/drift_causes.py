"""Why a stream has left the good state: which statistics left it, and what explains them all.

A change of the light or the camera moves other statistics as well: what is turned or scaled is
interpolated, and so has less noise, and every change moves scores. So causes are asked in an order
in which the later ones explain less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CAUSES", "CAUSE_OF", "Evidence", "name_cause"]

COLOUR, LIGHT, FOCUS = "colour cast", "brighter or darker", "out of focus"
POSE, NOISE = "shifted, rotated or scaled", "noisier"
DIRT, PARTS = "dirt that stays in one place", "the parts themselves"
CAUSES = (LIGHT, COLOUR, FOCUS, POSE, NOISE, DIRT, PARTS)
SHARPER, SMOOTHER = "sharper", "less noisy"  # what the other side of two causes is called

_LYING = ("x", "y", "turn_x", "turn_y", "length", "width", "area")
_GRID = ("grain", "across", "along")
CAUSE_OF = {
    **dict.fromkeys(("score", "part"), PARTS),
    "level": LIGHT,
    **dict.fromkeys(("red", "blue"), COLOUR),
    "sharpness": FOCUS,
    "noise": NOISE,
    **dict.fromkeys((*_LYING, *_GRID), POSE),
    "cells": DIRT,
}
_CLEAR = math.log(300)  # of a wealth that tells of a change, where an alarm is due already
_WIDE = 0.5  # of a side: cells that lie so far apart are no dirt
_LATE = 3  # of the strongest evidence's logarithm, that other cells share

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Hold the logarithms of wealths, below and above: `runs` (2, C) of figures, `cells` (2, h, w).

    `begun` and `cells_begun` are the parts at which they began to grow, `changes` what figures were
    and have become, `effects` the difference in spreads of good parts.
    """

    names: Sequence[str]
    runs: Floats
    begun: NDArray[np.int64]
    cells: Floats
    cells_begun: NDArray[np.int64]
    changes: dict[str, tuple[float, float]]
    effects: dict[str, float]

    def of(self, *names: str, side: int | None = None) -> float:
        """Return the strongest evidence for one of the figures, on one side or on either."""
        places = [self.names.index(name) for name in names if name in self.names]
        rows = self.runs if side is None else self.runs[side : side + 1]
        n_asked = len(places) * len(rows)
        return float(rows[:, places].max()) - math.log(n_asked) if places else 0.0

    def since(self, *names: str) -> int:
        """Return the part from which on the strongest of these figures differs."""
        places = [self.names.index(name) for name in names if name in self.names]
        side, place = np.unravel_index(self.runs[:, places].argmax(), (2, len(places)))
        return int(self.begun[side, places[place]])

    def effect(self, *names: str) -> float:
        """Return by how many spreads the farthest of these figures moved."""
        return max((abs(self.effects.get(name, 0.0)) for name in names), default=0.0)

    def of_cells(self) -> float:
        """Return the evidence that some cell has changed."""
        return float(self.cells.max()) - math.log(self.cells.size)

    def by_cause(self) -> dict[str, float]:
        """Return the decimal logarithm of the evidence for each cause."""
        found = {cause: self.of(*_named(cause)) for cause in CAUSES}
        found[DIRT] = self.of_cells()
        return {cause: round(max(0.0, each) / math.log(10), 2) for cause, each in found.items()}


def name_cause(found: Evidence) -> tuple[str, str, int]:
    """Return the cause, a detail of it in words, and the part that the change began at."""
    spot = _spot(found)
    lies, blurred = found.of(*_LYING) > _CLEAR, found.of("sharpness", side=0) > _CLEAR
    if lies and blurred:  # what is out of focus looks a little larger, what is scaled a little soft
        lies = found.effect("sharpness") <= found.effect(*_LYING)
    if found.of("red", "blue") > _CLEAR:
        return COLOUR, _colour(found), found.since("red", "blue")
    if found.of("level") > _CLEAR:
        return LIGHT, _percent(found, "level"), found.since("level")
    if spot and not spot.is_wide:
        return DIRT, spot.words, spot.since
    if lies:
        return POSE, _lying(found), found.since(*_LYING)
    if blurred:
        return FOCUS, _percent(found, "sharpness"), found.since("sharpness")
    return _of_the_rest(found, spot)


def _of_the_rest(found: Evidence, spot: _Spot | None) -> tuple[str, str, int]:
    """Return the cause where neither light nor focus nor the part's place has changed."""
    name, cause, detail = "score", PARTS, _scores(found)
    if found.of("noise", side=1) > _CLEAR:
        name, cause, detail = "noise", NOISE, _percent(found, "noise")
    elif spot:
        return POSE, "marks of the ground lie elsewhere", spot.since
    elif found.of(*_GRID) > _CLEAR:
        detail = "the finest structure is smoothed or turned, as in interpolated pictures"
        return POSE, detail, found.since(*_GRID)
    elif found.of("noise", side=0) > _CLEAR:
        name, cause, detail = "noise", SMOOTHER, _percent(found, "noise")
    elif found.of("sharpness", side=1) > max(_CLEAR, found.of("score", "part")):
        name, cause, detail = "sharpness", SHARPER, _percent(found, "sharpness")
    elif "part" in found.names and found.of("part") > found.of("score"):
        name, detail = "part", _percent(found, "part")
    return cause, detail, found.since(name)


def _named(cause: str) -> list[str]:
    return [name for name, own in CAUSE_OF.items() if own == cause and name != "cells"]


@dataclass(frozen=True)
class _Spot:
    """Hold which cells have changed: since which part, whether all over, and where in words."""

    since: int
    is_wide: bool
    words: str


def _spot(found: Evidence) -> _Spot | None:
    """Return the cells that have changed about as clearly as the clearest; None without any."""
    strongest = found.cells.max(axis=0)
    least = max(_CLEAR + math.log(found.cells.size), float(strongest.max()) / _LATE)
    places = np.argwhere(strongest >= least)
    if not len(places):
        return None
    middle, (height, width) = places.mean(axis=0), strongest.shape
    nearest = places[int(np.abs(places - middle).sum(axis=1).argmin())]
    below, above = found.cells[:, nearest[0], nearest[1]]
    y, x = (middle + 0.5) / (height, width)
    tone = "dark" if below > above else "bright"
    words = f"a {tone} spot {x:.0%} from the left and {y:.0%} from the top"
    extents = (np.ptp(places, axis=0) + 1) / (height, width)
    since = int(found.cells_begun.ravel()[int(found.cells.argmax())])
    return _Spot(since, bool(extents.max() > _WIDE), words)


_SIDES = {
    "level": ("brighter", "darker"),
    "sharpness": ("sharper edges", "softer edges"),
    "noise": ("more noise", "less noise"),
    "part": ("brighter parts", "darker parts"),
}


def _percent(found: Evidence, name: str) -> str:
    """Return by how many per cent a figure, which is a logarithm, has changed."""
    before, after = found.changes.get(name, (0.0, 0.0))
    share = math.expm1(after - before)
    return f"{_SIDES[name][share <= 0]} by {abs(share):.1%}"


def _scores(found: Evidence) -> str:
    higher = found.of("score", side=1) >= found.of("score", side=0)
    return f"scores are {'higher' if higher else 'lower'} than those of good parts"


def _colour(found: Evidence) -> str:
    said = []
    for name in ("red", "blue"):
        before, after = found.changes.get(name, (0.0, 0.0))
        said.append(f"{name} {math.expm1(after - before):+.1%} against green")
    return ", ".join(said)


def _lying(found: Evidence) -> str:
    words = {
        **dict.fromkeys(("x", "y"), "parts lie elsewhere"),
        **dict.fromkeys(("turn_x", "turn_y"), "parts lie in another direction"),
    }
    name = max(_LYING, key=found.of)
    before, after = found.changes.get(name, (0.0, 0.0))
    size = "larger" if after > before else "smaller"
    return words.get(name, f"parts look {size} ({name} {math.expm1(min(after - before, 1)):+.1%})")
