"""The contract suite: a good detector keeps every check, a broken one breaks the right one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar
from unittest import SkipTest

import numpy as np
import onnx
import pytest
from mean_picture import MeanPicture

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.detectors import Detector, Graph, Parameter
from makellos.detectors.graphs import GraphBuilder
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.preprocessing import Preprocessing
from makellos.testing import CONTRACT_CHECKS, Workbench, check_detector
from makellos.testing.specimens import SIDE

CHECKS = {check.__name__: check for check in CONTRACT_CHECKS}


def test_good_detector_keeps_every_check(tmp_path: Path) -> None:
    results = check_detector(MeanPicture, tmp_path)
    assert results == dict.fromkeys(CHECKS, "kept")


def test_parameters_reach_the_detector(tmp_path: Path) -> None:
    bench = Workbench(MeanPicture, tmp_path, parameters={"image_size": 64, "floor": 0.5})
    assert bench.graph.preprocessing.shape == (3, 64, 64)
    assert bench.fitted.get_parameters()["floor"] == 0.5


# What does not apply is skipped, with the reason


class ScoreOnly(MeanPicture):
    """Gives the largest value of the map as its score, and no map."""

    def _build_graph(self) -> Graph:
        graph = super()._build_graph()
        builder = GraphBuilder(graph.onnx)
        attributes = {"axes": [1, 2], "keepdims": 0}
        peak = builder.add("ReduceMax", "anomaly_map", attributes=attributes)
        builder.model.graph.node.append(onnx.helper.make_node("Identity", [peak], ["score"]))
        return Graph(builder.with_outputs({"score": ["n"]}), graph.preprocessing, graph.aggregation)


def test_checks_of_the_map_do_not_apply_to_scores(tmp_path: Path) -> None:
    results = check_detector(ScoreOnly, tmp_path)
    left_out = {name for name, result in results.items() if result != "kept"}
    assert left_out == {"defects_are_found_where_they_are"}
    assert results["defects_are_found_where_they_are"].endswith("gives a score but no map")


class Labelled(MeanPicture):
    """Learns from the good ones among labelled parts."""

    learns = "labels"
    labels: ClassVar[set[str]] = set()

    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        self.labels.update(part.label for part in parts)
        super()._learn([part for part in parts if part.is_good], progress)


def test_a_detector_that_needs_labels_gets_them(tmp_path: Path) -> None:
    results = check_detector(Labelled, tmp_path)
    left_out = {name for name, result in results.items() if result != "kept"}
    assert left_out == {"cross_fit_leaves_folds_out"}
    assert {"good", "defective"} < Labelled.labels


def test_pytest_reports_what_does_not_apply_as_skipped(tmp_path: Path) -> None:
    with pytest.raises(SkipTest, match="ScoreOnly gives a score but no map"):
        CHECKS["defects_are_found_where_they_are"](Workbench(ScoreOnly, tmp_path))


# Broken detectors. Each breaks the check it stands beside.


class KeepsACache(MeanPicture):
    def __init__(
        self, *, image_size: int = 128, floor: float = 0.01, center: str = "mean", blur: bool = True
    ) -> None:
        super().__init__(image_size=image_size, floor=floor, center=center, blur=blur)
        self.cache: dict[str, int] = {}


class Converts(MeanPicture):
    def __init__(
        self, *, image_size: int = 128, floor: float = 0.01, center: str = "mean", blur: bool = True
    ) -> None:
        super().__init__(image_size=image_size, floor=floor, center=f"{center}", blur=blur)


class TakesPositions(MeanPicture):
    def __init__(
        self, image_size: int = 128, floor: float = 0.01, center: str = "mean", blur: bool = True
    ) -> None:
        super().__init__(image_size=image_size, floor=floor, center=center, blur=blur)


class DeclaresAnotherDefault(MeanPicture):
    parameters: ClassVar[dict[str, Parameter]] = {
        **MeanPicture.parameters,
        "floor": Parameter(default=0.02, meaning="Added to each deviation."),
    }


class RefusesItsDefault(MeanPicture):
    parameters: ClassVar[dict[str, Parameter]] = {
        **MeanPicture.parameters,
        "floor": Parameter(default=0.01, low=0.1, meaning="Added to each deviation."),
    }


class HasAWrongPreset(MeanPicture):
    presets: ClassVar[dict[str, dict[str, Any]]] = {"fast": {"image_size": 1}}


class HasAnUnknownPreset(MeanPicture):
    presets: ClassVar[dict[str, dict[str, Any]]] = {"fast": {"side": 64}}


class FitsAnything(MeanPicture):
    def _begin(self, parts: Sequence[Part]) -> None:
        self._forget()


class GraphsBeforeFit(MeanPicture):
    def graph(self) -> Graph:
        return self._build_graph()


class ReturnsNothing(MeanPicture):
    def fit(self, parts: Sequence[Part], *, progress: Progress | None = None) -> None:  # type: ignore[override]
        super().fit(parts, progress=progress)


class LearnsWithoutMark(MeanPicture):
    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        super()._learn(parts, progress)
        self.learned = True


class ChangesItsParameters(MeanPicture):
    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        super()._learn(parts, progress)
        self.floor = 0.5


class SaysNothing(MeanPicture):
    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        super()._learn(parts, lambda what, done, total: None)


class OverstatesProgress(MeanPicture):
    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        super()._learn(parts, lambda what, done, total: progress(what, done + 1, total))


class KeepsHalfAFit(MeanPicture):
    def fit(self, parts: Sequence[Part], *, progress: Progress | None = None) -> KeepsHalfAFit:
        self._begin(parts)
        self._learn(parts, progress or (lambda what, done, total: None))
        return self


class DrawsAtRandom(MeanPicture):
    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        super()._learn(parts, progress)
        self.mean_ = self.mean_ + np.random.default_rng().normal(0, 1e-6, self.mean_.shape)


class Remembers(MeanPicture):
    def _forget(self) -> None:
        self.earlier_ = getattr(self, "mean_", 0.0)

    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        super()._learn(parts, progress)
        self.mean_ = self.mean_ + 1e-3 * self.earlier_


class LeaksFolds(MeanPicture):
    def cross_fit(
        self, parts: Sequence[Part], folds: Sequence[int], *, progress: Progress | None = None
    ) -> list[Graph]:
        graph = self.fit(parts, progress=progress).graph()
        return [graph for _ in set(folds)]


class SwapsFolds(MeanPicture):
    def cross_fit(
        self, parts: Sequence[Part], folds: Sequence[int], *, progress: Progress | None = None
    ) -> list[Graph]:
        return super().cross_fit(parts, folds, progress=progress)[::-1]


class NamesItsInputX(MeanPicture):
    def _build_graph(self) -> Graph:
        return self.graph_of(lambda builder, anomaly_map: anomaly_map, name="x")


class PromisesAGenerator(MeanPicture):
    gives = ("generator",)


class TakesOnePictureAtATime(MeanPicture):
    def _build_graph(self) -> Graph:
        graph = super()._build_graph()
        model = onnx.load_from_string(graph.onnx)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        return Graph(model.SerializeToString(), graph.preprocessing, graph.aggregation)


class Antialiases(MeanPicture):
    def _build_graph(self) -> Graph:
        def change(builder: GraphBuilder, anomaly_map: str) -> str:
            scales = builder.constant(np.array([1, 1, 1, 1], np.float32))
            return builder.add("Resize", anomaly_map, "", scales, attributes={"mode": "linear"})

        graph = self.graph_of(change)
        model = onnx.load_from_string(graph.onnx)
        resizing = next(node for node in model.graph.node if node.op_type == "Resize")
        resizing.attribute.append(onnx.helper.make_attribute("antialias", 1))
        return Graph(model.SerializeToString(), graph.preprocessing, graph.aggregation)


class EnlargesItsMap(MeanPicture):
    def _build_graph(self) -> Graph:
        graph = super()._build_graph()
        builder, side = GraphBuilder(graph.onnx), self.image_size // 4
        builder.model.graph.node[-1].output[0] = "small"
        large = builder.repeat(
            builder.add("Reshape", "small", builder.shape(0, 1, side, side)), (side, side), 8
        )
        done = builder.finish(large, 8 * side, 8 * side)
        return Graph(done, graph.preprocessing, graph.aggregation)


class FailsOnBlack(MeanPicture):
    def _build_graph(self) -> Graph:
        def change(builder: GraphBuilder, anomaly_map: str) -> str:
            attributes = {"axes": [1, 2, 3], "keepdims": 1}
            light = builder.add("ReduceMean", "picture", attributes=attributes)
            return builder.add("Div", builder.add("Mul", anomaly_map, light), light)

        return self.graph_of(change)


class SaysOne(MeanPicture):
    def _build_graph(self) -> Graph:
        one = np.array(1, np.float32)
        return self.graph_of(lambda b, m: b.add("Add", b.add("Sub", m, m), b.constant(one)))


class LooksAtTheBatch(MeanPicture):
    def _build_graph(self) -> Graph:
        def change(builder: GraphBuilder, anomaly_map: str) -> str:
            attributes = {"axes": [0, 1, 2, 3], "keepdims": 1}
            every = builder.add("ReduceMean", anomaly_map, attributes=attributes)
            return builder.add("Sub", anomaly_map, every)

        return self.graph_of(change)


class DependsOnTheEngine(MeanPicture):
    def _build_graph(self) -> Graph:
        def change(builder: GraphBuilder, anomaly_map: str) -> str:
            attributes: dict[str, float] = {"scale": 2.0, "seed": 1.0}
            noise = builder.add("RandomNormalLike", anomaly_map, attributes=attributes)
            return builder.add("Add", anomaly_map, noise)

        return self.graph_of(change)


class Inverted(Preprocessing):
    """Is no more than a plain pre-processing once it was written and read."""

    def __call__(self, picture: np.ndarray) -> np.ndarray:  # type: ignore[override, type-arg]
        return np.float32(1) - super().__call__(picture)


class HidesPreprocessing(MeanPicture):
    def _build_graph(self) -> Graph:
        graph = super()._build_graph()
        inverted = Inverted(height=SIDE, width=SIDE)
        return Graph(graph.onnx, inverted, graph.aggregation)


class CountsDown(MeanPicture):
    def _build_graph(self) -> Graph:
        return self.graph_of(lambda builder, anomaly_map: builder.add("Neg", anomaly_map))


class TakesTheLowest(MeanPicture):
    def _build_graph(self) -> Graph:
        graph = super()._build_graph()
        lowest = Aggregation(name="quantile", parameter=0.01)
        return Graph(graph.onnx, graph.preprocessing, lowest)


class SwapsRowsAndColumns(MeanPicture):
    def _build_graph(self) -> Graph:
        turn = {"perm": [0, 1, 3, 2]}
        return self.graph_of(lambda b, m: b.add("Transpose", m, attributes=turn))


BROKEN: list[tuple[str, type[Detector]]] = [
    ("constructor_only_stores", KeepsACache),
    ("constructor_only_stores", Converts),
    ("constructor_only_stores", TakesPositions),
    ("parameters_are_declared", DeclaresAnotherDefault),
    ("parameters_are_declared", RefusesItsDefault),
    ("parameters_are_declared", HasAWrongPreset),
    ("parameters_are_declared", HasAnUnknownPreset),
    ("ranges_are_enforced", FitsAnything),
    ("too_few_parts_are_refused", FitsAnything),
    ("unfitted_graph_is_refused", GraphsBeforeFit),
    ("fit_returns_self", ReturnsNothing),
    ("fit_returns_self", LearnsWithoutMark),
    ("fit_returns_self", ChangesItsParameters),
    ("progress_is_reported", SaysNothing),
    ("progress_is_reported", OverstatesProgress),
    ("failed_fit_leaves_nothing", KeepsHalfAFit),
    ("fit_is_deterministic", DrawsAtRandom),
    ("refit_forgets", Remembers),
    ("cross_fit_leaves_folds_out", LeaksFolds),
    ("cross_fit_leaves_folds_out", SwapsFolds),
    ("graph_has_the_declared_form", NamesItsInputX),
    ("graph_has_the_declared_form", PromisesAGenerator),
    ("graph_has_the_declared_form", TakesOnePictureAtATime),
    ("graph_has_the_declared_form", Antialiases),
    ("map_has_size_and_type", EnlargesItsMap),
    ("outputs_are_finite", FailsOnBlack),
    ("scores_are_diverse", SaysOne),
    ("batch_size_makes_no_difference", LooksAtTheBatch),
    ("engines_agree", DependsOnTheEngine),
    ("model_file_keeps_scores", HidesPreprocessing),
    ("defects_score_above_good", CountsDown),
    ("defects_score_above_good", TakesTheLowest),
    ("defects_are_found_where_they_are", SwapsRowsAndColumns),
]


@pytest.mark.parametrize(
    ("name", "broken"), BROKEN, ids=lambda value: getattr(value, "__name__", value)
)
def test_broken_detector_is_found(name: str, broken: type[Detector], tmp_path: Path) -> None:
    check: Callable[[Workbench], None] = CHECKS[name]
    with pytest.raises(AssertionError):
        check(Workbench(broken, tmp_path))


def test_every_check_is_broken_by_some_detector() -> None:
    assert {name for name, _ in BROKEN} == set(CHECKS)


def test_all_that_is_broken_is_listed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as caught:
        check_detector(FitsAnything, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"FitsAnything breaks 2 of {len(CHECKS)} checks")
    assert "ranges_are_enforced: " in message
    assert "too_few_parts_are_refused: " in message
