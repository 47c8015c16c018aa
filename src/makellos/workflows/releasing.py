"""Release: which engine and precision a model is calibrated with, and its golden parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from makellos.calibration import Calibration
from makellos.data.parts import Part, group_names
from makellos.data.pictures import Picture
from makellos.data.progress import Progress
from makellos.data.tiles import cut_tile
from makellos.detectors import Graph
from makellos.errors import ModelFileError
from makellos.inspection.engines import EngineChoice, default_workers
from makellos.inspection.inspector import Scored, Scorer
from makellos.inspection.tiling import STRIDE
from makellos.models import Parity, choose_golden, compare_engines, engines_of, open_scorer
from makellos.models.writing import golden_names

__all__ = ["Method", "Release", "Split", "groups_of", "plain", "release"]

Method = Literal["held out", "cross-fitted", "split val", "new good parts"]
Folds = list[tuple[Graph, list[int]]]
_N_JUDGED = 4  # calibration parts near the threshold that engines must agree about


@dataclass(frozen=True)
class Calibrated:
    """Scores and map maxima of calibration parts, by the engine of a release.

    `peaks` say where each map is highest, as shares of height and width.
    """

    scores: list[float]
    map_maxima: list[float] | None
    peaks: list[tuple[float, float]]


@dataclass(frozen=True)
class Release:
    """The engine that a model is released with, and what was measured with it."""

    choice: EngineChoice
    calibration: Calibration
    map_maxima: list[float] | None
    parity: Parity
    golden: dict[str, Picture]


@dataclass(frozen=True)
class Split:
    """Which good parts are learned from, which calibrate, and how."""

    learn: list[Part]
    calibrate: list[Part]
    method: Method


def release(
    graph: Graph,
    folds: Folds,
    split: Split,
    false_alarms: float,
    progress: Progress,
) -> Release:
    """Take the fastest engine whose verdicts near the threshold all others share."""
    engines = engines_of(graph)
    exact = [engine for engine in engines if engine.precision == "f32"]
    for choice in dict.fromkeys((engines[0], *exact)):
        scored = _calibration_scores(graph, folds, split, choice, progress)
        calibration = Calibration(np.array(scored.scores), false_alarms, groups_of(split.calibrate))
        chosen = choose_golden(scored.scores, calibration.threshold)
        shown = {i: _shown(graph, split.calibrate[i], scored.peaks[i]) for i in chosen}
        judged = _judge(graph, folds, shown, len(split.calibrate), chosen[:_N_JUDGED])
        tolerance = judged.settle(choice, calibration.threshold)
        if tolerance is None:
            continue
        pictures = list(shown.values())
        parity = compare_engines(graph, pictures)
        if not any(parity.flips(choice, calibration.threshold + tolerance).values()):
            settled = replace(calibration, tolerance=tolerance)
            golden = dict(zip(golden_names(pictures), pictures, strict=True))
            return Release(choice, settled, scored.map_maxima, parity, golden)
    raise ModelFileError(
        "The runtimes of this machine disagree about the golden parts even in f32, so the model "
        "was not released. Update openvino and onnxruntime, then fit again."
    )


def _judge(
    graph: Graph, folds: Folds, shown: Mapping[int, Picture], n_parts: int, chosen: Sequence[int]
) -> Parity:
    """Return calibration parts' scores on every engine, each by a graph that has not seen it.

    The final graph of a cross-fit has learned from all of them and finds none near the threshold.
    """
    scores: dict[EngineChoice, list[float]] = {engine: [] for engine in engines_of(graph)}
    for unseeing, inside in folds or [(graph, list(range(n_parts)))]:
        pictures = [shown[i] for i in chosen if i in inside]
        if pictures:
            for engine, found in compare_engines(unseeing, pictures).scores.items():
                scores[engine] += found
    return Parity(scores)


def _shown(graph: Graph, part: Part, peak: tuple[float, float]) -> Picture:
    """Return a part at the graph's size; of one that is cut, a tile around its highest cell."""
    picture = part.read()
    if graph.tiling is None:
        return graph.preprocessing.resize(picture)
    size = graph.tiling.size
    top, left = (
        max(0, min(round(share * side) - size // 2, side - size)) // STRIDE * STRIDE
        for share, side in zip(peak, picture.shape[:2], strict=True)
    )
    return cut_tile(picture, top, left, size)


def _calibration_scores(
    graph: Graph,
    folds: Folds,
    split: Split,
    choice: EngineChoice,
    progress: Progress,
) -> Calibrated:
    if not folds:
        return score_parts(graph, choice, split.calibrate, progress)
    scores = [0.0] * len(split.calibrate)
    maxima: list[float] | None = [0.0] * len(split.calibrate)
    peaks = [(0.5, 0.5)] * len(split.calibrate)
    n_done = 0
    for fold_graph, inside in folds:

        def report(what: str, done: int, _total: int, before: int = n_done) -> None:
            progress(what, before + done, len(scores))

        found = score_parts(fold_graph, choice, [split.calibrate[i] for i in inside], report)
        n_done += len(inside)
        for place, i in enumerate(inside):
            scores[i], peaks[i] = found.scores[place], found.peaks[place]
            if maxima is not None and found.map_maxima is not None:
                maxima[i] = found.map_maxima[place]
        if found.map_maxima is None:
            maxima = None
    return Calibrated(scores, maxima, peaks)


def score_parts(
    graph: Graph, choice: EngineChoice, parts: Sequence[Part], progress: Progress
) -> Calibrated:
    """Return the scores of parts as the inspector computes them, on one engine."""
    workers = default_workers()
    scorer = open_scorer(graph, choice, workers=workers)
    scores: list[float] = []
    maxima: list[float] = []
    peaks: list[tuple[float, float]] = []
    with ThreadPoolExecutor(workers + 1) as pool:
        results: Iterable[Scored]
        if scorer.tiling is not None:
            results = (scorer(part.read()) for part in parts)  # its tiles keep all workers busy
        elif scorer.engine.batch_size > 1:
            results = _in_batches(scorer, parts)
        else:
            results = pool.map(lambda part: scorer(part.read()), parts)
        for scored in results:
            scores.append(scored.score)
            if scored.anomaly_map is not None:
                maxima.append(float(scored.anomaly_map.max()))
            peaks.append(_peak(scored))
            progress("scoring calibration parts", len(scores), len(parts))
    return Calibrated(scores, maxima or None, peaks)


def _peak(scored: Scored) -> tuple[float, float]:
    if scored.anomaly_map is None:
        return 0.5, 0.5
    height, width = scored.anomaly_map.shape
    row, column = divmod(int(scored.anomaly_map.argmax()), width)
    return (row + 0.5) / height, (column + 0.5) / width


def _in_batches(scorer: Scorer, parts: Sequence[Part]) -> Iterator[Scored]:
    size = scorer.engine.batch_size
    for start in range(0, len(parts), size):
        yield from scorer.many([part.read() for part in parts[start : start + size]])


def groups_of(parts: Sequence[Part], *, neutral: bool = False) -> list[str] | None:
    """Return the group of each part, or None without groups; `neutral` gives them numbers."""
    if not any(part.group for part in parts):
        return None
    names = [plain(name) for name in group_names(parts)]
    if not neutral:
        return names
    numbers = {name: str(number) for number, name in enumerate(dict.fromkeys(names))}
    return [numbers[name] for name in names]


def plain(name: str) -> str:
    """Return a file name as valid text, whatever bytes the file system keeps it in."""
    return name.encode("utf-8", "backslashreplace").decode()
