"""The torch-free runtime: model file, engines, inspector, regions and overlays."""

from __future__ import annotations

from makellos.inspection.aggregation import Aggregation
from makellos.inspection.engines import EngineChoice, available_engines
from makellos.inspection.inspector import Inspection, Inspector
from makellos.inspection.model_file import ModelFile, read_model
from makellos.inspection.overlays import draw_overlay, write_picture
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
    "draw_overlay",
    "find_regions",
    "read_model",
    "write_picture",
]
