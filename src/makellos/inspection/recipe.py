"""A recipe: what scores parts, and all that surrounds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from makellos.inspection.aggregation import Aggregation
from makellos.inspection.background import Background
from makellos.inspection.engines import EngineChoice, available_engines, open_engine
from makellos.inspection.external_runtime import (
    ExternalScoring,
    external_engines,
    open_external_engine,
)
from makellos.inspection.preprocessing import Preprocessing, Vectors
from makellos.inspection.scorer import Scorer
from makellos.inspection.tiling import Tiling
from makellos.inspection.zones import Zones

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """Hold what scores parts: an ONNX file or its bytes, or what another runtime scores with.

    `preprocessing` knows the size and the white level, `aggregation` makes a score of a map,
    `tiling` says how pictures are cut and `zones` which cells decide; without zones `background`
    says what lies beside the part. An `exact` recipe is computed in f32 alone. `class_scales` are
    those of `Scorer`. The `identity` of a graph in a model file is what `open_engine` keeps it by.
    """

    graph: Path | bytes | ExternalScoring
    preprocessing: Preprocessing | Vectors
    aggregation: Aggregation
    tiling: Tiling | None = None
    zones: Zones | None = None
    exact: bool = False
    background: Background | None = None
    class_scales: tuple[float, ...] = ()
    identity: str = ""

    def engines(self) -> tuple[EngineChoice, ...]:
        """Return the engines of this machine that can score with it, the fastest first."""
        if isinstance(self.graph, ExternalScoring):
            return external_engines(self.graph.detector)
        engines = available_engines()
        return tuple(e for e in engines if e.precision == "f32") if self.exact else engines

    def open(self, choice: EngineChoice, *, workers: int = 1, together: int = 1) -> Scorer:
        """Return what scores parts on one engine; raises as `open_engine` does.

        `workers` parts, or tiles of one, are worked on at once, `together` small ones by one.
        """
        shape = self.preprocessing.shape
        if isinstance(self.graph, ExternalScoring):
            engine = open_external_engine(self.graph, shape, choice)
        else:
            engine = open_engine(
                self.graph,
                choice,
                shape=shape,
                workers=workers,
                together=together,
                identity=self.identity,
            )
        return Scorer(
            engine,
            self.preprocessing,
            self.aggregation,
            tiling=self.tiling,
            zones=self.zones,
            class_scales=self.class_scales,
            background=self.background,
            workers=workers,
        )
