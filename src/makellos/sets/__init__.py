"""Public and synthetic sets: downloads, rendered screws, circuit boards, bearings."""

from __future__ import annotations

from makellos.sets.synthetic_bearings import (
    SYNTHETIC_BEARING,
    SYNTHETIC_RATE,
    SYNTHETIC_RPM,
    synthetic_recording,
    write_bearings,
)
from makellos.sets.synthetic_boards import render_board, write_boards
from makellos.sets.synthetic_screws import render_screw, write_screws

__all__ = [
    "SYNTHETIC_BEARING",
    "SYNTHETIC_RATE",
    "SYNTHETIC_RPM",
    "render_board",
    "render_screw",
    "synthetic_recording",
    "write_bearings",
    "write_boards",
    "write_screws",
]
