"""The good state of a station: between which limits the statistics of good parts' pictures lie."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from makellos.calibration.drift import Limits, learn_limits
from makellos.data.limits import Count
from makellos.inspection.statistics import CELLS, FIGURES, Statistics

__all__ = ["LEVELS", "GoodState", "cells_of", "figures_of"]

LEVELS = (0.0, 0.1, 0.3)  # shares of good parts beyond the limits of figures
_OF_FIELD = (0.0, 0.1)  # the same of the field
_DOUBT = 0.005  # of the figures, and of the field
_LOST = -1e9  # the area of a part that is not found where others are
_DIGITS, _OF_CELLS = 6, 4
_N_CELLS = len(_OF_FIELD) * CELLS**2

Floats = NDArray[np.float64]
Side = Annotated[list[float], Field(min_length=len(LEVELS), max_length=len(LEVELS))]
Cells = Annotated[list[float], Field(min_length=_N_CELLS, max_length=_N_CELLS)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FigureRecord(_Record):
    """Hold the limits of a figure at each level, its median and its robust spread."""

    low: Side
    high: Side
    share: Side
    middle: float
    spread: float = Field(ge=0)


class FieldRecord(_Record):
    """Hold the limits of cells, row by row, level after level.

    `covered` ones show the part in most pictures.
    """

    low: Cells
    high: Cells
    share: Cells
    covered: Annotated[str, Field(pattern=f"^[01]{{{CELLS**2}}}$")]


class GoodState(_Record):
    """Say between which limits the statistics of `n_parts` good parts lie.

    Of the parts to come, the `share` beyond a limit is known with a confidence of 99 % for all
    limits together.
    """

    n_parts: Count
    figures: dict[str, FigureRecord] = Field(max_length=len(FIGURES))
    field: FieldRecord

    @model_validator(mode="after")
    def _known_figures(self) -> Self:
        unknown = set(self.figures) - set(FIGURES)
        if unknown:
            raise ValueError(f"{min(unknown)!r} is no figure; known are {', '.join(FIGURES)}")
        return self

    @classmethod
    def learned(cls, found: Sequence[Statistics], groups: Sequence[Hashable] | None = None) -> Self:
        """Return the good state of parts; of those that belong together one counts."""
        table = np.stack([figures_of(each, None) for each in found])
        area = table[:, FIGURES.index("area")]
        if np.isnan(area).mean() < 0.5:
            area[np.isnan(area)] = _LOST
        limits = learn_limits(table, LEVELS, _DOUBT, groups)
        figures = {}
        for i, name in enumerate(FIGURES):
            own = table[~np.isnan(table[:, i]), i]
            if own.size * 2 < len(found):
                continue
            middle = float(np.median(own))
            figures[name] = FigureRecord(
                low=_rounded(limits.low[i]),
                high=_rounded(limits.high[i]),
                share=_rounded(limits.share[i]),
                middle=round(middle, _DIGITS),
                spread=round(1.4826 * float(np.median(np.abs(own - middle))), _DIGITS),
            )
        covered = np.mean([each.covered for each in found], axis=0) > 0.5
        cells = np.stack([cells_of(each, covered.ravel()) for each in found])
        of_cells = learn_limits(cells, _OF_FIELD, _DOUBT, groups)
        return cls(
            n_parts=len(found),
            figures=figures,
            field=FieldRecord(
                low=_rounded(of_cells.low.T.ravel(), _OF_CELLS),
                high=_rounded(of_cells.high.T.ravel(), _OF_CELLS),
                share=_rounded(of_cells.share.T.ravel(), _OF_CELLS),
                covered="".join("01"[int(each)] for each in covered.ravel()),
            ),
        )

    def limits(self) -> Limits:
        """Return the limits of all `FIGURES`; those that good parts lack have none that counts."""
        rows = [self.figures.get(name, _NO_FIGURE) for name in FIGURES]
        low, high, share = ([getattr(row, name) for row in rows] for name in _SIDES)
        return Limits(np.array(low), np.array(high), np.array(share))

    def field_limits(self) -> Limits:
        """Return the limits of the cells."""
        shape = len(_OF_FIELD), CELLS**2
        return Limits(*(np.array(getattr(self.field, name)).reshape(shape).T for name in _SIDES))

    @property
    def covered(self) -> NDArray[np.bool_]:
        """Return which cells show the part in most pictures, row by row."""
        return np.array([each == "1" for each in self.field.covered])


_SIDES = ("low", "high", "share")
_NO_FIGURE = FigureRecord(
    low=[0.0] * len(LEVELS),
    high=[0.0] * len(LEVELS),
    share=[1.0] * len(LEVELS),
    middle=0,
    spread=0,
)


def figures_of(statistics: Statistics | None, good: GoodState | None) -> Floats:
    """Return the `FIGURES` of a part, rounded as limits are, NaN for those that cannot be told."""
    if statistics is None:
        return np.full(len(FIGURES), np.nan)
    own = statistics.figures
    found = np.array([round(own.get(name, math.nan), _DIGITS) for name in FIGURES])
    area = FIGURES.index("area")
    if good is not None and "area" in good.figures and np.isnan(found[area]):
        found[area] = _LOST
    return found


def cells_of(statistics: Statistics, covered: NDArray[np.bool_]) -> Floats:
    """Return how much lighter cells (1024,) are than around them, NaN where they show another kind.

    `covered` tells which usually show the part. Values are rounded as limits are.
    """
    same = statistics.covered.ravel() == covered
    return np.where(same, np.round(statistics.local().ravel(), _OF_CELLS), np.nan)


def _rounded(values: Floats, digits: int = _DIGITS) -> list[float]:
    return [round(value, digits) for value in values.tolist()]
