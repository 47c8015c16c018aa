"""From a model file to the recipe that scores parts with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from makellos.inspection.external_runtime import ExternalScoring
from makellos.inspection.manifest import Manifest
from makellos.inspection.model_file import GRAPH, TORCH_PREFIX, WEIGHTS, ModelFile
from makellos.inspection.recipe import Recipe

__all__ = ["recipe_of"]


@contextmanager
def recipe_of(model: ModelFile) -> Iterator[Recipe]:
    """Give the recipe of a model, whose graph lies in a folder that is gone afterwards.

    Raises as `ModelFile.unpacked` and `ModelFile.zones` do.
    """
    manifest, record = model.manifest, model.manifest.calibration
    with model.unpacked() as folder:
        yield Recipe(
            _graph(model, folder),
            manifest.preprocessing,
            manifest.aggregation,
            manifest.tiling,
            model.zones(),
            exact=manifest.is_exact(),
            background=manifest.background,
            class_scales=record.score_scales() if record.by_class else (),
            identity=" ".join(manifest.members[each].sha256 for each in _identity(manifest)),
        )


def _identity(manifest: Manifest) -> list[str]:
    """Return the members that decide what is computed."""
    return [member for member in (GRAPH, WEIGHTS) if member in manifest.members]


def _graph(model: ModelFile, folder: Path) -> Path | ExternalScoring:
    detector = model.manifest.detector
    if detector.runtime == "graph":
        return folder / GRAPH
    return ExternalScoring(detector.name, detector.parameters, model.arrays(folder, TORCH_PREFIX))
