"""Golden parts and parity: what a model must pass on every runtime before it is released."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from makellos.data.pictures import Picture
from makellos.detectors import Graph
from makellos.inspection.engines import EngineChoice, available_engines, open_engine
from makellos.inspection.external_runtime import external_engines, open_external_engine
from makellos.inspection.inspector import Scorer

__all__ = ["Parity", "choose_golden", "compare_engines", "engines_of", "open_scorer"]

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


def engines_of(graph: Graph) -> tuple[EngineChoice, ...]:
    """Return the engines of this machine that can score with a graph, the fastest first."""
    if graph.external is not None:
        return external_engines(graph.external.detector)
    engines = available_engines()
    return tuple(e for e in engines if e.precision == "f32") if graph.exact else engines


def open_scorer(graph: Graph, choice: EngineChoice, *, workers: int = 1) -> Scorer:
    """Return what scores parts with a graph on one engine; raises as `open_engine` does."""
    shape, search = graph.preprocessing.shape, graph.external
    if search is None:
        engine = open_engine(graph.onnx, choice, shape=shape, workers=workers)
    else:
        engine = open_external_engine(
            search.detector, search.parameters, search.weights, shape, choice
        )
    return Scorer(
        engine,
        graph.preprocessing,
        graph.aggregation,
        tiling=graph.tiling,
        zones=graph.zones,
        workers=workers,
    )


def compare_engines(graph: Graph, pictures: Sequence[Picture]) -> Parity:
    """Return the scores of pictures on every engine of this machine."""
    scores = {}
    for choice in engines_of(graph):
        scorer = open_scorer(graph, choice)
        size = scorer.engine.batch_size
        scores[choice] = [
            scored.score
            for start in range(0, len(pictures), size)
            for scored in scorer.many(pictures[start : start + size])
        ]
    return Parity(scores)
