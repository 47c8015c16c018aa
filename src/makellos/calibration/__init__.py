"""False-alarm budget, conformal thresholds and verdicts."""

from __future__ import annotations

from makellos.calibration.conformal import (
    Calibration,
    Verdict,
    check_look_again,
    parts_needed,
    realised_rate,
)
from makellos.calibration.counts import count_p_value
from makellos.calibration.discoveries import check_discoveries, q_values
from makellos.calibration.lots import lots_larger_than, scores_in_lot
from makellos.calibration.zones import ZonedCalibration, calibrate_zones, divided_budget

__all__ = [
    "Calibration",
    "Verdict",
    "ZonedCalibration",
    "calibrate_zones",
    "check_discoveries",
    "check_look_again",
    "count_p_value",
    "divided_budget",
    "lots_larger_than",
    "parts_needed",
    "q_values",
    "realised_rate",
    "scores_in_lot",
]
