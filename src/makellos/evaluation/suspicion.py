"""How suspicious each good part is: its score, its picture and its copies on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from makellos.data.traits import Traits, stand_outs

__all__ = ["LIMIT", "Suspect", "spreads_off", "suspects"]

LIMIT = 4.0  # spreads off the usual good part, from which on a part is a suspect
# Light and focus have longer tails than scores: twice as far is as odd.
_TRAIT = 2.0
_ROBUST = 1.4826


class Suspect(NamedTuple):
    """Say how suspicious a part is, in spreads off the usual one, and why."""

    suspicion: float
    reason: str


def spreads_off(scores: ArrayLike) -> NDArray[np.float64]:
    """Return how far each score (n,) lies above the median, in robust spreads; 0 below it.

    Median and spread, the median absolute deviation, do not move with a tenth of hidden defects.
    """
    values = np.asarray(scores, np.float64)
    middle = float(np.median(values))
    spread = _ROBUST * float(np.median(np.abs(values - middle)))
    return np.maximum(values - middle, 0.0) / max(spread, 1e-3 * abs(middle), 1e-12)


def suspects(
    scores: ArrayLike,
    oddities: Sequence[str],
    traits: Sequence[Traits],
    copied: Sequence[Suspect | None],
) -> list[Suspect]:
    """Return how suspicious each part is, and why, the strongest reason first.

    `scores` (n,) are those of models that have not seen the part, `oddities` say what is odd where
    its map is highest, `traits` what its picture is like, `copied` what its copies say of it.
    """
    found = []
    lines = zip(spreads_off(scores), oddities, stand_outs(traits), copied, strict=True)
    for off, words, standout, copy in lines:
        reasons = [Suspect(float(off), words)]
        if standout is not None and standout.spreads / _TRAIT >= LIMIT:
            reasons.append(Suspect(standout.spreads / _TRAIT, standout.reason))
        if copy is not None:
            reasons.append(copy)
        reasons.sort(key=lambda each: -each.suspicion)
        said = "; ".join(each.reason for each in reasons if each.reason)
        found.append(Suspect(reasons[0].suspicion, said))
    return found
