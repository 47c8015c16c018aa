"""False-alarm budget, conformal thresholds and verdicts."""

from __future__ import annotations

from makellos.calibration.conformal import Calibration, Verdict, parts_needed, realised_rate
from makellos.calibration.counts import count_p_value
from makellos.calibration.zones import ZonedCalibration, calibrate_zones

__all__ = [
    "Calibration",
    "Verdict",
    "ZonedCalibration",
    "calibrate_zones",
    "count_p_value",
    "parts_needed",
    "realised_rate",
]
