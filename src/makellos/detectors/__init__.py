"""Detectors: the contract, the registry and one file per method."""

from __future__ import annotations

from makellos.detectors.contract import Detector
from makellos.detectors.graph import Graph
from makellos.detectors.parameters import Parameter, parameter
from makellos.detectors.registry import (
    detector_class,
    detectors,
    detectors_giving,
    make_detector,
    register,
)
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.preprocessing import Preprocessing

__all__ = [
    "Aggregation",
    "Detector",
    "Graph",
    "Parameter",
    "Preprocessing",
    "detector_class",
    "detectors",
    "detectors_giving",
    "make_detector",
    "parameter",
    "register",
]
