"""The torch-free runtime: model file, engines, inspector, regions."""

from __future__ import annotations

from makellos.inspection.aggregation import Aggregation
from makellos.inspection.engines import EngineChoice, available_engines
from makellos.inspection.inspector import Inspection, Inspector
from makellos.inspection.model_file import ModelFile, read_model
from makellos.inspection.preprocessing import Preprocessing
from makellos.inspection.regions import Region, find_regions

__all__ = [
    "Aggregation",
    "EngineChoice",
    "Inspection",
    "Inspector",
    "ModelFile",
    "Preprocessing",
    "Region",
    "available_engines",
    "find_regions",
    "read_model",
]
