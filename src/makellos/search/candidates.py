"""Candidates of `auto`: what the detectors of this install declare, and what came of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from makellos.detectors import Detector, detectors, make_detector
from makellos.detectors.loading import missing_packages, require_packages
from makellos.errors import ConfigurationError, MakellosError, MissingRuntimeError, suggest
from makellos.inspection.manifest import TrialRecord
from makellos.search.planted_trials import Judgement

__all__ = ["Candidate", "find_candidates"]

DEFAULT = "patchcore"


@dataclass
class Candidate:
    """Hold what is tried, and what came of it; `stage` counts the rounds it was judged in."""

    detector: Detector
    shown: dict[str, Any]
    stage: int = 0
    judgement: Judgement | None = None
    n_learned: int = 0
    seconds: float = 0.0
    last_seconds: float = 0.0
    reason: str = ""
    is_late: bool = False
    has_failed: bool = False
    missing: MissingRuntimeError | None = None

    @property
    def name(self) -> str:
        return " ".join([self.detector.name, *(f"{k}={v}" for k, v in self.shown.items())])

    @property
    def is_default(self) -> bool:
        return self.detector.name == DEFAULT and not self.shown

    @property
    def place(self) -> tuple[float, float]:
        """Return what candidates are sorted by, the best first."""
        return (math.inf, math.inf) if self.judgement is None else self.judgement.place

    @property
    def reason_for_labels(self) -> str:
        """Return why it takes labelled defects to learn from; empty where it does without."""
        if self.detector.learns == "labels":
            return "it learns from labelled defects, and there are too few"
        if self.detector.learns_planted:
            return "it learns from planted damage, so planted damage cannot judge it"
        return ""

    def fail(self, error: Exception) -> None:
        """Keep why it could not be judged."""
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        self.has_failed, self.reason = True, line.partition(". ")[0].rstrip(".")
        if isinstance(error, MissingRuntimeError):
            self.missing = error
        elif not isinstance(error, MakellosError):
            self.reason = f"{type(error).__name__}: {self.reason}"

    def record(self, chosen: Candidate, last_stage: int) -> TrialRecord:
        """Return what is kept of the trial."""
        judged = self.judgement
        result: Literal["chosen", "judged", "dropped", "failed", "left out"]
        if judged is not None:
            result = "judged" if self.stage == last_stage else "dropped"
        else:
            result = "failed" if self.has_failed else "left out"
        return TrialRecord(
            detector=self.detector.name,
            parameters=self.shown,
            result="chosen" if self is chosen else result,
            reason=self.reason,
            n_learned=self.n_learned,
            misses=None if judged is None else judged.misses,
            auroc=None if judged is None else judged.auroc,
            by_kind={} if judged is None else dict(judged.by_kind),
            missed_by_kind={} if judged is None else dict(judged.missed_by_kind),
            seconds=round(self.seconds, 2),
        )


def find_candidates(
    parameters: Mapping[str, Any], seed: int, *, on_maps: bool
) -> tuple[list[Candidate], list[TrialRecord]]:
    """Return what is tried, the default first and then the cheaper; and what is not, and why.

    `parameters` keep their value, and leave those out that have none of that name; `on_maps` leaves
    those out that give no anomaly map. Raises `ConfigurationError` for parameters that are not
    accepted and where nothing is left, `MissingRuntimeError` where this install lacks what is.
    """
    found: list[tuple[tuple[bool, bool, int, str], Candidate]] = []
    left_out = []
    known, lacking = set[str](), set[str]()
    for name, cls in detectors().items():
        known.update(cls.parameters)
        reason = _unfit(cls, parameters, on_maps=on_maps)
        if reason:
            left_out.append(TrialRecord(detector=name, result="left out", reason=reason))
            continue
        seen: list[Mapping[str, Any]] = []
        for place, values in enumerate(cls.candidates):
            detector = make_detector(name, parameters={**values, **parameters}, seed=seed)
            taken = detector.get_parameters()
            if taken in seen:
                continue
            seen.append(taken)
            shown = {k: v for k, v in taken.items() if v != cls.parameters[k].default}
            shown.pop("seed", None)
            if missing := missing_packages(detector.packages()):
                lacking.update(detector.packages())
                left_out.append(
                    TrialRecord(
                        detector=name,
                        parameters=shown,
                        result="left out",
                        reason=f"it needs {missing}",
                    )
                )
                continue
            order = (name != DEFAULT or bool(values), cls.trains, place, name)
            found.append((order, Candidate(detector, shown)))
    unknown = [key for key in parameters if key not in known]
    if unknown:
        raise ConfigurationError(
            f"No detector has a parameter {unknown[0]!r}. {suggest(unknown[0], known)}"
        )
    if not found:
        require_packages(*sorted(lacking))
        raise ConfigurationError(
            f"No detector that auto tries has all of {', '.join(parameters)}. Name a detector "
            "with --detector, or set fewer parameters."
        )
    return [candidate for _, candidate in sorted(found, key=lambda each: each[0])], left_out


def _unfit(cls: type[Detector], parameters: Mapping[str, Any], *, on_maps: bool) -> str:
    """Return why a detector is not tried at all; empty where it is."""
    if cls.takes != "pictures":
        return "it does not take pictures"
    if not cls.candidates:
        return "it is not among those that auto tries; name it with --detector to fit it"
    if cls.learns == "labels" and on_maps:
        return "it scores whole pictures by class, and tiles and zones need maps"
    missing = [key for key in parameters if key not in cls.parameters]
    return f"it has no parameter {missing[0]}" if missing else ""
