"""Find, outline and explain damage on manufactured parts.

>>> import makellos
>>> makellos.parts_needed(0.01)  # good calibration parts that a budget of 1 % needs
99

Commands, as on the command line
    align, audit, fit, inspect, evaluate, accept, compare, calibrate, explain, generate, tune,
    queue, verify, export, drift
To inspect one part after another
    Inspector, which returns an Inspection; DriftMonitor, which takes it; read_picture, read_model
Parts
    find_parts, Part, PartSet, parts_needed
Drawing
    draw_overlay, draw_panel, draw_recording, write_picture
Detectors
    list_detectors, make_detector, Detector, PatchCore, PaDiM and others
Errors
    MakellosError is the root of all
Modules
    evaluation (metrics), sets (synthetic sets), vibration (bearings, envelopes, views of signals)
    and, for authors of detectors, detectors and testing

`dir(makellos)` lists all names.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from makellos.calibration import Calibration as Calibration
    from makellos.calibration import parts_needed as parts_needed
    from makellos.data.films import Frames as Frames
    from makellos.data.parts import Part as Part
    from makellos.data.parts import PartSet as PartSet
    from makellos.data.pictures import read_picture as read_picture
    from makellos.detectors import Detector as Detector
    from makellos.detectors import make_detector as make_detector
    from makellos.detectors.anogan import AnoGAN as AnoGAN
    from makellos.detectors.anomalydino import AnomalyDINO as AnomalyDINO
    from makellos.detectors.autoencoder import Autoencoder as Autoencoder
    from makellos.detectors.classifier import Classifier as Classifier
    from makellos.detectors.dinomaly import Dinomaly as Dinomaly
    from makellos.detectors.discriminative import Discriminative as Discriminative
    from makellos.detectors.fanogan import FAnoGAN as FAnoGAN
    from makellos.detectors.golden import Golden as Golden
    from makellos.detectors.padim import PaDiM as PaDiM
    from makellos.detectors.patchcore import PatchCore as PatchCore
    from makellos.detectors.pyod import Pyod as Pyod
    from makellos.detectors.student_teacher import StudentTeacher as StudentTeacher
    from makellos.detectors.vae import VAE as VAE
    from makellos.drawing import draw_overlay as draw_overlay
    from makellos.drawing import draw_panel as draw_panel
    from makellos.drawing import draw_recording as draw_recording
    from makellos.drawing import write_picture as write_picture
    from makellos.errors import ConfigurationError as ConfigurationError
    from makellos.errors import HelperProcessError as HelperProcessError
    from makellos.errors import InputError as InputError
    from makellos.errors import MakellosError as MakellosError
    from makellos.errors import MissingRuntimeError as MissingRuntimeError
    from makellos.errors import ModelFileError as ModelFileError
    from makellos.errors import NotFittedError as NotFittedError
    from makellos.errors import StorageError as StorageError
    from makellos.errors import TrainingError as TrainingError
    from makellos.evaluation.acceptance_record import AcceptanceRecord as AcceptanceRecord
    from makellos.evaluation.result import Evaluation as Evaluation
    from makellos.inspection import EngineChoice as EngineChoice
    from makellos.inspection import Inspection as Inspection
    from makellos.inspection import Inspector as Inspector
    from makellos.inspection import ModelFile as ModelFile
    from makellos.inspection import Region as Region
    from makellos.inspection import read_model as read_model
    from makellos.inspection.acceptance import Acceptance as Acceptance
    from makellos.inspection.acceptance import Rule as Rule
    from makellos.inspection.drift import Alarm as Alarm
    from makellos.inspection.drift import DriftMonitor as DriftMonitor
    from makellos.inspection.findings import RecordingFinding as RecordingFinding
    from makellos.jobs.compare_results import CompareResults as CompareResults
    from makellos.jobs.queue_results import QueueResults as QueueResults
    from makellos.models.coverage import Coverage as Coverage
    from makellos.subjects import find_parts as find_parts
    from makellos.training import Training as Training
    from makellos.vibration.signals import SignalSettings as SignalSettings
    from makellos.workflows.accept import accept as accept
    from makellos.workflows.align import AlignSummary as AlignSummary
    from makellos.workflows.align import align as align
    from makellos.workflows.audit import AuditSummary as AuditSummary
    from makellos.workflows.audit import audit as audit
    from makellos.workflows.calibrate import CalibrationSummary as CalibrationSummary
    from makellos.workflows.calibrate import calibrate as calibrate
    from makellos.workflows.compare import compare as compare
    from makellos.workflows.drift import DriftSummary as DriftSummary
    from makellos.workflows.drift import drift as drift
    from makellos.workflows.evaluate import evaluate as evaluate
    from makellos.workflows.explain import ExplainSummary as ExplainSummary
    from makellos.workflows.explain import explain as explain
    from makellos.workflows.export import ExportSummary as ExportSummary
    from makellos.workflows.export import export as export
    from makellos.workflows.fit import FitSummary as FitSummary
    from makellos.workflows.fit import fit as fit
    from makellos.workflows.generate import GenerateSummary as GenerateSummary
    from makellos.workflows.generate import generate as generate
    from makellos.workflows.inspect import InspectSummary as InspectSummary
    from makellos.workflows.inspect import Outputs as Outputs
    from makellos.workflows.inspect import RuleOverrides as RuleOverrides
    from makellos.workflows.inspect import inspect as inspect
    from makellos.workflows.labelled_rows import RowFiles as RowFiles
    from makellos.workflows.queue import queue as queue
    from makellos.workflows.tune import TuneSummary as TuneSummary
    from makellos.workflows.tune import tune as tune
    from makellos.workflows.verify import VerifySummary as VerifySummary
    from makellos.workflows.verify import verify as verify

__version__ = "0.1.0"

# The public names of each module, which are resolved on first use: `import makellos` costs nothing.
_NAMES = {
    "calibration": ("Calibration", "parts_needed"),
    "data.films": ("Frames",),
    "data.parts": ("Part", "PartSet"),
    "data.pictures": ("read_picture",),
    "detectors": ("Detector", "make_detector"),
    "detectors.anogan": ("AnoGAN",),
    "detectors.anomalydino": ("AnomalyDINO",),
    "detectors.autoencoder": ("Autoencoder",),
    "detectors.classifier": ("Classifier",),
    "detectors.dinomaly": ("Dinomaly",),
    "detectors.discriminative": ("Discriminative",),
    "detectors.fanogan": ("FAnoGAN",),
    "detectors.golden": ("Golden",),
    "detectors.padim": ("PaDiM",),
    "detectors.patchcore": ("PatchCore",),
    "detectors.pyod": ("Pyod",),
    "detectors.student_teacher": ("StudentTeacher",),
    "detectors.vae": ("VAE",),
    "drawing": ("draw_overlay", "draw_panel", "draw_recording", "write_picture"),
    "errors": (
        "ConfigurationError",
        "HelperProcessError",
        "InputError",
        "MakellosError",
        "MissingRuntimeError",
        "ModelFileError",
        "NotFittedError",
        "StorageError",
        "TrainingError",
    ),
    "evaluation.acceptance_record": ("AcceptanceRecord",),
    "evaluation.result": ("Evaluation",),
    "inspection": ("EngineChoice", "Inspection", "Inspector", "ModelFile", "Region", "read_model"),
    "inspection.acceptance": ("Acceptance", "Rule"),
    "inspection.drift": ("Alarm", "DriftMonitor"),
    "inspection.findings": ("RecordingFinding",),
    "jobs.compare_results": ("CompareResults",),
    "jobs.queue_results": ("QueueResults",),
    "models.coverage": ("Coverage",),
    "subjects": ("find_parts",),
    "training": ("Training",),
    "vibration.signals": ("SignalSettings",),
    "workflows.accept": ("accept",),
    "workflows.align": ("AlignSummary", "align"),
    "workflows.audit": ("AuditSummary", "audit"),
    "workflows.calibrate": ("CalibrationSummary", "calibrate"),
    "workflows.compare": ("compare",),
    "workflows.drift": ("DriftSummary", "drift"),
    "workflows.evaluate": ("evaluate",),
    "workflows.explain": ("ExplainSummary", "explain"),
    "workflows.export": ("ExportSummary", "export"),
    "workflows.fit": ("FitSummary", "fit"),
    "workflows.generate": ("GenerateSummary", "generate"),
    "workflows.inspect": ("InspectSummary", "Outputs", "RuleOverrides", "inspect"),
    "workflows.labelled_rows": ("RowFiles",),
    "workflows.queue": ("queue",),
    "workflows.tune": ("TuneSummary", "tune"),
    "workflows.verify": ("VerifySummary", "verify"),
}
_PLACES = {name: module for module, names in _NAMES.items() for name in names}
_ROOMS = ("detectors", "evaluation", "sets", "testing", "vibration")

__all__ = list(_PLACES)
__all__ += ["__version__", "list_detectors"]


def list_detectors() -> dict[str, type[Detector]]:
    """Return the class of every detector by the name that `fit` knows it by."""
    from makellos.detectors import detectors

    return detectors()


if not TYPE_CHECKING:  # else type checkers would take any name for a public one

    def __getattr__(name: str) -> Any:
        if name in _ROOMS:
            return importlib.import_module(f"makellos.{name}")
        if name in _PLACES:
            return getattr(importlib.import_module(f"makellos.{_PLACES[name]}"), name)
        # A new detector is there by its registration alone.
        known = list_detectors().values() if name[:1].isupper() else ()
        for each in known:
            if each.__name__ == name:
                return each
        raise AttributeError(f"module 'makellos' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_ROOMS]
