"""Checks of what a fitted detector's graph gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from unittest import SkipTest

import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import Picture
from makellos.inspection import Inspector
from makellos.inspection.manifest import (
    CalibrationRecord,
    DetectorRecord,
    EngineRecord,
    Manifest,
    TrainingRecord,
)
from makellos.inspection.regions import resize_map
from makellos.inspection.runtimes import import_onnxruntime
from makellos.models import pack_members, write_model
from makellos.testing.fit_checks import expect
from makellos.testing.specimens import SIDE, SQUARE
from makellos.testing.workbench import Workbench

__all__: list[str] = []

# Shares of what lies between the lowest and the highest value of good and defective parts.
BATCH_TOLERANCE = 1e-3
SEARCH_TOLERANCE = 2e-2
ENGINE_TOLERANCE = 1e-2


def graph_has_the_declared_form(bench: Workbench) -> None:
    """Check the graph's input and outputs, and that it resizes without antialiasing."""
    import onnx

    held = {"generator": bench.graph.generator is not None, "classes": bool(bench.graph.classes)}
    for what, has in held.items():
        said = what in bench.detector.gives
        expect(
            said == has, f"`gives` {'names' if said else 'leaves out'} {what}; the graph differs"
        )
    if bench.graph.external is not None:
        _expect_external_scoring(bench)
        return
    graph = onnx.load_from_string(bench.graph.onnx).graph
    names = [node.name for node in graph.input]
    expect(names == [_input(bench)], f"the graph's inputs are {names}, not {[_input(bench)]}")
    sizes = [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    wanted = [0, *bench.graph.preprocessing.shape]
    fits = len(sizes) == len(wanted) and all(
        a in (0, b) for a, b in zip(sizes, wanted, strict=True)
    )
    expect(fits, f"the input's sizes are {sizes}, not {wanted} (0 stands for any)")
    outputs = {node.name for node in graph.output}
    said, has = "reconstruction" in bench.detector.gives, "reconstruction" in outputs
    expect(said == has, f"`gives` {'names' if said else 'leaves out'} reconstruction; not so")
    expect(
        bool(outputs & {"anomaly_map", "score"}),
        f"the graph's outputs are {sorted(outputs)}; one is 'anomaly_map', or 'score' without map",
    )
    smooth = [
        node.name
        for node in graph.node
        if any(field.name == "antialias" and field.i for field in node.attribute)
    ]
    expect(not smooth, f"{smooth} resize with antialiasing, about which engines disagree")


def _expect_external_scoring(bench: Workbench) -> None:
    scoring = bench.graph.external
    expect(
        bench.detector.runtime != "graph",
        "the graph scores without ONNX, but the detector's runtime is 'graph'",
    )
    expect(bench.graph.onnx == b"", "the graph scores without ONNX and holds such a graph as well")
    weights = {} if scoring is None else dict(scoring.weights)
    expect(bool(weights), "there are no weights to score with")
    odd = [name for name, values in weights.items() if values.dtype != np.float32]
    expect(not odd, f"the weights {odd} are not float32")


def map_has_size_and_type(bench: Workbench) -> None:
    """Check that the map is N×h×w float32, no larger than the picture, or that each has a score."""
    outputs = _together(bench)
    batch = bench.batch(bench.graph)
    if "anomaly_map" not in outputs:
        score = outputs["score"]
        expect(score.size == len(batch), f"score has shape {score.shape} for {len(batch)} pictures")
        expect(score.dtype == np.float32, f"score is {score.dtype}, not float32")
        return
    maps = outputs["anomaly_map"]
    n, *picture = len(batch), *batch.shape[2:]
    expect(
        maps.ndim == 3 and len(maps) == n,
        f"anomaly_map has shape {maps.shape} for {n} pictures; it is N×h×w",
    )
    expect(maps.dtype == np.float32, f"anomaly_map is {maps.dtype}, not float32")
    fits = all(1 < ours <= full for ours, full in zip(maps.shape[1:], picture, strict=True))
    expect(fits, f"anomaly_map is {maps.shape[1:]} for pictures of {tuple(picture)}")


def outputs_are_finite(bench: Workbench) -> None:
    """Check that every output is finite: on parts, on black, on white and on noise."""
    pictures = [*bench.good, *(part.picture for part in bench.defective), *bench.extremes]
    scorer = bench.scorer(bench.graph)
    for picture in pictures:
        outputs = scorer.engine.run(scorer.preprocessing(picture))
        for name, values in outputs.items():
            expect(bool(np.isfinite(values).all()), f"{name} is not finite on a picture")


def scores_are_diverse(bench: Workbench) -> None:
    """Check that different parts get different scores, and that no map is the same everywhere.

    Of a detector that needs labels the maps of defective parts are looked at: on good ones nothing
    need speak for damage.
    """
    scores = [*bench.good_scores, *bench.defective_scores]
    n_distinct = len(set(scores))
    expect(n_distinct == len(scores), f"{len(scores)} parts get {n_distinct} different scores")
    if "anomaly_map" in bench.outputs(bench.graph):
        kind, pictures = "good", bench.good
        if bench.detector.learns == "labels":
            kind, pictures = "defective", [part.picture for part in bench.defective]
        flat = [bool(np.ptp(each) == 0) for each in bench.maps(bench.graph, pictures)]
        expect(not any(flat), f"{sum(flat)} of {len(flat)} {kind} parts get a map of one value")


def batch_size_makes_no_difference(bench: Workbench) -> None:
    """Check that pictures at once and one by one give the same, to a thousandth of the range.

    Of a search with torch to a fiftieth: its steps build on each other, and rounding with them.
    """
    together, batch = _together(bench), bench.batch(bench.graph)
    run = _runner(bench)
    share = SEARCH_TOLERANCE if bench.detector.runtime == "torch" else BATCH_TOLERANCE
    for i in range(len(batch)):
        alone = run(batch[i : i + 1])
        for name, values in together.items():
            allowed = share * max(float(np.ptp(values)), 1e-12)
            difference = float(np.abs(alone[name][0] - values[i]).max())
            expect(
                difference <= allowed,
                f"{name} of a picture changes by {difference:.3g} when {len(batch)} pictures are "
                f"computed at once; {allowed:.3g} is allowed",
            )


def engines_agree(bench: Workbench) -> None:
    """Check that the scores of all f32 engines agree, to a hundredth of the range of scores."""
    reference = np.array([*bench.good_scores, *bench.defective_scores])
    allowed = ENGINE_TOLERANCE * max(float(np.ptp(reference)), 1e-12)
    pictures = [*bench.good, *(part.picture for part in bench.defective)]
    for engine in bench.engines[1:]:
        scores = np.array(bench.scores(bench.graph, pictures, engine))
        difference = float(np.abs(scores - reference).max())
        expect(
            difference <= allowed,
            f"{engine} and {bench.engines[0]} differ by {difference:.3g}; {allowed:.3g} is allowed",
        )


def model_file_keeps_scores(bench: Workbench) -> None:
    """Check that an inspector of the model's file gives the scores and maps of the graph."""
    path = bench.folder / "model.makellos"
    graph = bench.graph
    write_model(path, _manifest(bench), pack_members(graph))
    inspector = Inspector(path, engine=bench.engines[0])
    scorer = bench.scorer(graph)
    for picture in [*bench.good[:2], *(part.picture for part in bench.defective[:2])]:
        found = _inspected(bench, inspector, picture)
        score, anomaly_map = scorer(picture)[:2]
        expect(
            found[0] is not None and math.isclose(found[0], score, rel_tol=1e-6),
            f"the model file scores {found[0]}, the graph {score}",
        )
        if anomaly_map is not None:
            same = found[1] is not None and np.allclose(
                found[1], anomaly_map, rtol=1e-5, atol=1e-5 * float(np.ptp(anomaly_map))
            )
            expect(same, "the model file gives another map than the graph")


def _inspected(
    bench: Workbench, inspector: Inspector, picture: Picture
) -> tuple[float | None, NDArray[np.float32] | None]:
    """Return score and map; features are no part by themselves, so those are only scored."""
    if bench.detector.takes == "features":
        return inspector.scorer(picture)[:2]
    found = inspector.inspect(picture)
    return found.score, found.anomaly_map


def defects_score_above_good(bench: Workbench) -> None:
    """Check that higher is more anomalous: planted defects score above every good part."""
    highest, lowest = max(bench.good_scores), min(bench.defective_scores)
    expect(
        lowest > highest,
        f"a part with a planted defect scores {lowest:.6g}, a good part {highest:.6g}",
    )


def defects_are_found_where_they_are(bench: Workbench) -> None:
    """Check that the map peaks in the planted square, grown by one and a half cells of the map."""
    maps = bench.maps(bench.graph, [part.picture for part in bench.defective])
    for part, anomaly_map in zip(bench.defective, maps, strict=True):
        full = resize_map(anomaly_map, SIDE, SIDE)
        row, column = (int(value) for value in np.unravel_index(np.argmax(full), full.shape))
        margin = 1.5 * SIDE / min(anomaly_map.shape)
        inside = all(
            start - margin <= value < start + SQUARE + margin
            for value, start in ((row, part.top), (column, part.left))
        )
        expect(
            inside,
            f"the peak lies at row {row}, column {column}; the planted square of {SQUARE} begins "
            f"at row {part.top}, column {part.left}, and {margin:.0f} pixels around it count",
        )


def _together(bench: Workbench) -> Mapping[str, NDArray[np.float32]]:
    return _runner(bench)(bench.batch(bench.graph))


def _runner(bench: Workbench) -> Callable[[NDArray[np.float32]], Mapping[str, NDArray[np.float32]]]:
    """Return what computes a batch at once."""
    if bench.graph.external is not None:
        return bench.scorer(bench.graph).engine.run
    try:
        onnxruntime = import_onnxruntime()
    except ImportError as error:
        raise SkipTest("onnxruntime, which computes batches, is not installed") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        bench.graph.onnx, options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return lambda batch: dict(zip(names, session.run(names, {_input(bench): batch}), strict=True))


def _input(bench: Workbench) -> str:
    return "features" if bench.detector.takes == "features" else "picture"


def _manifest(bench: Workbench) -> Manifest:
    engine = bench.engines[0]
    return Manifest(
        created="2000-01-01T00:00:00+00:00",
        detector=DetectorRecord(
            name=bench.fitted.name,
            parameters=bench.fitted.get_parameters(),
            runtime=bench.fitted.runtime,
        ),
        preprocessing=bench.graph.preprocessing,
        aggregation=bench.graph.aggregation,
        engine=EngineRecord(runtime=engine.runtime, precision=engine.precision),
        calibration=CalibrationRecord(scores=bench.good_scores, asked=0.2, method="held out"),
        training=TrainingRecord(
            data="specimens",
            layout="flat folder",
            n_good=len(bench.parts),
            n_learned=len(bench.parts),
            fingerprint="",
            seed=bench.seed,
            fit_seconds=0.0,
        ),
        golden=[],
        classes=list(bench.graph.classes),
        versions={},
        members={},
    )
