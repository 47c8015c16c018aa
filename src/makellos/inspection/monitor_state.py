"""What the monitor of a stream is stored as: its state as checked data, such as from a file."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from makellos.calibration.drift import Limits
from makellos.data.limits import Count, Name
from makellos.errors import InputError
from makellos.inspection.good_state import GoodState
from makellos.inspection.statistics import FIGURES

__all__ = ["MonitorState"]

_MOST_FIGURES = 1 << 20
_MOST_KEPT = 1000  # parts
_Figure = Annotated[float, Field(allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Row = Annotated[
    list[_Figure | None], Field(min_length=len(FIGURES), max_length=len(FIGURES), fail_fast=True)
]
_Side = Annotated[list[Annotated[list[_Figure], Field(max_length=_MOST_KEPT)]], Field(max_length=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class WatchState(_Record):
    """Hold the wealths of a watch: logarithms of sums (None: nothing), best runs, their begins."""

    sums: list[_Figure | None] = Field(max_length=_MOST_FIGURES, fail_fast=True)
    runs: list[_Figure] = Field(max_length=_MOST_FIGURES, fail_fast=True)
    begun: list[Count] = Field(max_length=_MOST_FIGURES, fail_fast=True)


class MonitorState(_Record):
    """Hold what a monitor goes on from; see `DriftMonitor.state`."""

    model: Name
    false_alarms: float
    n_parts: Count
    good: GoodState | None
    of_model: bool
    score: tuple[_Side, _Side, _Side]
    n_wanted: Count
    learning: list[tuple[Name, _Share | None, dict[Name, Any] | None]] = Field(
        max_length=_MOST_KEPT, fail_fast=True
    )
    pending: tuple[Count, Name] | None
    recent: list[tuple[Count, _Row]] = Field(max_length=_MOST_KEPT, fail_fast=True)
    figures: WatchState
    cells: WatchState | None

    def limits(self, like: Limits) -> Limits:
        """Return the limits of scores; raise `InputError` where they are not as many as others."""
        sides = [np.array(side, np.float64) for side in self.score]
        share = sides[-1]
        if (
            any(s.shape != like.share.shape for s in sides)
            or not ((share > 0) & (share <= 1)).all()
        ):
            raise InputError("The limits of scores are none of this model.")
        return Limits(*sides)
