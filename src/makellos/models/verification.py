"""Verifying a model: its golden parts, and further parts, through every runtime of a machine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from makellos.data.parts import Part, Values
from makellos.inspection import Inspection
from makellos.inspection.engines import EngineChoice, missing_engines
from makellos.inspection.external_runtime import ExternalScoring
from makellos.inspection.findings import UNREADABLE
from makellos.inspection.manifest import GoldenRecord
from makellos.inspection.model_file import ModelFile
from makellos.inspection.recipe import Recipe
from makellos.inspection.zones import Zones
from makellos.models.scoring import score_parts

__all__ = [
    "Comparison",
    "Judged",
    "compare",
    "golden_expected",
    "golden_found",
    "judged",
    "near_threshold",
    "not_run",
    "rejudged",
    "score_golden",
]


class Judged(NamedTuple):
    """Hold the verdict on one part and its score, or those of a recording's windows.

    `error` says why there is none.
    """

    name: str
    verdict: str
    scores: tuple[float, ...]
    error: str | None = None

    @property
    def is_rejected(self) -> bool:
        """Tell whether the part is rejected; one without a verdict is neither that nor kept."""
        return self.verdict == "reject"


@dataclass
class Comparison:
    """Say how far a runtime's scores and verdicts differ from those expected.

    A verdict flips where only one of both rejects the part, or only one has a verdict.
    `band_changes` are other changes, between ``ok`` and ``look_again``. `flipped` are pairs of what
    was expected and what was found.
    """

    max_score_difference: float = 0.0
    flips: int = 0
    band_changes: int = 0
    n_parts: int = 0
    flipped: list[tuple[Judged, Judged]] = field(default_factory=list)

    def add(self, expected: Judged, found: Judged) -> bool:
        """Take one part into account; tell whether its verdict flips."""
        self.n_parts += 1
        apart = UNREADABLE in (expected.verdict, found.verdict)
        flips = False
        if expected.verdict != found.verdict:
            if apart or expected.is_rejected != found.is_rejected:
                flips = True
                self.flips += 1
                self.flipped.append((expected, found))
            else:
                self.band_changes += 1
        for one, other in zip(expected.scores, found.scores, strict=False):
            self.max_score_difference = max(self.max_score_difference, abs(one - other))
        return flips

    def figures(self) -> dict[str, float]:
        """Return the figures that a model file keeps of a runtime."""
        return {
            "max_score_difference": self.max_score_difference,
            "flips": self.flips,
            "band_changes": self.band_changes,
            "n_parts": self.n_parts,
        }


def compare(pairs: Iterable[tuple[Judged, Judged]]) -> Comparison:
    """Return how what was found differs from what was expected, of each part a pair of both."""
    found = Comparison()
    for expected, here in pairs:
        found.add(expected, here)
    return found


def near_threshold(model: ModelFile, difference: float) -> int:
    """Return how many good calibration parts lie no further from the threshold than that.

    Where runtimes differ by as much, parts like these get the verdict of the one that inspects.
    """
    calibration = model.manifest.calibration.calibration()
    distances = np.abs(calibration.scores + calibration.tolerance - calibration.threshold)
    return int(np.count_nonzero(distances <= difference)) if difference > 0 else 0


def golden_expected(model: ModelFile) -> list[Judged]:
    """Return the golden parts with the scores that the model was released with."""
    calibration = model.manifest.calibration
    scores = [part.score for part in model.manifest.golden]
    if scales := calibration.score_scales():
        scores = [Zones.score(part.zone_scores, scales) for part in model.manifest.golden]
    return golden_found(model, scores)


def golden_found(model: ModelFile, scores: Sequence[float]) -> list[Judged]:
    """Return the golden parts with scores and the verdicts on them; not finite: ``unreadable``."""
    calibration = model.manifest.calibration.calibration()
    return [
        Judged(part.file, calibration.verdict(score), (score,))
        if math.isfinite(score)
        else Judged(part.file, UNREADABLE, ())
        for part, score in zip(model.manifest.golden, scores, strict=True)
    ]


def rejudged(model: ModelFile, expected: Sequence[Judged]) -> list[str]:
    """Return the golden parts that this version of makellos judges otherwise than that of release.

    The scores are the same; how a verdict follows from them has changed.
    """
    pairs = zip(model.manifest.golden, expected, strict=True)
    return [part.file for part, now in pairs if part.verdict != now.verdict]


def score_golden(model: ModelFile, recipe: Recipe, choice: EngineChoice) -> list[float]:
    """Return the scores of a model's golden parts by a recipe on one engine, in their order.

    They are kept in their pose and at the graph's size; of one that was cut a tile is kept, which
    lies in one zone.
    """
    golden = model.manifest.golden
    upright = replace(recipe, preprocessing=recipe.preprocessing.posed)
    scores: dict[int, float] = {}
    zones_of = [_zone_of(part, recipe) for part in golden]
    for zone in sorted(set(zones_of)):
        inside = [i for i, each in enumerate(zones_of) if each == zone]
        zones = recipe.zones if zone == 0 or recipe.zones is None else recipe.zones.only(zone)
        parts = [
            Part(source=Values(model.golden_picture(golden[i].file)), name=golden[i].file)
            for i in inside
        ]
        found = score_parts(replace(upright, zones=zones), choice, parts, workers=1)
        scores |= {i: each.score for i, each in zip(inside, found, strict=True)}
    return [scores[i] for i in range(len(golden))]


def _zone_of(part: GoldenRecord, recipe: Recipe) -> int:
    """Return the number of the zone that a golden tile lies in; 0 for a whole part."""
    shown = [number for number, score in enumerate(part.zone_scores, 1) if score is not None]
    return shown[0] if recipe.tiling is not None and len(shown) == 1 else 0


def judged(inspection: Inspection) -> Judged:
    """Return what is compared of an inspection; of a recording the scores of its windows."""
    found = inspection.recording
    scores = [inspection.score] if found is None else [each.score for each in found.windows]
    kept = tuple(score for score in scores if score is not None)
    return Judged(inspection.input, inspection.verdict, kept, inspection.error)


def not_run(recipe: Recipe, engines: Sequence[EngineChoice]) -> dict[str, str]:
    """Return which runtimes are left out of `engines`, each with the reason."""
    if isinstance(recipe.graph, ExternalScoring):
        return {}
    missing = {str(choice): why for choice, why in missing_engines().items()}
    if recipe.exact and (bf16 := "openvino bf16") not in map(str, engines):
        missing[bf16] = "this model computes in f32 alone"
    return missing
