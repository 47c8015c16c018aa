"""Discoveries in a batch of inspected parts: which to take out so that few of them are good."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from makellos.calibration import check_discoveries, q_values
from makellos.inspection import Inspection
from makellos.workflows.rows import Writer

__all__ = ["DISCOVERY_COLUMNS", "Batch", "Discoveries"]

DISCOVERY_COLUMNS = ("q_value", "discovery")


@dataclass(frozen=True)
class Discoveries:
    """Hold which parts of a batch to take out: on average at most `share` of them are good.

    `inputs` name them, of `n_parts` that could be read. `n_needed` parts at least must be as odd as
    can be for any to be taken out, for that is what so many good parts in calibration can tell.
    """

    share: float
    n_parts: int
    inputs: list[str]
    n_needed: int


@dataclass
class Batch:
    """Gather p-values of a batch, and hold rows back until all are known."""

    share: float
    smallest: float
    inputs: list[str] = field(default_factory=list)
    p_values: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_discoveries(self.share)

    def put(self, inspection: Inspection, _relative: Path) -> None:
        """Take in a part; one that could not be read counts for nothing."""
        if inspection.p_value is not None:
            self.inputs.append(inspection.input)
            self.p_values.append(inspection.p_value)

    def found(self) -> Discoveries:
        """Return which parts to take out, once all are there."""
        is_out = q_values(self.p_values) <= self.share * (1 + 1e-9)
        n = len(self.p_values)
        return Discoveries(
            share=self.share,
            n_parts=n,
            inputs=[name for name, out in zip(self.inputs, is_out, strict=True) if out],
            n_needed=max(1, math.ceil(n * self.smallest / self.share - 1e-9)),
        )

    @contextmanager
    def rows(self, writer: AbstractContextManager[Writer]) -> Iterator[Writer]:
        """Give what takes rows, which are written with their q-values when all are there.

        Those of a run that is broken off are written without, for the batch was not complete.
        """
        rows: list[dict[str, Any]] = []
        with writer as write:
            complete = False
            try:
                yield rows.append
                complete = True
            finally:
                known = iter(q_values(self.p_values).tolist() if complete else ())
                for row in rows:
                    q = None if row["p_value"] is None else next(known, None)
                    is_out = None if q is None else q <= self.share * (1 + 1e-9)
                    write({**row, "q_value": q, "discovery": is_out})
