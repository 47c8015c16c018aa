"""Detectors: the contract, the registry and one file per method."""

from __future__ import annotations

from makellos.detectors.contract import (
    Detector,
    Graph,
    Parameter,
    Progress,
    detector_class,
    detectors,
    make_detector,
    register,
)

__all__ = [
    "Detector",
    "Graph",
    "Parameter",
    "Progress",
    "detector_class",
    "detectors",
    "make_detector",
    "register",
]
