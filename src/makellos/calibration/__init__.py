"""False-alarm budget, conformal thresholds and verdicts."""

from __future__ import annotations

from makellos.calibration.conformal import Calibration, Verdict, parts_needed, realised_rate

__all__ = ["Calibration", "Verdict", "parts_needed", "realised_rate"]
