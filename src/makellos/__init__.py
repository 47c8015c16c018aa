"""Find, outline and explain damage on manufactured parts.

>>> import makellos
>>> makellos.parts_needed(0.01)  # good calibration parts that a budget of one percent takes
99
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from makellos.calibration import Calibration, parts_needed
    from makellos.detectors.anogan import AnoGAN
    from makellos.detectors.anomalydino import AnomalyDINO
    from makellos.detectors.autoencoder import Autoencoder
    from makellos.detectors.classifier import Classifier
    from makellos.detectors.dinomaly import Dinomaly
    from makellos.detectors.fanogan import FAnoGAN
    from makellos.detectors.padim import PaDiM
    from makellos.detectors.patchcore import PatchCore
    from makellos.detectors.student_teacher import StudentTeacher
    from makellos.detectors.vae import VAE
    from makellos.drawing.overlays import draw_overlay, write_picture
    from makellos.drawing.panels import draw_panel
    from makellos.inspection import Inspection, Inspector
    from makellos.subjects import find_parts
    from makellos.training import Training
    from makellos.workflows.calibrate import calibrate
    from makellos.workflows.compare import compare
    from makellos.workflows.evaluate import evaluate
    from makellos.workflows.explain import explain
    from makellos.workflows.fit import fit
    from makellos.workflows.generate import generate
    from makellos.workflows.inspect import inspect
    from makellos.workflows.queue import queue
    from makellos.workflows.tune import tune

__version__ = "0.1.0"

# Resolved on first use, so that `import makellos` costs nothing.
_PLACES = {
    "AnoGAN": "makellos.detectors.anogan",
    "AnomalyDINO": "makellos.detectors.anomalydino",
    "Autoencoder": "makellos.detectors.autoencoder",
    "Calibration": "makellos.calibration",
    "Evaluation": "makellos.evaluation",
    "Classifier": "makellos.detectors.classifier",
    "Dinomaly": "makellos.detectors.dinomaly",
    "FAnoGAN": "makellos.detectors.fanogan",
    "Inspection": "makellos.inspection",
    "Inspector": "makellos.inspection",
    "PaDiM": "makellos.detectors.padim",
    "PatchCore": "makellos.detectors.patchcore",
    "StudentTeacher": "makellos.detectors.student_teacher",
    "Training": "makellos.training",
    "VAE": "makellos.detectors.vae",
    "calibrate": "makellos.workflows.calibrate",
    "compare": "makellos.workflows.compare",
    "draw_overlay": "makellos.drawing.overlays",
    "draw_panel": "makellos.drawing.panels",
    "evaluate": "makellos.workflows.evaluate",
    "explain": "makellos.workflows.explain",
    "find_parts": "makellos.subjects",
    "fit": "makellos.workflows.fit",
    "generate": "makellos.workflows.generate",
    "inspect": "makellos.workflows.inspect",
    "parts_needed": "makellos.calibration",
    "queue": "makellos.workflows.queue",
    "tune": "makellos.workflows.tune",
    "write_picture": "makellos.drawing.overlays",
}

__all__ = [
    "VAE",
    "AnoGAN",
    "AnomalyDINO",
    "Autoencoder",
    "Calibration",
    "Classifier",
    "Dinomaly",
    "FAnoGAN",
    "Inspection",
    "Inspector",
    "PaDiM",
    "PatchCore",
    "StudentTeacher",
    "Training",
    "__version__",
    "calibrate",
    "compare",
    "draw_overlay",
    "draw_panel",
    "evaluate",
    "explain",
    "find_parts",
    "fit",
    "generate",
    "inspect",
    "parts_needed",
    "queue",
    "tune",
    "write_picture",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'makellos' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)
