"""What a fit covers of a picture: in tiles or whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from makellos.data.parts import Part, PartSet
from makellos.data.tiles import cut_parts
from makellos.detectors import Detector, Graph
from makellos.errors import ConfigurationError
from makellos.inspection.tiling import STRIDE, Tiling

__all__ = ["Coverage", "Surroundings", "cut_to_learn", "surroundings_of"]


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Say how pictures are covered: in tiles of `tile` pixels, which share `tile_overlap`.

    None for `tile`: pictures are seen whole; None for `tile_overlap`: a quarter of a tile.
    """

    tile: int | None = None
    tile_overlap: int | None = None


@dataclass(frozen=True)
class Surroundings:
    """Hold what shared code does around a detector's graph, for graphs of every fold alike."""

    white_level: int | None = None
    tiling: Tiling | None = None

    def around(self, graph: Graph) -> Graph:
        """Return a graph with all of this around it."""
        changed = graph.preprocessing.model_copy(update={"white_level": self.white_level})
        return replace(graph, preprocessing=changed, tiling=self.tiling)


def surroundings_of(
    coverage: Coverage, white_level: int | None, detector: Detector, parts: PartSet
) -> Surroundings:
    """Return what a coverage puts around the graphs of a fit.

    Raises `ConfigurationError` for what does not go with the detector or the parts.
    """
    if coverage.tile is None:
        if coverage.tile_overlap is not None:
            raise ConfigurationError(
                f"--tile-overlap is {coverage.tile_overlap}, but pictures are not cut. Add --tile."
            )
        return Surroundings(white_level)
    if parts.kind != "pictures":
        raise ConfigurationError(
            f"{parts.root} holds recordings; --tile cuts pictures. Leave it out."
        )
    if detector.needs_labels:
        raise ConfigurationError(
            f"{detector.name} learns the labels of whole pictures, and a tile of a defective part "
            "may be good. Leave --tile out, or take a detector that learns from good parts alone."
        )
    return Surroundings(white_level, Tiling.of(coverage.tile, coverage.tile_overlap))


def cut_to_learn(parts: Sequence[Part], tiling: Tiling | None) -> tuple[list[Part], list[int]]:
    """Return what a detector learns from, parts or their tiles, and the number of each's part."""
    if tiling is None:
        return list(parts), list(range(len(parts)))
    return cut_parts(parts, size=tiling.size, overlap=tiling.overlap, unit=STRIDE)
