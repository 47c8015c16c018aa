"""Golden parts and parity: what a model must pass on every runtime before it is released."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from makellos.data.parts import Part, Values
from makellos.data.pictures import Picture
from makellos.inspection.engines import EngineChoice
from makellos.inspection.recipe import Recipe
from makellos.models.scoring import score_parts

__all__ = ["Parity", "choose_golden", "compare_engines"]

N_NEAR, N_FAR = 4, 2


@dataclass(frozen=True)
class Parity:
    """Hold the golden parts' scores per engine."""

    scores: dict[EngineChoice, list[float]]

    def difference(self, reference: EngineChoice) -> float:
        """Return the largest score difference to the reference on any golden part."""
        ours = np.array(self.scores[reference])
        return max(float(np.abs(np.array(values) - ours).max()) for values in self.scores.values())

    def settle(self, reference: EngineChoice, threshold: float) -> float | None:
        """Return the smallest tolerance above `threshold` under which no golden verdict differs.

        A golden part may lie on the threshold itself, and rounding alone would then decide. The
        threshold is raised past such a part, which keeps the false-alarm promise; by at most twice
        the largest difference between engines, since the next part may lie across the raised one.
        None where that is not enough, or where an engine gives no finite score.
        """
        every = [score for scores in self.scores.values() for score in scores]
        if not np.isfinite(every).all():
            return None
        margin = 1e-6 * max(1.0, abs(threshold))
        raises = {0.0, *(score - threshold + margin for score in every if score > threshold)}
        for tolerance in sorted(raises):
            if tolerance > 2 * self.difference(reference) + margin:
                return None
            if not any(self.flips(reference, threshold + tolerance).values()):
                return tolerance
        return None

    def flips(self, reference: EngineChoice, threshold: float) -> dict[EngineChoice, int]:
        """Return per engine how many golden parts only one of it and the reference rejects.

        A part without a finite score counts as well, for it has no verdict.
        """
        expected = np.array(self.scores[reference]) > threshold
        return {
            engine: int(
                np.count_nonzero(
                    ((np.array(scores) > threshold) != expected) | ~np.isfinite(scores)
                )
            )
            for engine, scores in self.scores.items()
        }


def choose_golden(scores: Sequence[float], threshold: float) -> list[int]:
    """Return indices of calibration parts: those nearest to the threshold, then those farthest."""
    by_distance = np.argsort(np.abs(np.asarray(scores) - threshold), kind="stable")
    near, far = by_distance[:N_NEAR], by_distance[N_NEAR:][-N_FAR:]
    return [int(index) for index in (*near, *far)]


def compare_engines(recipe: Recipe, pictures: Sequence[Picture]) -> Parity:
    """Return the scores of pictures on every engine of this machine."""
    parts = [Part(source=Values(each), name=f"golden {i}") for i, each in enumerate(pictures)]
    return Parity(
        {
            choice: [scored.score for scored in score_parts(recipe, choice, parts, workers=1)]
            for choice in recipe.engines()
        }
    )
