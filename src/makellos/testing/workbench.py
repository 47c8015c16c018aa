"""Parts, fits and scores that the contract checks share, so that each is computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from unittest import SkipTest

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import GOOD, Part
from makellos.data.pictures import Picture
from makellos.detectors import Detector, Graph
from makellos.inspection.engines import EngineChoice
from makellos.inspection.inspector import Scorer
from makellos.testing.feature_specimens import (
    extreme_features,
    feature_parts,
    good_features,
    other_features,
    planted_features,
)
from makellos.testing.specimens import (
    SIDE,
    Planted,
    extreme_pictures,
    good_pictures,
    other_pictures,
    planted,
    write_parts,
)

__all__ = ["Workbench"]

_N_LEARN, _N_OTHER, _N_TEST = 16, 8, 8


class Workbench:
    """Hold a detector class under test, small parts to try it on, and a fit of it.

    `folder` receives pictures and model files and is best a temporary one. `parameters` are those
    to construct the detector with: give what makes it small and fast. Where the detector has an
    `image_size`, it is 128 unless given. Scores are computed in f32. To a detector that takes
    features, a picture is a vector (12,) float32 here.
    """

    def __init__(
        self,
        detector: type[Detector],
        folder: Path,
        *,
        parameters: Mapping[str, int | float | str | bool] | None = None,
        seed: int = 0,
    ) -> None:
        self.detector = detector
        self.folder = folder
        self.seed = seed
        self.parameters = dict(parameters or {})
        if "image_size" in detector.parameters:
            self.parameters.setdefault("image_size", SIDE)
        self._scorers: dict[object, tuple[Graph, Scorer]] = {}

    def make(self) -> Detector:
        """Return an unfitted detector with the parameters of this bench."""
        return self.detector(**self.parameters)

    @cached_property
    def parts(self) -> list[Part]:
        """Return the parts to learn from; with defective ones where the detector needs labels."""
        good = self._parts("good", self._good(_N_LEARN, self.seed))
        return [*good, *self._labelled("defective")]

    @cached_property
    def other_parts(self) -> list[Part]:
        """Return parts of another kind to learn from."""
        make = other_features if self._takes_features else other_pictures
        other = self._parts("other", make(_N_OTHER, self.seed))
        return [*other, *self._labelled("scratch")]

    @cached_property
    def good(self) -> list[Picture]:
        """Return pictures of good parts that were not learned from."""
        return self._good(_N_TEST, self.seed + 1)

    @cached_property
    def defective(self) -> list[Planted]:
        """Return pictures with a planted defect that were not learned from."""
        return self._planted(self.seed + 2)

    @cached_property
    def extremes(self) -> list[Picture]:
        """Return pictures that are no parts: black, white and noise."""
        make = extreme_features if self._takes_features else extreme_pictures
        return make(self.seed)

    @cached_property
    def odd_part(self) -> Part:
        """Return a part that is labelled good and has a defect."""
        return self._parts("odd", [self._planted(self.seed + 3)[0].picture])[0]

    @property
    def fitted(self) -> Detector:
        """Return the detector, fitted on `parts`; checks must not fit it again."""
        return self._fit[0]

    @property
    def returned(self) -> object:
        """Return what the fit of `fitted` returned."""
        return self._fit[1]

    @property
    def progress(self) -> list[tuple[str, int, int]]:
        """Return what the fit of `fitted` reported about its progress."""
        return self._fit[2]

    @cached_property
    def graph(self) -> Graph:
        """Return the graph of the fitted detector."""
        return self.fitted.graph()

    @cached_property
    def good_scores(self) -> list[float]:
        """Return the scores of `good`."""
        return self.scores(self.graph, self.good)

    @cached_property
    def defective_scores(self) -> list[float]:
        """Return the scores of `defective`."""
        return self.scores(self.graph, [part.picture for part in self.defective])

    @cached_property
    def engines(self) -> list[EngineChoice]:
        """Return the engines of this machine that score in f32, the fastest first."""
        return [choice for choice in self.detector.engines() if choice.precision == "f32"]

    def scorer(self, graph: Graph, engine: EngineChoice | None = None) -> Scorer:
        """Return what scores pictures with a graph, as an inspector does."""
        # Compiling takes longer than all that is computed; the same bytes are compiled once.
        choice = engine or self.engines[0]
        key = (graph.onnx, graph.external and id(graph.external), choice)
        if key not in self._scorers:
            # The graph is kept with it, for another object could get its number.
            self._scorers[key] = graph, graph.recipe().open(choice)
        return self._scorers[key][1]

    def scores(
        self, graph: Graph, pictures: Sequence[Picture], engine: EngineChoice | None = None
    ) -> list[float]:
        """Return the score of each picture."""
        scorer = self.scorer(graph, engine)
        return [scorer(picture)[0] for picture in pictures]

    def maps(self, graph: Graph, pictures: Sequence[Picture]) -> list[NDArray[np.float32]]:
        """Return the anomaly map h×w of each picture; skips the check where there is none."""
        scorer, maps = self.scorer(graph), []
        for picture in pictures:
            anomaly_map = scorer(picture)[1]
            if anomaly_map is None:
                raise SkipTest(f"{self.detector.__name__} gives a score but no map")
            maps.append(anomaly_map)
        return maps

    def outputs(self, graph: Graph) -> dict[str, NDArray[np.float32]]:
        """Return all outputs of a graph for some good and defective pictures, by name."""
        return self.scorer(graph).engine.run(self.batch(graph))

    def batch(self, graph: Graph) -> NDArray[np.float32]:
        """Return some good and defective pictures as a batch for a graph."""
        pictures = [*self.good[:2], *(part.picture for part in self.defective[:2])]
        return np.concatenate([graph.preprocessing(picture) for picture in pictures])

    def picture(self, part: Part) -> Picture:
        """Return the picture of a part."""
        return part.read()

    @cached_property
    def _fit(self) -> tuple[Detector, object, list[tuple[str, int, int]]]:
        reported: list[tuple[str, int, int]] = []
        detector = self.make()
        returned = detector.fit(self.parts, progress=lambda *report: reported.append(report))
        return detector, returned, reported

    def _labelled(self, label: str) -> list[Part]:
        if self.detector.learns != "labels":
            return []
        seeds = range(self.seed + 4, self.seed + 8)
        pictures = [part.picture for seed in seeds for part in self._planted(seed)]
        return self._parts(label, pictures, label)

    @property
    def _takes_features(self) -> bool:
        return self.detector.takes == "features"

    def _good(self, n_parts: int, seed: int) -> list[Picture]:
        return (good_features if self._takes_features else good_pictures)(n_parts, seed)

    def _planted(self, seed: int) -> list[Planted]:
        return (planted_features if self._takes_features else planted)(seed)

    def _parts(self, name: str, pictures: list[Picture], label: str = GOOD) -> list[Part]:
        write = feature_parts if self._takes_features else write_parts
        return write(self.folder / name, pictures, label)
