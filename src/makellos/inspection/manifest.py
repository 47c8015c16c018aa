"""The manifest of a model file: everything a verdict needs beside the graph, as checked data."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from makellos.calibration import Calibration, Verdict
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.engines import EngineChoice
from makellos.inspection.preprocessing import Preprocessing, Vectors
from makellos.inspection.recordings import SignalRecord

__all__ = ["FORMAT_VERSION", "Manifest"]

FORMAT_VERSION = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DetectorRecord(_Record):
    """Name the detector and the parameters it was fitted with."""

    name: str
    parameters: dict[str, Any]
    runtime: Literal["graph", "torch", "pyod"] = "graph"


class EngineRecord(_Record):
    """Name the engine whose scores the calibration holds."""

    runtime: str
    precision: str

    def choice(self) -> EngineChoice:
        """Return the record as an engine's name."""
        return EngineChoice(self.runtime, self.precision)


class CalibrationRecord(_Record):
    """Hold the scores of good calibration parts, and how they came to be."""

    scores: list[float] = Field(min_length=1)
    map_maxima: list[float] | None = None
    groups: list[str] | None = None
    asked: float = Field(gt=0, le=0.5)
    tolerance: float = Field(default=0.0, ge=0)
    method: Literal["held out", "cross-fitted", "split val", "new good parts"]

    @model_validator(mode="after")
    def _one_entry_per_part(self) -> Self:
        for name, values in {"map_maxima": self.map_maxima, "groups": self.groups}.items():
            if values is not None and len(values) != len(self.scores):
                raise ValueError(f"{len(self.scores)} scores have {len(values)} {name}")
        return self

    def calibration(self) -> Calibration:
        """Return the calibration of scores."""
        return self._of(self.scores)

    def map_calibration(self) -> Calibration | None:
        """Return the calibration of per-part map maxima; None where there are no maps."""
        return None if self.map_maxima is None else self._of(self.map_maxima)

    def _of(self, values: list[float]) -> Calibration:
        return Calibration(values, self.asked, self.groups, self.tolerance)  # type: ignore[arg-type]


class TrialRecord(_Record):
    """Say how `auto` judged a detector with `parameters` beside its defaults.

    `auroc` says how well damaged parts rank above good ones, `by_kind` the same of each kind of
    damage; None and empty where it was not judged, for a `reason`.
    """

    detector: str
    parameters: dict[str, Any] = {}
    result: Literal["chosen", "judged", "dropped", "failed", "left out"]
    reason: str = ""
    n_learned: int = 0
    auroc: float | None = None
    by_kind: dict[str, float] = {}
    seconds: float = 0.0


class AutoRecord(_Record):
    """Say what `auto` tried, how it judged and why it chose, the best trial first."""

    judged: str
    reason: str
    trials: list[TrialRecord]
    time_budget: float
    seconds: float


class TrainingRecord(_Record):
    """Say what the detector learned from, without holding it."""

    data: str
    layout: str
    n_good: int
    n_defective: int = 0
    n_learned: int
    fingerprint: str
    skipped: list[str] = []
    seed: int
    fit_seconds: float
    notes: list[str] = []
    auto: AutoRecord | None = None


class GoldenRecord(_Record):
    """Hold one golden part's file in the model and the score and verdict it had at release."""

    file: str
    score: float
    verdict: Verdict


class MemberRecord(_Record):
    """Hold the SHA-256 and the size in bytes of one member of the model file."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Manifest(_Record):
    """Describe a model file of `format_version` 1; `classes` are a classifier's, good first.

    `signal` says how a model of recordings sees them; None in one of pictures.
    """

    format: Literal["makellos"] = "makellos"
    format_version: Literal[1] = 1
    created: str
    detector: DetectorRecord
    preprocessing: Preprocessing | Vectors
    aggregation: Aggregation
    engine: EngineRecord
    calibration: CalibrationRecord
    training: TrainingRecord
    golden: list[GoldenRecord]
    examples: list[str] = []
    classes: list[str] = []
    signal: SignalRecord | None = None
    parity: dict[str, dict[str, float]] = {}
    versions: dict[str, str]
    members: dict[str, MemberRecord]
