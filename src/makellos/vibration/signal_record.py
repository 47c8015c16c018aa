"""How a model sees signals, and the faults that it names."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Literal

from pydantic import BaseModel, ConfigDict

from makellos.data.limits import Counts
from makellos.errors import InputError
from makellos.vibration.bearing_faults import FaultFinding, name_fault
from makellos.vibration.bearings import parse_bearing
from makellos.vibration.envelopes import BandSpectra
from makellos.vibration.long_recordings import CutLong
from makellos.vibration.signals import Windows
from makellos.vibration.views import SignalView

__all__ = ["SignalRecord", "fault_of"]

_SAME_SPEED = 0.01  # relative


class SignalRecord(BaseModel):
    """Say how a model sees signals, and what its calibration took for units that are alike.

    ``recordings``: a good recording still to come is like those that calibrated. ``blocks``: its
    windows are like those of the recordings that calibrated, which are too few to count themselves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    view: SignalView
    calibrated_on: Literal["recordings", "blocks"]
    recordings: Counts = ()  # number of the recording of each calibration score

    @property
    def numbers(self) -> tuple[int, ...] | None:
        """Return the numbers of recordings where those are counted, None for blocks."""
        return self.recordings if self.calibrated_on == "recordings" else None

    @property
    def apart(self) -> float:
        """Return the share of windows that share no samples, in (0, 1]."""
        return min(1.0, self.view.hop / self.view.window)


def fault_of(
    windows: Windows | CutLong, view: SignalView, rpm: float | None, good: Mapping[str, BandSpectra]
) -> dict[str, FaultFinding]:
    """Return what the envelope spectrum of each channel shows, where bearing and speed are known.

    `good` are spectra of the good state by channel; they count at the speed that they were taken
    at. A recording that is too short has no finding.
    """
    shaft_hz = view.shaft_hz if rpm is None else rpm / 60
    if not view.bearing or shaft_hz is None:
        return {}
    bearing, found = parse_bearing(view.bearing), {}
    for name, signal in zip(view.channels, windows.signal, strict=True):
        same_speed = view.shaft_hz is not None and abs(shaft_hz / view.shaft_hz - 1) < _SAME_SPEED
        reference = good.get(name) if same_speed else None
        with suppress(InputError):  # too short or too slow: the verdict stands without a name
            found[name] = name_fault(signal, view.rate, bearing, shaft_hz, reference)
    return found
