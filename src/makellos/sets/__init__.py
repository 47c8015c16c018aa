"""Public and synthetic sets: what they are, their download, rendered screws and bearings."""

from __future__ import annotations

from makellos.sets.synthetic_bearings import (
    SYNTHETIC_BEARING,
    SYNTHETIC_RATE,
    SYNTHETIC_RPM,
    synthetic_recording,
    write_bearings,
)
from makellos.sets.synthetic_screws import render_screw, write_screws

__all__ = [
    "SYNTHETIC_BEARING",
    "SYNTHETIC_RATE",
    "SYNTHETIC_RPM",
    "render_screw",
    "synthetic_recording",
    "write_bearings",
    "write_screws",
]
