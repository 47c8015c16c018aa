"""False-alarm budget, conformal thresholds and verdicts."""

from __future__ import annotations

from makellos.calibration.conformal import Calibration, Verdict, parts_needed, realised_rate
from makellos.calibration.counts import count_p_value

__all__ = ["Calibration", "Verdict", "count_p_value", "parts_needed", "realised_rate"]
