"""Recordings of vibration: read, cut into windows, seen as pictures or features, faults named."""

from __future__ import annotations

from makellos.vibration.bearing_faults import FaultFinding, bearing_spectra, name_fault
from makellos.vibration.bearings import Bearing, find_bearing
from makellos.vibration.envelopes import Band, choose_band, envelope, envelope_spectrum, whiten
from makellos.vibration.recordings import Recording, read_recording
from makellos.vibration.views import SignalView
from makellos.vibration.windows import cut

__all__ = [
    "Band",
    "Bearing",
    "FaultFinding",
    "Recording",
    "SignalView",
    "bearing_spectra",
    "choose_band",
    "cut",
    "envelope",
    "envelope_spectrum",
    "find_bearing",
    "name_fault",
    "read_recording",
    "whiten",
]
