"""The torch-free runtime: model file, engines, inspector, regions."""

from __future__ import annotations

from makellos.inspection.aggregation import Aggregation as Aggregation
from makellos.inspection.engines import EngineChoice as EngineChoice
from makellos.inspection.engines import available_engines as available_engines
from makellos.inspection.inspector import Inspection as Inspection
from makellos.inspection.inspector import Inspector as Inspector
from makellos.inspection.model_file import ModelFile as ModelFile
from makellos.inspection.model_file import read_model as read_model
from makellos.inspection.preprocessing import Preprocessing as Preprocessing
from makellos.inspection.regions import Region as Region
from makellos.inspection.regions import find_regions as find_regions
