"""What a fitted detector gives: an ONNX graph, or what another runtime scores with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makellos.inspection.aggregation import Aggregation
from makellos.inspection.background import Background
from makellos.inspection.external_runtime import ExternalScoring
from makellos.inspection.preprocessing import Preprocessing, Vectors
from makellos.inspection.recipe import Recipe

__all__ = ["RESIDUAL", "UNUSUAL", "Graph"]

RESIDUAL = "residual"
UNUSUAL = "{}, relative to usual"  # of what is counted from good parts at each place


@dataclass(frozen=True)
class Graph:
    """Hold a fitted detector as an ONNX graph, and how a score is made of it.

    `onnx` maps ``picture`` N×C×H×W float32 in [0, 1] to ``anomaly_map`` N×h×w, ``score`` N or
    both; normalisation is inside. Higher is more anomalous. A score that it gives is the score;
    without one `aggregation` makes it of the map. ``reconstruction`` N×C×H×W in [0, 1] is the
    nearest good part that the method can make. `generator` maps ``latent`` N×d to ``picture``
    N×C×H×W, where the method makes new pictures. ``probabilities`` N×K are those of `classes`, good
    first, and `weights` the network's float32 arrays by name, for `explain`. `external` takes the
    place of `onnx`, then empty, in a detector whose `runtime` is ``torch`` or ``pyod``. An `exact`
    graph is released in f32 alone: bf16 would round away what its scores differ by. A detector that
    takes features has ``features`` N×F in place of ``picture``, and `Vectors` for preprocessing.
    Where ``part`` N×h×w in [0, 1] tells part from background, `background` says how that counts.
    `map_name` says what the map shows, such as ``residual``, where people know a name for it.
    """

    onnx: bytes
    preprocessing: Preprocessing | Vectors
    aggregation: Aggregation
    generator: bytes | None = None
    external: ExternalScoring | None = None
    classes: tuple[str, ...] = ()
    weights: Mapping[str, NDArray[np.float32]] | None = None
    exact: bool = False
    background: Background | None = None
    map_name: str = ""

    def recipe(self) -> Recipe:
        """Return what scores parts with this graph, whole and without zones."""
        return Recipe(
            self.external or self.onnx,
            self.preprocessing,
            self.aggregation,
            exact=self.exact,
            background=self.background,
        )
